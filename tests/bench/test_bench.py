"""The benchmarks run, put a recall beside every time, and are not collected by a plain pytest."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import plugins
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "bench").is_dir(), reason="no bench folder beside the tests")


def run_pytest(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERTREEX_", "PYTEST_"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_figures_come_with_recall_and_counters(tmp_path):
    pytest.importorskip("pytest_benchmark")
    small = ["--points", 200, "--queries", 20, "--inducing", 10, "--neighbors", 4, "--workload", "gold"]
    few = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.01", f"--benchmark-json={tmp_path / 'found.json'}"]
    output = run_pytest("bench", *small, *few, "--rows", "numba/gold,cython/parity,cython/exact")
    assert "recall beside every time" in output
    assert re.search(r"\b5 passed", output)
    found = json.loads((tmp_path / "found.json").read_text())["benchmarks"]
    queries = [one for one in found if one["name"].startswith("test_queries")]
    assert [one["params"]["row"] for one in queries] == ["numba/gold", "cython/parity", "cython/exact"]
    assert {one["group"] for one in queries} == {"gold"}
    assert {one["extra_info"]["recall"] for one in queries} == {1.0}
    assert len({one["extra_info"]["answer"] for one in queries}) == 1
    assert all(one["extra_info"]["counters"]["distance_evals"] > 0 for one in queries)
    assert all(one["extra_info"]["n"] == 200 for one in found)


def test_a_stranger_runs_when_it_is_named(tmp_path, monkeypatch):
    pytest.importorskip("pytest_benchmark")
    plugins.install(tmp_path, "cx-lent", "lent", plugins.GOOD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    small = ["--points", 200, "--queries", 20, "--inducing", 10, "--neighbors", 4, "--workload", "gold"]
    few = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.01", "-k", "queries"]
    output = run_pytest("bench", *small, *few, "--backend", "lent")
    assert re.search(r"gold +lent/parity +[\d.]+ +[\d,]+ +1\.0 ", output)
    assert re.search(r"\b3 passed", output)
    collected = run_pytest("bench", "--collect-only", "--workload", "gold")
    assert "cython/parity" in collected
    assert "lent/" not in collected


def test_a_plain_run_collects_no_benchmark(request):
    assert "bench" not in request.config.getini("testpaths")
