"""`covertreex parity`: what a person sees, what report and JSON hold, and that each fault is found and shown."""

import json
import re
import socket

import numpy as np
import pytest
from typer.testing import CliRunner

import covertreex as cx
from covertreex.backends.telemetry import COUNTERS
from covertreex.cli import app
from covertreex.protocols import Capabilities
from covertreex_bench import compare, workloads
from covertreex_bench.writing import Grid

SMALL = ["--n", "300", "--inducing", "20", "--queries", "40", "--k", "5", "--threads", "2"]


def run(*arguments, code=0, columns=300):
    """Output of ``covertreex parity``, which must end with exit code `code`."""
    command = ["parity", *map(str, arguments)]
    result = CliRunner().invoke(app, command, catch_exceptions=False, env={"COLUMNS": str(columns)})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def spoilt(install_liar):
    """A function that installs the backend 'spoilt'."""
    return lambda spoil: install_liar(spoil, "spoilt")


def count(name):
    """Adds one to a counter of every query."""

    def spoil(out):
        out.counters[:, COUNTERS.index(name)] += 1

    return spoil


def swap(out):
    """Exchanges the two nearest neighbours of every query."""
    out.indices[:, :2] = out.indices[:, 1::-1].copy()


# ---------------------------------------------------------------------------------------------------------------------
# Side by side


def test_all_backends_agree_and_the_report_says_how_it_was_made(here):
    output = run(*SMALL, "--repeat", 2, "--report", "audit.md", "--json", "audit.json")
    assert "All rows agree: recall 1.0, the same bits, the same counters under parity." in output
    found = json.loads((here / "audit.json").read_text())
    assert [row["name"] for row in found["rows"][:3]] == ["numba/gold", "numba/parity", "cython/parity"]
    assert found["rows"][0]["ratio_to_gold"] == 1.0
    assert all(row["recall"] == 1.0 and len(row["all_query_seconds"]) == 2 for row in found["rows"])
    assert found["problems"] == found["differences"] == found["counter_differences"] == []
    assert found["settings"]["numba/gold"]["stream_tile"] == 64
    assert found["rows"][0]["settings_digest"] == cx.GOLD.digest()

    report = (here / "audit.md").read_text()
    command = "covertreex parity --n 300 --k 5 --queries 40 --inducing 20 --threads 2 --repeat 2"
    assert f"\n{command} --report audit.md --json audit.json\n" in report
    for heading in ("## Results", "## Counters", "## Settings", "## Machine"):
        assert heading in report
    assert found["machine"]["processor"] in report
    assert "instruction sets" in report
    assert re.search(r"\| level_cache_hits +\| +[1-9][\d,]* \| +0 \*off\* \| +0 \*off\* \|", report)


def test_a_report_names_neither_folder_nor_host(tmp_path):
    run(*SMALL, "--rows", "cython/parity", "--report", tmp_path / "audit.md", "--json", tmp_path / "audit.json")
    for text in ((tmp_path / "audit.md").read_text(), (tmp_path / "audit.json").read_text()):
        assert "audit.md" in text
        assert str(tmp_path) not in text
        assert len(socket.gethostname()) < 4 or socket.gethostname() not in text


def test_backends_phase_by_phase(here, spoilt):
    spoilt(lambda out: None)
    output = run(*SMALL, "--backends", "cython,spoilt", "--repeat", 2, "--report", "audit.md", "--json", "audit.json")
    rows = {row["name"]: row for row in json.loads((here / "audit.json").read_text())["rows"]}
    phases = ["search L1", "mechanisms L2", "decision L0", "screen"]
    assert list(rows) == [f"{name} {phase}" for phase in phases for name in ("cython", "spoilt")]
    assert [rows[f"cython {phase}"]["verb"] for phase in phases] == ["search", "search", "scan", "scan"]
    assert all(row["same_bits_as_first_row"] and row["recall"] == 1.0 for row in rows.values())
    counted = [row["same_counters_as_first_parity_row"] for row in rows.values()]
    assert counted == [True] * 6 + [None] * 2
    assert "spoilt does not claim level S: it decides what covertreex's own screens leave." in output
    assert "All rows agree: recall 1.0, the same bits, the same counters where they must be." in output
    assert "Backends side by side, phase by phase" in (here / "audit.md").read_text()


def test_a_phase_that_differs_is_named(spoilt):
    spoilt(count("distance_evals"))
    output = run(*SMALL, "--backends", "cython,spoilt", code=1)
    for phase in ("search L1", "mechanisms L2", "decision L0"):
        assert f"FAILED: spoilt {phase} and cython {phase} count differently" in output
    assert "different bits" not in output
    spoilt(swap)
    output = run(*SMALL, "--backends", "cython,spoilt", code=1)
    for phase in ("search L1", "decision L0", "screen"):
        assert f"FAILED: spoilt {phase} and cython search L1 return different bits" in output


def test_phases_of_what_a_backend_lacks(install_liar):
    poor = install_liar(lambda out: None, "poor")
    poor.capabilities = Capabilities(frozenset({"bitset"}), "not much")
    flat = [part for part in SMALL if part not in ("--inducing", "20")]
    output = run("--workload", "euclidean", *flat, "--backends", "poor", "--json", "-")
    found = json.loads(output[output.index("{\n") :])
    assert [row["name"] for row in found["rows"]] == ["poor search L1", "poor mechanisms L2"]
    assert found["settings"]["poor mechanisms L2"]["visited"] == "bitset"
    assert found["settings"]["poor mechanisms L2"]["stream_tile"] == 1
    assert "decision and screen are left out: the tree answers this workload." in found["notes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backends", "cython,cython"], "'cython' is named twice; name each backend once."),
        (["--backends", "cython", "--matrix"], "--backends excludes --rows and --matrix"),
        (["--backends", "cython", "--rows", "cython/parity"], "--backends excludes --rows and --matrix"),
        (["--backends", "nobody"], "unknown backend 'nobody'"),
    ],
)
def test_mistakes_about_backends(options, message):
    assert message in run(*SMALL, *options, code=2)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "what", [["--rows", "numba/gold,cython/parity,cython/exact"], ["--matrix"], ["--backends", "cython"]]
)
def test_nothing_is_wider_than_the_screen(columns, what):
    output = run(*SMALL, *what, columns=columns)
    assert max(map(len, output.splitlines())) <= columns
    assert ("at work" in output) == (columns == 120 and what == ["--matrix"])


def test_json_on_stdout():
    output = run(*SMALL, "--rows", "cython/parity", "--json", "-")
    found = json.loads(output[output.index("{\n") :])
    assert found["command"].endswith("--rows cython/parity --json -")
    assert found["rows"][0]["ratio_to_gold"] is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("vif", "vif100k workload, n = 300, d = 5, Matern32.*k = 5, 40 queries, predecessors"),
        ("euclidean", "euclidean workload, n = 300, d = 3, Euclidean distance, k = 5, 40 queries\n"),
        ("cities", "cities workload, n = 300, d = 3, Matern32"),
    ],
)
def test_workloads(name, shown):
    small = [part for part in SMALL if name != "euclidean" or part not in ("--inducing", "20")]
    output = run("--workload", name, *small, "--rows", "cython/parity,cython/exact")
    assert re.search(shown, output)
    assert "All rows agree" in output


def test_gold_has_the_queries_of_the_gold_workload():
    ours, gold = workloads.make_workload("gold", n=500, queries=70), workloads.gold(500, queries=70)
    assert np.array_equal(ours.queries, gold.queries)
    assert np.array_equal(ours.X, gold.X)
    assert (ours.k, ours.predecessors, ours.metric["inducing"]) == (gold.k, gold.predecessors, 512)
    assert workloads.make_workload("vif", n=50, predecessors=False).predecessors is False


def test_an_approximate_row_may_differ_but_must_meet_its_target(monkeypatch):
    low = cx.PARITY.replace(budget_schedule=(8,))
    monkeypatch.setitem(compare.PROFILES, "fast", low)
    output = run(*SMALL, "--rows", "cython/fast,cython/exact,cython/parity")
    assert "All rows agree: recall 1.0, the same bits, 1 approximate with the recall shown." in output
    tree = workloads.make_workload("gold", n=300, inducing=20, queries=40).tree(1)
    found = compare.compare(tree, np.arange(9), 5, compare.parse_contenders(["cython/fast", "cython/parity"]))
    assert found.reference.contender.name == "cython/parity"
    assert not found.runs[0].same_bits
    assert found.differences == ()
    assert compare._least_recall(low) is None
    assert compare._least_recall(cx.FAST) == cx.FAST.recall_target


# ---------------------------------------------------------------------------------------------------------------------
# Faults


def test_different_bits_are_shown_beside_the_oracle(here, spoilt):
    spoilt(swap)
    rows = ["--rows", "cython/parity,spoilt/parity"]
    output = run(*SMALL, *rows, "--report", "audit.md", "--json", "audit.json", code=1)
    assert "spoilt/parity and cython/parity answer 40 of 40 queries differently, first query 0 (row" in output
    assert "FAILED: spoilt/parity and cython/parity return different bits: query 0" in output
    assert "DIFFER" in output
    found = json.loads((here / "audit.json").read_text())["differences"][0]
    ours, theirs = found["neighbors"]
    assert found["oracle_neighbor"] == ours != theirs
    lines = [line.split() for line in output.splitlines() if line.startswith(("neighbour", "its dist", "by the"))]
    assert lines[0] == ["neighbour", str(ours), str(theirs), str(ours)]
    assert float(lines[2][3]) == pytest.approx(found["distances"][0])
    assert "**FAILED:**" in (here / "audit.md").read_text()
    assert "### spoilt/parity and cython/parity answer 40 of 40" in (here / "audit.md").read_text()


def test_different_counters_are_named(spoilt):
    spoilt(count("yields"))
    output = run(*SMALL, "--rows", "cython/parity,spoilt/parity", code=1)
    assert "spoilt/parity and cython/parity count differently" in output
    ours, theirs = re.search(r"\nyields +(\d+) +(\d+)", output).groups()
    assert int(theirs) == int(ours) + 40
    assert output.count("FAILED") == 1


def test_a_counter_of_what_is_off_is_a_fault(spoilt):
    spoilt(count("caps_applied"))
    output = run(*SMALL, "--rows", "spoilt/parity", code=1)
    assert "FAILED: spoilt/parity counts 40 caps_applied, which its settings switch off" in output


def test_a_recall_below_one_is_a_fault(spoilt):
    def forget(out):
        out.indices[0, -1], out.distances[0, -1] = -1, np.inf

    spoilt(forget)
    assert "FAILED: spoilt/parity has recall 0.9" in run(*SMALL, "--rows", "spoilt/parity", code=1)


def test_a_switch_that_changes_the_answer_is_a_fault(spoilt):
    def spoil_tiles(out):
        if out.counters[:, COUNTERS.index("level_cache_hits")].any():
            swap(out)

    spoilt(spoil_tiles)
    output = run(*SMALL, "--matrix", "--backend", "spoilt", code=1)
    assert "FAILED: level_cache=on and spoilt/parity return different bits" in output
    assert "FAILED: visited=bitset" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "cython"], "'cython' is no backend and profile"),
        (["--rows", "nobody/parity"], "unknown backend 'nobody'"),
        (["--matrix", "--backend", "nobody"], "unknown backend 'nobody'"),
        (["--matrix", "--rows", "cython/parity"], "--rows and --matrix exclude each other"),
        (["--backend", "cython"], "--backend goes with --matrix"),
        (["--workload", "silver"], "silver"),
        (["--workload", "euclidean"], "inducing points have no meaning under Euclidean distance"),
        (["--workload", "cities", "--n", "40000"], "n must be from 1 to 34006, the number of cities, got 40000."),
        (["--queries", "0"], "queries must be an integer of at least 1, got 0."),
        (["--inducing", "-1"], "inducing must be an integer of at least 0, got -1."),
        (["--k", "301"], "k must be from 1 to 300"),
        (["--repeat", "0"], "repeat must be a number of runs"),
        (["--report", "audit.txt"], "output must end in .md"),
        (["--report", "nowhere/audit.md"], "there is no folder nowhere"),
        (["--json", "nowhere/audit.json"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(here, arguments, message):
    output = run(*SMALL, *arguments, code=2)
    assert message in output
    assert "Traceback" not in output


# ---------------------------------------------------------------------------------------------------------------------
# One switch at a time


def test_matrix(here):
    small = ["--n", "600", "--inducing", "30", "--queries", "80", "--k", "8"]
    output = run(*small, "--matrix", "--json", "matrix.json", "--report", "matrix.md")
    assert "No switch changes what it must not: recall 1.0, the same bits, 4 approximate with" in output
    off = "caps_applied, budget_escalations, stop_budget, gate_rejects, gemm_tiles, canonical_rechecks."
    assert f"Off under cython/parity and numba/gold, and counted zero times: {off}" in output
    found = json.loads((here / "matrix.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    for row in rows.values():
        if not row["approximate"]:
            assert row["recall"] == 1.0
            assert row["same_bits_as_first_row"]

    assert rows["level_cache=on"]["evals_to_base"] < 1.0
    assert rows["kth_frontier_stop=off"]["evals_to_base"] > 1.0
    assert rows["dynamic_tile=on"]["base"] == "stream_tile=64"
    assert rows["all of gold's"]["counters"] == rows["numba/gold"]["counters"]
    assert rows["level_cap=256"]["counters"]["caps_applied"] > 0
    assert rows["budget=32,64,96.."]["counters"]["stop_budget"] > 0
    assert rows["budget=32,64,96.."]["recall"] < 1.0
    assert rows["gate=on"]["counters"]["gate_rejects"] > 0
    assert rows["gemm=on"]["counters"]["gemm_tiles"] > 0
    assert rows["gemm=on"]["base"] == "cython/scan"
    assert "# One switch at a time, from parity to gold" in (here / "matrix.md").read_text()


def test_matrix_leaves_out_what_a_backend_lacks_and_says_so():
    output = run("--workload", "euclidean", "--n", 200, "--queries", 20, "--k", 3, "--matrix", "--backend", "numba")
    assert "child_order=nearest is left out: numba lacks child_order." in output
    assert "gate and gemm are left out: they are screens of scans" in output
    assert "visited=bitset" in output


def test_markdown_tables_are_aligned_and_escape_bars():
    grid = Grid([("name/\nkind", "left"), ("a\nb", "right")], [["x|y", "1"], ["longer than this", "22"]])
    assert list(grid.markdown()) == [
        "| name/kind        | a b |",
        "| ---------------- | --: |",
        "| x\\|y             |   1 |",
        "| longer than this |  22 |",
    ]
