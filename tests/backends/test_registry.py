"""The registry, function by function, with entry points that no distribution has (real ones: test_registry_abuse)."""

from importlib import metadata
from types import SimpleNamespace

import pytest

import covertreex as cx
from covertreex.backends import registry
from covertreex.base import offers
from covertreex.base.contract import CONTRACT
from covertreex.protocols import MECHANISMS, PROTOCOL_VERSION, Capabilities

MAJOR, MINOR = PROTOCOL_VERSION
OURS = f"{MAJOR}.{MINOR}"


class Good:
    """A backend that the registry can find no fault with."""

    protocol_version = PROTOCOL_VERSION
    capabilities = Capabilities(frozenset({"tile"}), "good for nothing")

    def __init__(self, name):
        self.name = name

    def search(self, *arguments): ...

    def scan(self, *arguments): ...


def entry(name, backend=None, distribution="good-dist", version="1.2"):
    """An entry point that loads `backend`, or raises it if it is an exception."""

    def load():
        if isinstance(backend, Exception):
            raise backend
        return Good(name) if backend is None else backend

    dist = SimpleNamespace(name=distribution, version=version) if distribution else None
    return SimpleNamespace(name=name, value=f"{distribution}.module:{name}", dist=dist, load=load)


def changed(name="mine", **attributes):
    """A good backend but for `attributes`; those that are None are missing."""
    present = (
        {key: value for key, value in vars(Good).items() if not key.startswith("__")} | {"name": name} | attributes
    )
    return SimpleNamespace(**{key: value for key, value in present.items() if value is not None})


@pytest.fixture
def offer(monkeypatch):
    """Call it with entry points: from then on they are all that is installed."""

    def replace(*entries):
        def entry_points(group):
            assert group == "covertreex.backends"
            return entries

        monkeypatch.setattr(
            offers, "metadata", SimpleNamespace(entry_points=entry_points, EntryPoint=metadata.EntryPoint)
        )
        monkeypatch.setattr(offers, "SHIPPED", {})
        registry.refresh()

    yield replace
    monkeypatch.undo()
    registry.refresh()


def only_info():
    (info,) = cx.list_backends(load=True)
    return info


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def test_offers_are_sorted_and_without_repetitions(offer):
    """An editable installation may list the same entry point twice."""
    offer(entry("b"), entry("a"), entry("b"))
    assert [found.name for found in offers.backends()] == ["a", "b"]


def test_an_offer_is_not_loaded(offer):
    offer(entry("a", AssertionError("must not be seen")))
    (found,) = offers.backends()
    assert (found.name, found.distribution, found.version) == ("a", "good-dist", "1.2")


def test_an_offer_without_a_distribution(offer):
    offer(entry("a", distribution=None))
    (found,) = offers.backends()
    assert (found.distribution, found.version) == ("unknown", "")


def test_listing_loads_nothing(offer):
    loads = []
    for name in ("a", "b"):
        offered = entry(name)
        offered.load = lambda name=name: loads.append(name) or Good(name)
        offer(*([offered] if name == "a" else [entry("a"), offered]))
    assert [(info.name, info.status, info.capabilities) for info in cx.list_backends()] == [
        ("a", "found", None),
        ("b", "found", None),
    ]
    assert loads == []
    cx.get_backend("b")
    assert loads == ["b"]
    assert [info.status for info in cx.list_backends()] == ["found", "ok"]
    assert [info.status for info in cx.list_backends(load=True)] == ["ok", "ok"]


def test_ours_are_found_by_their_modules(offer, monkeypatch):
    shipped = offers.SHIPPED
    offer(entry("mine"))
    monkeypatch.setattr(offers, "SHIPPED", {**shipped, "rust": "covertreex_no_such_module:backend"})
    registry.refresh()
    assert [info.name for info in cx.list_backends()] == ["cython", "mine", "numba"]
    assert cx.get_backend("cython").name == "cython"
    ours = next(info for info in cx.list_backends() if info.name == "cython")
    assert (ours.distribution, ours.version, ours.status) == ("vecchia-neighbors", cx.__version__, "ok")


def test_a_name_of_ours_is_ours(offer, monkeypatch):
    shipped = offers.SHIPPED
    offer(entry("cython", AssertionError("must not be loaded"), distribution="usurper"))
    monkeypatch.setattr(offers, "SHIPPED", shipped)
    registry.refresh()
    found = {info.distribution: info for info in cx.list_backends(load=True) if info.name == "cython"}
    assert found["vecchia-neighbors"].status == "ok"
    assert found["usurper"].status == "broken"
    assert found["usurper"].reason == "the name 'cython' is that of a backend of covertreex; uninstall usurper"
    assert type(cx.get_backend("cython")).__module__ == "covertreex_cython"


def test_nothing_installed(offer):
    offer()
    assert cx.list_backends() == []
    with pytest.raises(cx.BackendError, match="unknown backend 'numba'; installed: none"):
        cx.get_backend("numba")
    with pytest.raises(cx.BackendError, match="no backend can carry out these settings"):
        registry.choose_backend(cx.PARITY, None, "search")


# ---------------------------------------------------------------------------------------------------------------------
# Describing and loading


def test_good_backend(offer):
    offer(entry("mine"))
    info = only_info()
    assert (info.name, info.distribution, info.version) == ("mine", "good-dist", "1.2")
    assert (info.status, info.reason, info.traceback) == ("ok", "", "")
    assert info.target == "good-dist.module:mine"
    assert info.capabilities.summary == "good for nothing"
    assert cx.get_backend("mine") is cx.get_backend("mine")


def test_import_that_fails(offer):
    offer(entry("mine", ImportError("libmine.so.3: no such file")), entry("other"))
    broken, good = cx.list_backends(load=True)
    assert (broken.status, good.status) == ("broken", "ok")
    assert broken.reason == ("good-dist 1.2 cannot be imported: ImportError: libmine.so.3: no such file; reinstall it")
    assert "Traceback (most recent call last)" in broken.traceback
    assert broken.capabilities is None
    with pytest.raises(cx.BackendError, match=r"backend 'mine' is broken: good-dist 1\.2 cannot be imported.*libmine"):
        cx.get_backend("mine")


def test_real_entry_point_to_nowhere(offer):
    offer(metadata.EntryPoint("mine", "covertreex_no_such_module:backend", offers.GROUP))
    assert "ModuleNotFoundError" in only_info().reason


def test_two_distributions_claim_a_name(offer):
    offer(entry("mine", distribution="one"), entry("mine", distribution="two"), entry("other"))
    infos = cx.list_backends(load=True)
    assert [info.status for info in cx.list_backends()] == ["broken", "broken", "ok"]
    assert [(info.name, info.distribution, info.status) for info in infos] == [
        ("mine", "one", "broken"),
        ("mine", "two", "broken"),
        ("other", "good-dist", "ok"),
    ]
    with pytest.raises(cx.BackendError, match="the name 'mine' is claimed by one and two; uninstall all but one"):
        cx.get_backend("mine")


def test_one_distribution_claims_a_name_twice(offer):
    first, second = entry("mine"), entry("mine")
    second.value = "good-dist.module:other"
    offer(first, second)
    assert "claimed by good-dist more than once" in cx.list_backends()[0].reason


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (changed(name="yours"), "its name is 'yours', but its entry point says 'mine'"),
        (object(), "its name is None, but its entry point says 'mine'"),
        (
            changed(protocol_version=(99, 0)),
            f"protocol version 99.0, but this covertreex speaks {OURS}; install",
        ),
        (changed(protocol_version=(MAJOR, MINOR + 1)), f"it needs protocol version {MAJOR}.{MINOR + 1}, but this"),
        (changed(protocol_version=(MAJOR, MINOR + 1)), f"speaks {OURS}; update covertreex"),
        (changed(protocol_version=None), "protocol version None"),
        (
            changed(protocol_version=3),
            f"protocol version 3, but this covertreex speaks {OURS}; install matching",
        ),
        (changed(protocol_version=3), f"(a version is a pair of integers, now {PROTOCOL_VERSION})"),
        (changed(protocol_version=(MAJOR, "0")), f"protocol version ({MAJOR}, '0')"),
        (changed(protocol_version=(MAJOR, 0, 0)), f"protocol version ({MAJOR}, 0, 0)"),
        (changed(contract={**CONTRACT, "lanes": 8}), "another contract than this covertreex has: lanes is 8 there"),
        (changed(contract={**CONTRACT, "new": 1}), "than this covertreex has: new is 1 there and absent here"),
        (changed(capabilities=None), "its capabilities are not a covertreex.protocols.Capabilities"),
        (changed(capabilities={"tile"}), "its capabilities are not a covertreex.protocols.Capabilities"),
        (changed(search=None), "it lacks the verb 'search' of the Traversal protocol"),
        (changed(scan=None), "it lacks the verb 'scan' of the Traversal protocol"),
        (changed(scan="not callable"), "it lacks the verb 'scan'"),
    ],
)
def test_unfit_backend(offer, candidate, reason):
    assert reason in registry.check_backend_object(candidate, "mine")
    offer(entry("mine", candidate))
    info = only_info()
    assert info.status == "broken"
    assert info.reason.startswith("good-dist 1.2: ")
    assert reason in info.reason
    with pytest.raises(cx.BackendError, match="backend 'mine' is broken"):
        cx.get_backend("mine")


def test_fit_backend():
    assert registry.check_backend_object(Good("mine"), "mine") == ""


@pytest.mark.parametrize("minor", range(MINOR + 1))
def test_a_backend_of_an_older_minor_version_goes_on(offer, minor):
    offer(entry("mine", changed(protocol_version=(MAJOR, minor))))
    assert (only_info().status, only_info().protocol) == ("ok", f"{MAJOR}.{minor}")


def test_what_a_minor_version_added_is_no_difference(offer):
    """A counter or a kernel that came later is not in what an older backend was built with."""
    kernels = {name: code for name, code in CONTRACT["kernels"].items() if name != "rationalquadratic"}
    older = {**CONTRACT, "kernels": kernels, "counters": CONTRACT["counters"][:-1]}
    offer(entry("mine", changed(contract=older)))
    assert only_info().status == "ok"


@pytest.mark.parametrize(
    ("attributes", "levels"),
    [
        ({"capabilities": Capabilities()}, ("L0", "L1")),
        ({}, ("L0", "L1", "L2")),
    ],
)
def test_levels(offer, attributes, levels):
    offer(entry("mine", changed(**attributes)))
    assert only_info().levels == levels


def test_hidden_rust(offer, monkeypatch):
    offer(entry("rust"), entry("mine"))
    monkeypatch.setenv("COVERTREEX_ENABLE_RUST", "0")
    mine, rust = cx.list_backends(load=True)
    assert (mine.status, rust.status) == ("ok", "hidden")
    with pytest.raises(
        cx.BackendError, match=r"backend 'rust' is hidden: hidden by COVERTREEX_ENABLE_RUST=0; unset it"
    ):
        cx.get_backend("rust")
    monkeypatch.delenv("COVERTREEX_ENABLE_RUST")
    assert cx.get_backend("rust").name == "rust"


def test_any_backend_can_be_hidden(offer, monkeypatch):
    loads = []
    hidden = entry("my-own")
    hidden.load = lambda: loads.append(1) or Good("my-own")
    offer(entry("cython"), hidden)
    monkeypatch.setenv("COVERTREEX_ENABLE_CYTHON", "0")
    monkeypatch.setenv("COVERTREEX_ENABLE_MY_OWN", "0")
    assert [info.status for info in cx.list_backends(load=True)] == ["hidden", "hidden"]
    for name, variable in (("cython", "COVERTREEX_ENABLE_CYTHON"), ("my-own", "COVERTREEX_ENABLE_MY_OWN")):
        with pytest.raises(cx.BackendError, match=f"backend '{name}' is hidden: hidden by {variable}=0; unset it"):
            cx.get_backend(name)
    assert loads == []


def test_unknown_name_lists_the_known(offer):
    offer(entry("mine"), entry("bad", ImportError("x")))
    with pytest.raises(cx.BackendError, match="backend 'bad' is broken"):
        cx.get_backend("bad")
    with pytest.raises(cx.BackendError, match=r"unknown backend 'fast'; installed: bad \(broken\), mine\."):
        cx.get_backend("fast")


def test_unknown_rust_says_how_to_get_it(offer):
    offer(entry("mine"))
    with pytest.raises(cx.BackendError, match=r"unknown backend 'rust'.*To install it: pip install \./backends/rust"):
        cx.get_backend("rust")


def test_refresh_sees_what_was_installed_since(offer, monkeypatch):
    offer(entry("mine"))
    cx.list_backends()
    monkeypatch.setattr(offers, "metadata", SimpleNamespace(entry_points=lambda group: [entry("mine"), entry("new")]))
    assert [info.name for info in cx.list_backends()] == ["mine"]
    cx.refresh()
    assert [info.name for info in cx.list_backends()] == ["mine", "new"]


def test_a_backend_is_loaded_once(offer):
    loads = []
    counted = entry("mine")
    counted.load = lambda: loads.append(1) or Good("mine")
    offer(counted)
    for _ in range(3):
        cx.list_backends(load=True)
        cx.get_backend("mine")
    assert len(loads) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Choosing


def able(name, *mechanisms):
    return entry(name, changed(name, capabilities=Capabilities(frozenset(mechanisms))))


def test_default_is_the_first_preferred(offer):
    offer(able("numba"), able("rust"), able("cython"), able("aaa"))
    assert registry.choose_backend(cx.PARITY, None, "search").name == "cython"
    offer(able("numba"), able("rust"))
    assert registry.choose_backend(cx.PARITY, None, "search").name == "rust"


def test_default_is_able(offer):
    offer(able("cython"), able("rust"), able("numba", "tile"))
    with pytest.warns(cx.BackendWarning, match=r"'numba' answers\. backend 'cython' lacks tile\. backend 'rust' lacks"):
        chosen = registry.choose_backend(cx.PARITY.replace(stream_tile=4), None, "search")
    assert chosen.name == "numba"


def test_a_scan_needs_no_mechanisms(offer):
    offer(able("cython"))
    assert registry.choose_backend(cx.EXACT, None, "scan").name == "cython"
    with pytest.raises(cx.BackendError, match=r"no backend can carry out these settings.*'cython' lacks level_cache"):
        registry.choose_backend(cx.EXACT, None, "search")


def test_named_backend_is_final(offer):
    offer(able("cython", "level_cap"), able("mine"))
    with pytest.raises(
        cx.BackendError,
        match=r"backend 'mine' cannot carry out the custom settings: it lacks level_cap\. "
        "Choose another backend or settings='parity', which this one carries out",
    ):
        registry.choose_backend(cx.PARITY.replace(level_cap=5), "mine", "search")
    with pytest.raises(cx.BackendError, match="unknown backend 'absent'"):
        registry.choose_backend(cx.PARITY, "absent", "search")


def test_a_backend_without_a_tree_search_is_not_advised_to_make_one(offer):
    offer(able("cython"), entry("mine", changed("mine", search=None, capabilities=Capabilities(levels={"L0"}))))
    with pytest.raises(
        cx.BackendError,
        match=r"'mine' cannot carry out the parity settings: it lacks the tree search \(level L1\). "
        "Choose another backend or settings='exact', which this one carries out",
    ):
        registry.choose_backend(cx.PARITY, "mine", "search")
    assert registry.choose_backend(cx.EXACT, "mine", "scan").name == "mine"


def test_environment_names_a_backend_where_the_caller_does_not(offer, monkeypatch):
    offer(able("cython"), able("mine"), able("other"))
    monkeypatch.setenv("COVERTREEX_BACKEND", "mine")
    assert registry.choose_backend(cx.PARITY, None, "search").name == "mine"
    assert registry.choose_backend(cx.PARITY, "other", "search").name == "other"
    monkeypatch.setenv("COVERTREEX_BACKEND", "absent")
    with pytest.raises(cx.BackendError, match="unknown backend 'absent'"):
        registry.choose_backend(cx.PARITY, None, "search")


def test_gold_is_numba_whatever_is_installed(offer, monkeypatch):
    offer(able("cython", *MECHANISMS), able("numba", *MECHANISMS))
    monkeypatch.setenv("COVERTREEX_BACKEND", "cython")
    assert registry.choose_backend(cx.GOLD, None, "search").name == "numba"
    assert registry.choose_backend(cx.GOLD, "numba", "search").name == "numba"
    with pytest.raises(cx.BackendError, match="the gold profile runs on the numba backend alone, not on 'cython'"):
        registry.choose_backend(cx.GOLD, "cython", "search")
    offer(able("cython", *MECHANISMS))
    with pytest.raises(cx.BackendError, match="unknown backend 'numba'"):
        registry.choose_backend(cx.GOLD, None, "search")


def test_broken_preferred_backend_is_passed_over_and_explained(offer):
    offer(entry("cython", ImportError("no compiler")), able("numba"))
    with pytest.warns(cx.BackendWarning, match=r"'numba' answers\. .*no compiler.* slower.*COVERTREEX_BACKEND=numba"):
        assert registry.choose_backend(cx.PARITY, None, "search").name == "numba"
    with pytest.raises(cx.BackendError, match=r"no compiler.*'numba' lacks tile"):
        registry.choose_backend(cx.PARITY.replace(stream_tile=2), None, "search")


def test_priority_of_the_environment(offer, monkeypatch):
    offer(able("cython"), able("mine"), able("other", "tile"))
    monkeypatch.setenv("COVERTREEX_BACKEND_PRIORITY", "mine, other")
    assert registry.choose_backend(cx.PARITY, None, "search").name == "mine"
    with pytest.warns(cx.BackendWarning, match=r"'other' answers\. backend 'mine' lacks tile\."):
        assert registry.choose_backend(cx.PARITY.replace(stream_tile=2), None, "search").name == "other"
    monkeypatch.setenv("COVERTREEX_BACKEND", "cython")
    assert registry.choose_backend(cx.PARITY, None, "search").name == "cython"
    monkeypatch.delenv("COVERTREEX_BACKEND")
    monkeypatch.setenv("COVERTREEX_BACKEND_PRIORITY", "absent")
    with pytest.warns(cx.BackendWarning, match=r"'cython' answers\. unknown backend 'absent'; installed: cython"):
        assert registry.choose_backend(cx.PARITY, None, "search").name == "cython"


def test_strangers_come_after_ours_and_are_warned_of(offer, monkeypatch):
    offer(able("aaa"), able("zzz"), able("numba"))
    assert registry.choose_backend(cx.PARITY, None, "search").name == "numba"
    monkeypatch.setenv("COVERTREEX_ENABLE_NUMBA", "0")
    with pytest.warns(cx.BackendWarning, match=r"'aaa' answers, which is not one of .*'numba' is hidden.* be slower"):
        assert registry.choose_backend(cx.PARITY, None, "search").name == "aaa"
    monkeypatch.setenv("COVERTREEX_BACKEND_PRIORITY", "zzz")
    assert registry.choose_backend(cx.PARITY, None, "search").name == "zzz"


def test_one_of_ours_that_is_hidden_is_not_warned_of(offer, monkeypatch):
    offer(able("cython"), able("numba"))
    monkeypatch.setenv("COVERTREEX_ENABLE_CYTHON", "0")
    assert registry.choose_backend(cx.PARITY, None, "search").name == "numba"


def test_only_who_is_asked_is_loaded(offer):
    offer(able("cython"), entry("numba", AssertionError("must not be loaded")), entry("x", AssertionError("nor this")))
    assert registry.choose_backend(cx.PARITY, None, "search").name == "cython"
    assert {info.name: info.status for info in cx.list_backends()} == {"cython": "ok", "numba": "found", "x": "found"}


# ---------------------------------------------------------------------------------------------------------------------
# Capabilities


@pytest.mark.parametrize(
    ("change", "mechanism"),
    [
        ({"child_order": "nearest"}, "child_order"),
        ({"visited": "bitset"}, "bitset"),
        ({"stream_tile": 2}, "tile"),
        ({"level_cache": True}, "level_cache"),
        ({"radius_floor": 1e-9}, "radius_floor"),
        ({"budget_schedule": (1,)}, "budget"),
        ({"level_cap": 1}, "level_cap"),
        ({"gate": True}, "gate"),
        ({"gemm": True}, "gemm"),
    ],
)
def test_each_setting_asks_for_its_mechanism(change, mechanism):
    settings = cx.PARITY.replace(**change)
    assert Capabilities().missing(settings) == [mechanism]
    assert Capabilities(frozenset({mechanism})).missing(settings) == []


def test_parity_asks_for_nothing():
    assert Capabilities().missing(cx.PARITY) == []


def test_shipped_backends_are_there():
    infos = {info.name: info for info in cx.list_backends(load=True)}
    assert infos["numba"].status == infos["cython"].status == "ok"
    for name in ("numba", "cython"):
        installed = {found.dist.name for found in metadata.entry_points(group=offers.GROUP, name=name)}
        assert infos[name].distribution in installed or infos[name].distribution == "vecchia-neighbors"
    assert cx.get_backend("numba").capabilities.missing(cx.GOLD) == []
