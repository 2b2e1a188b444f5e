"""`covertreex gold` proves that all rows agree, and fails where they do not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from covertreex.backends import registry, telemetry
from covertreex.cli import app
from covertreex_bench import compare

SMALL = ["--n", "300", "--inducing", "20", "--queries", "40", "--k", "5", "--threads", "2"]


def run(*arguments, code=0):
    """Output of a command on a wide screen; it must end with exit code `code`."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


def test_gold_proves_that_all_rows_agree(here):
    output = run("gold", *SMALL, "--json", "gold.json", "--telemetry", "lines.jsonl")
    assert "All rows agree: recall 1.0, the same bits, the same counters under parity." in output
    found = json.loads((here / "gold.json").read_text())
    names = [f"{row['backend']}/{row['profile']}" for row in found["rows"]]
    assert names[:4] == ["numba/gold", "numba/parity", "cython/parity", "cython/exact"]
    assert all(row["recall"] == 1.0 and row["same_bits_as_first_row"] for row in found["rows"])
    parity = [row for row in found["rows"] if row["profile"] == "parity"]
    assert all(row["same_counters_as_first_parity_row"] for row in parity)
    assert parity[0]["counters"] == parity[1]["counters"]
    assert found["problems"] == []
    assert found["machine"]["threads"] == 2
    lines = [telemetry.check_line(line) for line in (here / "lines.jsonl").read_text().splitlines()]
    assert {(line["backend"], line["profile"]) for line in lines} == {tuple(name.split("/")) for name in names}


def test_gold_options_reach_the_search():
    arguments = ["--kernel", "matern12", "--lengthscale", "0.5,1,2", "--predecessors", "--repeat", "2"]
    output = run("gold", *SMALL, *arguments, "--rows", "cython/parity,cython/exact")
    assert "Matern12(lengthscale=(0.5, 1.0, 2.0), variance=1.0)" in output
    assert "predecessors" in output
    assert "medians of 2 runs" in output
    assert "same bits" in output


def test_gold_without_inducing_points():
    assert "All rows agree" in run("gold", *SMALL, "--inducing", "0", "--rows", "cython/parity,cython/exact")


def test_gold_json_on_stdout_is_nothing_but_json():
    """In a process of its own, so that stdout and stderr are what a pipe would see."""
    command = [sys.executable, "-m", "covertreex.cli", "gold", *SMALL, "--rows", "cython/parity", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert json.loads(done.stdout)["workload"]["n"] == 300
    assert "All rows agree: recall 1.0." in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_gold_fails_where_bits_differ(install_liar):
    def swap(out):
        out.indices[:, :2] = out.indices[:, 1::-1].copy()

    install_liar(swap)
    output = run("gold", *SMALL, "--rows", "cython/parity,liar/parity", code=1)
    assert "FAILED: liar/parity and cython/parity return different bits: query 0" in output
    assert "DIFFER" in output
    assert "agree" not in output


def test_gold_fails_where_recall_is_below_one(install_liar):
    def forget(out):
        out.indices[0, -1], out.distances[0, -1] = -1, np.inf

    install_liar(forget)
    output = run("gold", *SMALL, "--rows", "liar/parity", code=1)
    assert "FAILED: liar/parity has recall 0.9" in output


def test_gold_fails_where_counters_differ(install_liar):
    def miscount(out):
        out.counters[:, telemetry.COUNTERS.index("yields")] += 1

    install_liar(miscount)
    output = run("gold", *SMALL, "--rows", "cython/parity,liar/parity,liar/exact", code=1)
    assert "liar/parity and cython/parity count differently: block 0, yields" in output
    assert output.count("FAILED") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "cython"], "'cython' is no backend and profile; write backend/profile"),
        (["--rows", "cython/quick"], "one of gold, parity, exact"),
        (["--rows", "nobody/parity"], "unknown backend 'nobody'; installed: "),
        (["--rows", "cython/gold"], "the gold profile runs on the numba backend alone"),
        (["--k", "301"], "k must be from 1 to 300"),
        (["--n", "0"], "n must be an integer of at least 1, got 0."),
        (["--inducing", "301"], "inducing must be from 1 to n = 300 points, got 301."),
        (["--lengthscale", "wide"], "lengthscale must be a number, or numbers between commas; got 'wide'."),
        (["--lengthscale", "1,2"], "the kernel has 2 lengthscales, but the data has 3 columns."),
        (["--repeat", "0"], "repeat must be a number of runs, at least 1, got 0."),
        (["--threads", "0"], "n_threads must be a positive integer"),
        (["--json", "nowhere/gold.json"], "there is no folder nowhere"),
        (["--telemetry", "."], "it is a folder"),
        (["--kernel", "linear"], "linear"),
    ],
)
def test_gold_mistakes_are_one_line_and_exit_code_2(here, arguments, message):
    output = run("gold", *SMALL, "--rows", "cython/parity", *arguments, code=2)
    assert message in output
    assert "Traceback" not in output


def test_default_rows_leave_out_a_broken_rust_and_say_so(install):
    install(registry.BackendInfo("rust", "covertreex-rust", "0.1", "r:b", "broken", reason="no wheel"))
    contenders, notes = compare.default_contenders()
    assert {contender.backend for contender in contenders} == {"numba", "cython"}
    assert notes == ["rust is broken and left out: no wheel."]
