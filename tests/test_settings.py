"""Settings: the profiles are what the table of the design says, and do not change; the environment is read once."""

import dataclasses
import pickle

import numpy as np
import pytest

import covertreex as cx
from covertreex.settings import PROFILES, TraversalSettings, resolve_settings, settings_from_env

#: The table of profiles: setting, gold, parity, exact, fast. None is left to the engine.
TABLE = [
    ("strategy", "tree", "tree", "auto", "auto"),
    ("precision", "float64", "float64", "float64", "float64"),
    ("kth_frontier_stop", True, True, True, True),
    ("child_order", "insertion", "insertion", None, None),
    ("visited", "bitset", "plain", None, None),
    ("stream_tile", 64, 1, None, None),
    ("dynamic_tile", True, False, None, None),
    ("level_cache", True, False, True, True),
    ("dynamic_query_block", True, False, True, True),
    ("radius_floor", 1e-3, 0.0, 0.0, 0.0),
    ("budget_schedule", (), (), (), None),
    ("budget_up", 0.015, 0.015, 0.015, 0.015),
    ("budget_down", 0.002, 0.002, 0.002, 0.002),
    ("level_cap", 0, 0, 0, None),
    ("gate", False, False, True, True),
    ("gemm", False, False, True, True),
    ("recall_target", 1.0, 1.0, 1.0, 0.999),
    ("telemetry", True, True, None, None),
]


@pytest.mark.parametrize(("name", *PROFILES), TABLE, ids=[row[0] for row in TABLE])
def test_profiles(name, gold, parity, exact, fast):
    for profile, value in (("gold", gold), ("parity", parity), ("exact", exact), ("fast", fast)):
        assert value is None or getattr(PROFILES[profile], name) == value, profile


def test_the_table_is_complete():
    assert {row[0] for row in TABLE} | {"profile"} == {field.name for field in dataclasses.fields(TraversalSettings)}


def test_gold_never_changes():
    assert cx.GOLD.digest() == "245d7451d3dc99bd9d0f254d716a52e3532cf3f11b59323ad61e20583a1248fe"


def test_digest_tells_settings_apart():
    others = (cx.GOLD.replace(stream_tile=32), cx.GOLD.replace())
    assert len({settings.digest() for settings in (*PROFILES.values(), *others)}) == len(PROFILES) + 2
    assert cx.GOLD.replace(profile="gold").digest() == cx.GOLD.digest()
    assert cx.PARITY.replace(radius_floor=0).digest() == cx.PARITY.replace().digest()


@pytest.mark.parametrize("name", PROFILES)
def test_a_name_stands_for_what_it_names(name):
    """Gold runs on numba alone, and parity is compared counter by counter: by name, which must not lie."""
    profile = PROFILES[name]
    same = [profile, dataclasses.replace(profile), profile.replace(profile=name), pickle.loads(pickle.dumps(profile))]
    assert {settings.profile for settings in same} == {name}
    other = {"exact": "level_cap", "fast": "level_cap"}.get(name, "stream_tile")
    changed = [
        dataclasses.replace(profile, **{other: 8}),
        profile.replace(profile=name, **{other: 8}),
        TraversalSettings(profile=name),
        *(dataclasses.replace(profile, profile=one) for one in PROFILES if one != name),
    ]
    assert {settings.profile for settings in changed} == {"custom"}
    assert profile.replace().profile == "custom"  # the same search, by whichever backend can do it


def test_changed_gold_and_parity_go_where_their_content_does(rng):
    tree = cx.cover_tree(rng.normal(size=(60, 2)), kernel=cx.RBF(), inducing=5)
    capped = dataclasses.replace(cx.PARITY, level_cap=1)
    result = tree.search(3, settings=capped, backend="cython")
    assert result.settings.profile == "custom"
    assert {record.profile for record in result.telemetry.blocks} == {"custom"}
    wider = dataclasses.replace(cx.GOLD, stream_tile=32)  # no longer what numba alone may run
    assert tree.search(3, settings=wider, backend="cython").backend == "cython"


def test_profiles_are_named():
    assert {name: settings.profile for name, settings in PROFILES.items()} == {name: name for name in PROFILES}
    assert list(PROFILES) == ["gold", "parity", "exact", "fast"]
    assert [settings.approximate for settings in PROFILES.values()] == [False, False, False, True]


@pytest.mark.parametrize("settings", [cx.GOLD, cx.PARITY, cx.EXACT], ids=lambda s: s.profile)
def test_settings_are_frozen_and_compare_by_value(settings):
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.stream_tile = 8
    assert dataclasses.replace(settings) == settings
    assert hash(dataclasses.replace(settings)) == hash(settings)


def test_a_changed_profile_is_custom():
    changed = cx.PARITY.replace(stream_tile=8, budget_schedule=[32, 64])
    assert (changed.profile, changed.stream_tile, changed.budget_schedule) == ("custom", 8, (32, 64))
    assert cx.PARITY.stream_tile == 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kernel", [None, cx.Matern32()])
def test_any_profile_can_be_told_to_walk_the_tree(profile, kernel):
    settings = PROFILES[profile].replace(strategy="tree")
    assert (settings.gate, settings.gemm, settings.recall_target) == (False, False, 1.0)
    tree = cx.cover_tree(np.random.default_rng(0).normal(size=(80, 2)), kernel=kernel)
    result = tree.search(3, settings=settings, audit=80)
    assert result.plan.verb == "search"
    assert result.recall == 1.0


def test_what_is_named_beside_the_tree_is_kept():
    assert cx.EXACT.replace(strategy="tree", gate=True).gate
    with pytest.raises(cx.SettingsError, match="recall_target is met by scans"):
        cx.EXACT.replace(strategy="tree", recall_target=0.9)


def test_only_a_budget_a_cap_or_a_recall_target_is_approximate():
    """S1."""
    assert cx.PARITY.replace(budget_schedule=(32,)).approximate
    assert cx.PARITY.replace(level_cap=1).approximate
    assert cx.EXACT.replace(recall_target=0.99).approximate
    exact = {"visited": "bitset", "stream_tile": 64, "dynamic_tile": True, "level_cache": True, "radius_floor": 0.5}
    assert not cx.PARITY.replace(**exact, dynamic_query_block=True, kth_frontier_stop=False).approximate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "silver"}, "profile must be one of gold, parity, exact.*got 'silver'"),
        ({"strategy": "graph"}, "strategy must be one of tree, auto.*got 'graph'"),
        ({"precision": "float32"}, "precision must be one of float64.*got 'float32'"),
        ({"child_order": "random"}, "child_order must be one of insertion, nearest"),
        ({"visited": "hash"}, "visited must be one of plain, bitset"),
        ({"kth_frontier_stop": 1}, "kth_frontier_stop must be True or False; got 1"),
        ({"dynamic_tile": None}, "dynamic_tile must be True or False; got None"),
        ({"level_cache": "on"}, "level_cache must be True or False; got 'on'"),
        ({"dynamic_query_block": 0}, "dynamic_query_block must be True or False"),
        ({"gate": 1.0}, "gate must be True or False"),
        ({"gemm": "no"}, "gemm must be True or False"),
        ({"telemetry": 2}, "telemetry must be True or False"),
        ({"stream_tile": 0}, "stream_tile must be an integer from 1 to 64; got 0"),
        ({"stream_tile": 65}, "stream_tile must be an integer from 1 to 64; got 65"),
        ({"stream_tile": 8.0}, r"stream_tile must be an integer from 1 to 64; got 8\.0"),
        ({"stream_tile": True}, "stream_tile must be an integer from 1 to 64; got True"),
        ({"level_cap": -1}, "level_cap must be an integer from 0"),
        ({"radius_floor": -1e-9}, "radius_floor must be finite and not negative"),
        ({"radius_floor": float("nan")}, "radius_floor must be finite.*got nan"),
        ({"radius_floor": float("inf")}, "radius_floor must be finite"),
        ({"radius_floor": "low"}, "radius_floor must be .*got 'low'"),
        ({"radius_floor": None}, "radius_floor must be .*got None"),
        ({"budget_schedule": (0, 32)}, "budget_schedule must be an integer from 1"),
        ({"budget_schedule": (32.5,)}, r"budget_schedule must be an integer.*got 32\.5"),
        ({"budget_schedule": (64, 32)}, r"budget_schedule must increase; got \(64, 32\)"),
        ({"budget_schedule": (64, 64)}, "budget_schedule must increase"),
        ({"budget_schedule": 64}, "budget_schedule must be .*got 64"),
        ({"budget_up": 0.001}, "0 <= budget_down <= budget_up <= 1; got budget_down=0.002, budget_up=0.001"),
        ({"budget_up": 1.5}, "budget_down <= budget_up <= 1"),
        ({"budget_down": -0.1}, "0 <= budget_down"),
        ({"budget_down": float("nan")}, "0 <= budget_down"),
        ({"budget_up": "much"}, "budget_up.*'much'"),
        ({"recall_target": 0.5}, r"recall_target must be above 0\.5 and at most 1; got 0\.5"),
        ({"recall_target": 1.1}, "recall_target must be above"),
        ({"recall_target": float("nan")}, "recall_target must be above"),
        ({"recall_target": "most"}, "recall_target must be .*got 'most'"),
        ({"recall_target": 0.99}, "recall_target is met by scans; with strategy='tree' use budget_schedule"),
        ({"dynamic_tile": True, "stream_tile": 4}, "stream_tile, which must be at least 8; got 4"),
        ({"tile": 4}, "unknown setting 'tile'; the settings are profile, strategy"),
    ],
    ids=str,
)
def test_contradictions(change, message):
    with pytest.raises(cx.SettingsError, match=message):
        cx.PARITY.replace(**change)


# ---------------------------------------------------------------------------------------------------------------------
# What a caller passes


@pytest.mark.parametrize("name", ["gold", "parity", "exact"])
def test_settings_by_name(name):
    assert resolve_settings(name, settings_from_env({})) is PROFILES[name]


def test_settings_by_value_and_by_default():
    environment = settings_from_env({"COVERTREEX_RESIDUAL_PARITY": "1"})
    custom = cx.PARITY.replace(stream_tile=2)
    assert resolve_settings(custom, environment) is custom
    assert resolve_settings(None, environment) is cx.PARITY
    assert resolve_settings("exact", environment) is cx.EXACT, "the environment must not override a caller"


@pytest.mark.parametrize("settings", ["Gold", "", "slow", 3, {"profile": "gold"}, TraversalSettings])
def test_settings_of_the_wrong_kind(settings):
    with pytest.raises(
        cx.SettingsError, match=r"settings must be a TraversalSettings or one of 'gold', 'parity', 'exact'"
    ):
        resolve_settings(settings, settings_from_env({}))


# ---------------------------------------------------------------------------------------------------------------------
# The environment


@pytest.mark.parametrize(
    ("environ", "profile", "name", "hidden"),
    [
        ({}, "exact", None, set()),
        ({"HOME": "/", "COVERTREE": "1", "covertreex_backend": "x"}, "exact", None, set()),
        ({"COVERTREEX_RESIDUAL_PARITY": "1"}, "parity", None, set()),
        ({"COVERTREEX_RESIDUAL_PARITY": "0"}, "exact", None, set()),
        ({"COVERTREEX_BACKEND": "numba"}, "exact", "numba", set()),
        ({"COVERTREEX_ENABLE_RUST": "0"}, "exact", None, {"rust"}),
        ({"COVERTREEX_ENABLE_RUST": "1"}, "exact", None, set()),
        ({"COVERTREEX_ENABLE_NUMBA": "1", "COVERTREEX_ENABLE_MY_OWN": "0"}, "exact", None, {"my_own"}),
        (
            {"COVERTREEX_RESIDUAL_PARITY": "1", "COVERTREEX_BACKEND": "cython", "COVERTREEX_ENABLE_RUST": "0"},
            "parity",
            "cython",
            {"rust"},
        ),
    ],
    ids=str,
)
def test_environment(environ, profile, name, hidden):
    found = settings_from_env(environ)
    assert found.settings is PROFILES[profile]
    assert found.backend == name
    assert found.hidden == hidden


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"COVERTREEX_RESIDUAL_PARITY": "yes"}, "COVERTREEX_RESIDUAL_PARITY must be 0 or 1; got 'yes'"),
        ({"COVERTREEX_RESIDUAL_PARITY": ""}, "COVERTREEX_RESIDUAL_PARITY must be 0 or 1; got ''"),
        ({"COVERTREEX_ENABLE_RUST": "off"}, "COVERTREEX_ENABLE_RUST must be 0 or 1; got 'off'"),
        ({"COVERTREEX_BACKEND": " "}, "COVERTREEX_BACKEND is empty"),
        ({"COVERTREEX_ENABLE_": "0"}, "unknown environment variable COVERTREEX_ENABLE_;"),
        (
            {"COVERTREEX_BACKEND_PRIORITY": ""},
            "COVERTREEX_BACKEND_PRIORITY must be names of backends between commas, each",
        ),
        ({"COVERTREEX_BACKEND_PRIORITY": "rust,,numba"}, "each once; got 'rust,,numba'"),
        ({"COVERTREEX_BACKEND_PRIORITY": "rust,rust"}, "each once; got 'rust,rust'. Unset it or correct it"),
        ({"COVERTREEX_MINE_DEVICE": "0"}, "COVERTREEX_NAME_... of a backend that is installed .*cython.*numba"),
        (
            {"COVERTREEX_PARITY": "1"},
            "unknown environment variable COVERTREEX_PARITY; the known ones are COVERTREEX_RESIDUAL_PARITY",
        ),
    ],
    ids=str,
)
def test_malformed_environment(environ, message):
    with pytest.raises(cx.SettingsError, match=message):
        settings_from_env(environ)


def test_priority_and_variables_of_a_backend():
    found = settings_from_env({"COVERTREEX_BACKEND_PRIORITY": "rust, mine", "COVERTREEX_NUMBA_ANYTHING": "at all"})
    assert found.priority == ("rust", "mine")
    assert settings_from_env({}).priority == ()
    hiding = settings_from_env({"COVERTREEX_ENABLE_MY_OWN": "0"})
    assert hiding.hides("my-own")
    assert not hiding.hides("my")


def test_environment_reaches_a_search(monkeypatch):
    tree = cx.cover_tree(np.arange(10.0).reshape(-1, 1))
    assert tree.search(1).settings is cx.EXACT
    monkeypatch.setenv("COVERTREEX_RESIDUAL_PARITY", "1")
    monkeypatch.setenv("COVERTREEX_BACKEND", "numba")
    result = tree.search(1)
    assert (result.settings, result.backend) == (cx.PARITY, "numba")
    assert tree.search(1, settings="exact", backend="cython").backend == "cython"
    monkeypatch.setenv("COVERTREEX_TYPO", "1")
    with pytest.raises(cx.SettingsError, match="COVERTREEX_TYPO"):
        tree.knn(1)


# ---------------------------------------------------------------------------------------------------------------------
# The ladder of gold has thresholds and no schedule, so it is inert


@pytest.fixture(scope="module")
def residual_tree():
    X = np.random.default_rng(1).normal(size=(1500, 3))
    return cx.cover_tree(X, kernel=cx.RBF(), inducing=40)


def outcome(tree, settings, backend):
    result = tree.search(10, queries=np.arange(0, 1500, 15), settings=settings, backend=backend)
    return result.indices.tolist(), result.distances.tolist(), result.telemetry.counters


def test_ladder_without_a_schedule_is_inert(residual_tree, backend):
    if cx.get_backend(backend).capabilities.missing(cx.GOLD):
        pytest.skip(f"{backend} lacks {cx.get_backend(backend).capabilities.missing(cx.GOLD)}")
    expected = outcome(residual_tree, cx.GOLD.replace(), backend)
    for up, down in ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        assert outcome(residual_tree, cx.GOLD.replace(budget_up=up, budget_down=down), backend) == expected
    assert expected[2]["stop_budget"] == expected[2]["budget_escalations"] == 0


def test_ladder_with_a_schedule_moves_its_counters(residual_tree, backend):
    settings = cx.GOLD.replace(budget_schedule=(100, 200, 400), budget_up=0.1, budget_down=0.01)
    if cx.get_backend(backend).capabilities.missing(settings):
        pytest.skip(f"{backend} lacks {cx.get_backend(backend).capabilities.missing(settings)}")
    *_, counters = outcome(residual_tree, settings, backend)
    assert counters["stop_budget"] > 0
    assert counters["budget_escalations"] > 0
    *_, unlimited = outcome(residual_tree, cx.GOLD.replace(), backend)
    assert counters["distance_evals"] < unlimited["distance_evals"]


def test_the_variable_of_our_own_tests_is_no_setting():
    assert settings_from_env({"COVERTREEX_TORTURE": "nightly"}) == settings_from_env({})
