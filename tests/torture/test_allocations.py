"""Memory that cannot be had is a MemoryError, whichever allocation fails; the same tree answers right afterwards."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import size
from starve import SCENARIOS, WHOSE

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CC", "cc"))
TRIES = {"core": size(6, 10**9), "numpy": size(3, 400)}

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs LD_PRELOAD and the allocator of glibc"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The path of failing_malloc.c, compiled."""
    path = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", path, HERE / "failing_malloc.c"], check=True)
    return path


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_failed_allocation_is_a_memory_error(shim, scenario, whose):
    done = subprocess.run(
        [sys.executable, HERE / "starve.py", scenario, whose, str(TRIES[whose])],
        env=os.environ | {"LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=size(600, 7200),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    print(report)
    if report["allocations"] == 0:
        pytest.skip(f"no allocation of {whose} is large enough to be failed in {scenario}")
    assert report["wrong"] == [], report
    assert report["leaked"] == [], report
    assert report["tried"] == report["errors"] + report["unharmed"]
