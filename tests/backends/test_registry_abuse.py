"""Plugins that misbehave: the rest stays usable, and the message names the distribution and what to do.

The distributions are real (`plugins.install`); one test has pip do it, to show that nothing is missing.
"""

import json
import os
import subprocess
import sys
import textwrap
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import plugins
import pytest
from plugins import GOOD, install

from covertreex.protocols import PROTOCOL_VERSION

MAJOR, MINOR = PROTOCOL_VERSION

#: What every process asks of the registry, whatever is installed.
REPORT = """
    import json, sys
    import numpy as np
    import covertreex as cx

    def describe():
        report = {"backends": {}, "errors": {}, "answers": {}}
        tree = cx.cover_tree(np.arange(10.0)[:, None])
        for info in cx.list_backends(load=True):
            report["backends"].setdefault(info.name, []).append(
                [info.distribution, info.version, info.status, info.reason, info.traceback]
            )
        for name in [*report["backends"], None]:
            try:
                if name == "numba":  # whose kernels take seconds to load
                    report["answers"][name] = cx.get_backend(name).name
                else:
                    report["answers"][str(name)] = tree.search(1, [5], settings="parity", backend=name).backend
            except cx.BackendError as error:
                report["errors"][str(name)] = str(error)
        return report
"""


def python(site, code):
    """Run code, after `REPORT`, in a process that sees `site`; what it prints last, from JSON."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERTREEX_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = textwrap.dedent(REPORT) + "\n" + textwrap.dedent(code)
    run = subprocess.run([sys.executable, "-c", script], env=environment, text=True, capture_output=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def describe(site):
    """What `REPORT` says of the installed backends; the shipped ones must work."""
    report = python(site, "print(json.dumps(describe()))")
    assert_usable(report)
    return report


def assert_usable(report, without=()):
    """The shipped backends answer, by name and by default."""
    for name in {"cython", "numba"} - set(without):
        assert report["answers"][name] == name
    assert report["answers"]["None"] in {"cython", "rust", "numba"} - set(without)


def only(report, name):
    """The one listing of a backend, by field."""
    (listing,) = report["backends"][name]
    return dict(zip(("distribution", "version", "status", "reason", "traceback"), listing, strict=True))


@pytest.fixture
def site(tmp_path):
    """An empty directory on the path of `python`."""
    path = tmp_path / "site"
    path.mkdir()
    return path


def test_a_good_plugin_answers(site):
    install(site, "cx-good", "good", GOOD)
    report = describe(site)
    assert only(report, "good")["status"] == "ok"
    assert report["answers"]["good"] == "good"


def test_import_that_raises(site):
    install(site, "cx-torn", "torn", "raise OSError('libtorn.so.3: cannot open shared object file')")
    report = describe(site)
    listing = only(report, "torn")
    assert listing["status"] == "broken"
    for text in (listing["reason"], report["errors"]["torn"]):
        assert "cx-torn 1.0" in text
        assert "OSError: libtorn.so.3" in text
        assert "reinstall" in text
    assert "torn.py" in listing["traceback"]


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        ("", "absent_module:backend", "ModuleNotFoundError"),
        ("", "torn:absent", "AttributeError"),
        ("def broken(:", "torn:backend", "SyntaxError"),
        ("import covertreex\ncovertreex.nothing_of_the_sort", "torn:backend", "AttributeError"),
    ],
    ids=["no module", "no object", "no Python", "other covertreex"],
)
def test_target_that_cannot_be_loaded(site, source, target, what):
    install(site, "cx-torn", "torn", source, target=target)
    report = describe(site)
    assert only(report, "torn")["status"] == "broken"
    assert f"cx-torn 1.0 cannot be imported: {what}" in report["errors"]["torn"]


def test_two_claim_one_name(site):
    install(site, "cx-first", "first", GOOD, name="same")
    install(site, "cx-second", "second", GOOD, name="same", version="2.0")
    report = describe(site)
    assert {(listing[0], listing[2]) for listing in report["backends"]["same"]} == {
        ("cx-first", "broken"),
        ("cx-second", "broken"),
    }
    for needed in ("cx-first", "cx-second", "uninstall"):
        assert needed in report["errors"]["same"]


def test_claim_on_a_shipped_name(site):
    install(site, "cx-usurper", "usurper", "raise AssertionError('nobody asked for it')", name="cython")
    report = describe(site)
    listed = {distribution: (status, reason) for distribution, _, status, reason, _ in report["backends"]["cython"]}
    status, reason = listed.pop("cx-usurper")
    assert status == "broken"
    assert list(listed.values()) == [("ok", "")]
    for needed in ("'cython'", "covertreex", "uninstall cx-usurper"):
        assert needed in reason


@pytest.mark.parametrize(
    ("version", "shown", "advice"),
    [
        (3, "3", "install matching versions"),
        ("4.1", "'4.1'", "a version is a pair of integers"),
        (None, "None", "a version is a pair of integers"),
        ((MAJOR - 1, 9), f"{MAJOR - 1}.9", "install matching versions"),
        ((MAJOR + 1, 0), f"{MAJOR + 1}.0", "install matching versions"),
        ((MAJOR, MINOR + 1), f"{MAJOR}.{MINOR + 1}", "update covertreex"),
    ],
)
def test_other_protocol_version(site, version, shown, advice):
    install(site, "cx-old", "old", GOOD + f"\n    Backend.protocol_version = {version!r}\n")
    report = describe(site)
    assert only(report, "old")["status"] == "broken"
    message = report["errors"]["old"]
    for needed in ("cx-old 1.0", f"protocol version {shown}", f"speaks {MAJOR}.{MINOR}", advice):
        assert needed in message


def test_a_stranger_of_an_old_minor_version_answers(site):
    """Built for what there was at first: it has none of what came later, and the numbers that it was built with."""
    old = """
    from covertreex.protocols import CONTRACT
    Backend.protocol_version = ({major}, 0)
    Backend.contract = {**CONTRACT, "kernels": {"rbf": 0}, "counters": CONTRACT["counters"][:10]}
    assert not hasattr(Backend, "levels")
    """
    install(site, "cx-old", "old", GOOD + old.replace("{major}", str(MAJOR)))
    report = describe(site)
    assert only(report, "old")["status"] == "ok"
    assert report["answers"]["old"] == "old"


@pytest.mark.parametrize("verb", ["search", "scan"])
def test_lacks_a_verb(site, verb):
    install(site, "cx-mute", "mute", GOOD + f"\n    Backend.{verb} = None\n")
    report = describe(site)
    assert only(report, "mute")["status"] == "broken"
    assert "cx-mute 1.0" in report["errors"]["mute"]
    assert f"lacks the verb '{verb}'" in report["errors"]["mute"]


def test_lacks_capabilities(site):
    install(site, "cx-vague", "vague", GOOD + "\n    Backend.capabilities = {}\n")
    assert "cx-vague 1.0: its capabilities" in describe(site)["errors"]["vague"]


def test_name_and_entry_point_disagree(site):
    install(site, "cx-alias", "alias", GOOD.replace("{name}", "another"))
    report = describe(site)
    assert "another" not in report["backends"]
    for needed in ("cx-alias 1.0", "'another'", "'alias'", "make them equal"):
        assert needed in report["errors"]["alias"]


def test_installed_while_the_process_runs(site):
    python(
        site,
        f"""
        before = describe()
        assert "late" not in before["backends"]
        try:
            cx.get_backend("late")
        except cx.BackendError as error:
            assert "unknown backend 'late'" in str(error)
        sys.path.insert(0, {str(site.parent)!r})
        sys.path.insert(0, {os.path.dirname(plugins.__file__)!r})
        from pathlib import Path
        from plugins import GOOD, install
        install(Path({str(site)!r}), "cx-late", "late", GOOD)
        assert "late" not in describe()["backends"]
        cx.refresh()
        assert describe()["answers"]["late"] == "late"
        print("null")
        """,
    )


def test_repaired_and_uninstalled_while_the_process_runs(site):
    install(site, "cx-torn", "torn", "raise OSError('torn')")
    python(
        site,
        f"""
        import shutil, textwrap
        from pathlib import Path
        site = Path({str(site)!r})
        assert "torn" in describe()["errors"]
        (site / "torn.py").write_text(textwrap.dedent({GOOD!r}).replace("{{name}}", "torn") + "# longer than before")
        assert "torn" in describe()["errors"]
        cx.refresh()
        assert describe()["answers"]["torn"] == "torn"
        shutil.rmtree(site / "cx_torn-1.0.dist-info")
        cx.refresh()
        assert "torn" not in describe()["backends"]
        print("null")
        """,
    )


def test_all_at_once(site):
    install(site, "cx-good", "good", GOOD)
    install(site, "cx-torn", "torn", "raise OSError('torn')")
    install(site, "cx-first", "first", GOOD, name="same")
    install(site, "cx-second", "second", GOOD, name="same")
    install(site, "cx-mute", "mute", GOOD + "\n    Backend.scan = None\n")
    report = describe(site)
    assert set(report["errors"]) == {"torn", "same", "mute"}
    assert {"good", "cython", "numba"} <= set(report["answers"])


#: What a process that uses covertreex as usual does; `started` says when it began.
USE = """
    import time
    started = time.perf_counter()
    tree = cx.cover_tree(np.arange(10.0)[:, None])
    answers = [tree.search(1, [5], settings=settings, backend=name).backend
               for settings in ("parity", "exact") for name in ("cython", None)]
    listed = {info.name: info.status for info in cx.list_backends()}
    print(json.dumps([answers, listed, sorted(sys.modules), time.perf_counter() - started]))
"""


def test_listing_imports_nothing(site):
    install(site, "cx-good", "good", GOOD)
    loaded = python(
        site,
        """
        before = set(sys.modules)
        cx.list_backends()
        print(json.dumps(sorted(set(sys.modules) - before)))
        """,
    )
    assert not {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "source",
    ["import time; time.sleep(3)", "import os; os.abort()", "import os; os._exit(3)", "while True: pass"],
    ids=["sleeps", "aborts", "ends the process", "never ends"],
)
def test_a_plugin_that_nobody_asks_for_is_not_touched(site, source):
    install(site, "cx-sloth", "sloth", source + "\n" + textwrap.dedent(GOOD))
    answers, listed, modules, seconds = python(site, USE)
    assert answers == ["cython"] * 4
    assert listed["sloth"] == "found"
    assert listed["cython"] == "ok"
    assert not {"sloth", "numba", "covertreex_numba", "covertreex_rust"} & set(modules)
    assert seconds < 3


def test_a_plugin_that_sleeps_answers_who_asks_for_it(site):
    install(site, "cx-sloth", "sloth", "import time; time.sleep(0.5)\n" + textwrap.dedent(GOOD))
    answer, other = python(
        site,
        """
        tree = cx.cover_tree(np.arange(10.0)[:, None])
        print(json.dumps([tree.search(1, [5], backend="sloth").backend, "covertreex_numba" in sys.modules]))
        """,
    )
    assert (answer, other) == ("sloth", False)


def test_a_stranger_answers_where_ours_cannot_and_says_so(site):
    install(site, "cx-good", "good", GOOD)
    backend, message = python(
        site,
        """
        import os, warnings
        os.environ.update(COVERTREEX_ENABLE_CYTHON="0", COVERTREEX_ENABLE_NUMBA="0", COVERTREEX_ENABLE_RUST="0")
        tree = cx.cover_tree(np.arange(10.0)[:, None])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            backend = tree.search(1, [5], settings="parity").backend
        (warning,) = caught
        assert warning.category is cx.BackendWarning and warning.filename == "<string>"
        print(json.dumps([backend, str(warning.message)]))
        """,
    )
    assert backend == "good"
    for needed in ("'good' answers", "COVERTREEX_ENABLE_CYTHON=0", "may be slower", "COVERTREEX_BACKEND=good"):
        assert needed in message


def test_a_plugin_has_variables_of_its_own(site):
    own = """
    import os
    Backend.device = os.environ["COVERTREEX_GOOD_DEVICE"]
    """
    install(site, "cx-good", "good", GOOD + own)
    device, refused = python(
        site,
        """
        import os
        os.environ["COVERTREEX_GOOD_DEVICE"] = "second"
        tree = cx.cover_tree(np.arange(10.0)[:, None])
        assert tree.search(1, [5], backend="good").backend == "good"
        os.environ["COVERTREEX_GOOF_DEVICE"] = "third"
        try:
            tree.search(1, [5])
        except cx.SettingsError as error:
            print(json.dumps([sys.modules["good"].backend.device, str(error)]))
        """,
    )
    assert device == "second"
    assert "unknown environment variable COVERTREEX_GOOF_DEVICE" in refused
    assert "COVERTREEX_NAME_... of a backend that is installed (cython, good, numba" in refused


def test_ours_are_there_without_metadata(tmp_path):
    """As in a program that was frozen, or copied without what an installer writes."""
    needed = ("covertreex", "covertreex_cython", "covertreex_numba", "numpy", "scipy", "xxhash")
    for name in needed:
        found = Path(find_spec(name).origin).parent
        for folder in (found, found.with_name(f"{name}.libs")):
            if folder.exists():
                (tmp_path / folder.name).symlink_to(folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COVERTREEX_", "PYTHON"))}
    code = """
        print(json.dumps([list(metadata.distributions()) == [], describe(), cx.__version__]))
    """
    script = "from importlib import metadata\n" + textwrap.dedent(REPORT) + textwrap.dedent(code)
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={**environment, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    bare, report, version = json.loads(run.stdout.splitlines()[-1])
    assert bare
    assert_usable(report)
    assert report["backends"]["cython"] == [["vecchia-neighbors", version, "ok", "", ""]]
    assert "rust" not in report["backends"]


@pytest.mark.slow
def test_installed_by_pip(site, tmp_path):
    try:
        recent = int(metadata.version("setuptools").split(".")[0]) >= 61
    except metadata.PackageNotFoundError:
        recent = False
    if not recent:
        pytest.skip("no setuptools here that can build a distribution")
    project = tmp_path / "project"
    project.mkdir()
    (project / "piped.py").write_text(textwrap.dedent(GOOD).replace("{name}", "piped"))
    (project / "pyproject.toml").write_text(
        textwrap.dedent(
            """
            [build-system]
            requires = ["setuptools>=61"]
            build-backend = "setuptools.build_meta"

            [project]
            name = "cx-piped"
            version = "1.0"

            [project.entry-points."covertreex.backends"]
            piped = "piped:backend"

            [tool.setuptools]
            py-modules = ["piped"]
            """
        )
    )
    command = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site), str(project)]
    subprocess.run([sys.executable, *command], check=True, timeout=300)
    report = describe(site)
    assert only(report, "piped")["distribution"] == "cx-piped"
    assert report["answers"]["piped"] == "piped"


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.exit('no licence found')",
        GOOD + "\n    Backend.name = property(lambda self: 1 / 0)\n",
        GOOD + "\n    Backend.capabilities = property(lambda self: 1 / 0)\n",
    ],
    ids=["leaves Python", "no name to be had", "no capabilities to be had"],
)
def test_plugin_that_bites(site, source):
    install(site, "cx-viper", "viper", source)
    report = describe(site)
    assert only(report, "viper")["status"] == "broken"
    assert "cx-viper 1.0" in report["errors"]["viper"]
