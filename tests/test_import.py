"""Importing covertreex is quick and imports no backend."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import covertreex as cx


def run(program, cwd):
    """What a fresh interpreter prints."""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=cwd, check=False)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


#: Modules that only some people need, and that cost time.
HEAVY = (
    "dask",
    "distributed",
    "pandas",
    "covertreex_bench",
    "numba",
    "llvmlite",
    "matplotlib",
    "scipy",
    "typer",
    "rich",
    "covertreex_numba",
    "covertreex_cython",
    "covertreex_rust",
)


@pytest.mark.parametrize(
    "program",
    [
        "import covertreex",
        "import covertreex as cx; cx.PARITY.digest(); cx.settings_from_env()",
        "import covertreex as cx; cx.cover_tree([[0.0], [1.0]], kernel=cx.RBF(), inducing=1).tree",
    ],
    ids=["import", "settings", "build"],
)
def test_import_is_light(program, tmp_path):
    loaded = run(f"import sys; {program}; print(*sys.modules)", tmp_path).split()
    assert not set(HEAVY) & set(loaded)


def test_listing_backends_imports_none_of_them(tmp_path):
    loaded = run("import sys, covertreex as cx; cx.list_backends(); print(*sys.modules)", tmp_path).split()
    assert "covertreex.backends.registry" in loaded
    assert not {"covertreex_numba", "covertreex_cython", "numba", "llvmlite", "covertreex._core.search"} & set(loaded)


def test_cython_search_imports_no_numba(tmp_path):
    program = "import covertreex as cx; cx.cover_tree([[0.0], [1.0]]).knn(1, backend='cython')"
    assert "numba" not in run(f"import sys; {program}; print(*sys.modules)", tmp_path).split()


def import_seconds(module, cwd):
    program = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(run(program, cwd))


def test_import_is_quick(tmp_path):
    """Under 0.3 s, or on a machine so busy that NumPy alone takes long, under 4.5 times that."""
    ours = numpys = float("inf")
    for _ in range(10):
        numpys = min(numpys, import_seconds("numpy", tmp_path))
        ours = min(ours, import_seconds("covertreex", tmp_path))
        if ours < 0.3:
            break
    assert ours < max(0.3, 4.5 * numpys)


def test_public_names(tmp_path):
    program = "import covertreex as cx; assert all(hasattr(cx, name) for name in cx.__all__); print(len(cx.__all__))"
    assert int(run(program, tmp_path)) > 20
    assert run("from covertreex import *; print(cover_tree.__name__, GOLD.profile)", tmp_path) == "cover_tree gold"


def test_source_folder_without_compiled_parts_says_so(tmp_path):
    """What a newcomer meets who installs, stays in the source folder, and starts Python there."""
    source = Path(cx.__file__).parent
    shutil.copytree(source, tmp_path / "covertreex", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", "import covertreex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "compiled parts of covertreex are missing" in done.stderr
    assert "pip install -e ." in done.stderr
