"""The house: no circles, no import without a reason inside a function, and every tuned number with its facts."""

import ast
import re
from pathlib import Path

import pytest

import covertreex
from covertreex.base import tuning

ROOT = Path(covertreex.__file__).parent
MODULES = {
    ".".join(("covertreex", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py*"))
    if path.suffix in (".py", ".pyx") and "__pycache__" not in path.parts
}

#: What may be imported inside a function: heavy or optional, so that who does not use it need not have it loaded.
DEFERRED = {
    "covertreex.dask", "dask", "matplotlib", "multiprocessing", "numba", "pandas", "polars", "pyarrow", "pytest",
    "rich", "safetensors", "scipy", "threadpoolctl", "torch",
}  # fmt: skip


def imports_of(name):
    """(module, whether inside a function) of what a module imports; of a .pyx, its lines that do."""
    path = MODULES[name]
    if path.suffix == ".pyx":
        for line in path.read_text().splitlines():
            found = re.match(r"\s*(?:from (covertreex[\w.]*) c?import (\w+)|import (covertreex[\w.]*))", line)
            if found:
                module = found[1] or found[3]
                yield f"{module}.{found[2]}" if f"{module}.{found[2]}" in MODULES else module, line[:1].isspace()
        return
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module, id(node) in inside


def test_no_module_imports_itself_in_the_end():
    """Lazy imports count, and so do those of compiled modules."""
    arrows = {name: {module for module, _ in imports_of(name) if module in MODULES} for name in MODULES}
    assert sum(map(len, arrows.values())) > 150, "this test reads imports no longer"
    left = dict(arrows)
    while True:  # whoever imports nothing that is left is in no circle
        free = [name for name, others in left.items() if not others & left.keys() - {name}]
        if not free:
            break
        for name in free:
            del left[name]
    assert left == {}, f"a circle among {sorted(left)}"


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.suffix == ".py"])
def test_an_import_inside_a_function_defers_what_is_heavy(name):
    wrong = [
        module
        for module, inside in imports_of(name)
        if inside and module not in DEFERRED and module.split(".")[0] not in DEFERRED
    ]
    assert wrong == [], f"{name} imports {wrong} inside a function"


def test_the_library_does_not_know_what_measures_it():
    assert not [name for name in MODULES for module, _ in imports_of(name) if module.startswith("covertreex_bench")]


#: The only modules of covertreex that a backend may import, and what our own may besides: cython lends what is compiled
#: with covertreex.
OF_BACKENDS = {"covertreex.protocols"}
BESIDES = {"covertreex_cython": {"covertreex._core.canonical", "covertreex._core.search", "covertreex._core.scan"}}


@pytest.mark.parametrize("package", ["covertreex_cython", "covertreex_numba", "covertreex_rust", "covertreex_template"])
def test_a_backend_imports_what_is_for_backends(package):
    folder = next((Path(__file__).parents[1] / "backends").glob(f"*/**/{package}"))
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES) or {node.module}
    imported = {module for module in imported if module.partition(".")[0] == "covertreex"}
    assert "covertreex.protocols" in imported
    assert imported <= OF_BACKENDS | BESIDES.get(package, set())


def test_every_tuned_constant_has_its_facts(monkeypatch):
    from covertreex_bench.speed import suites

    monkeypatch.undo()  # what all tests change
    constants = {name for name in vars(tuning) if name.isupper()} - {"FACTS", "T"}
    assert constants == set(tuning.FACTS)
    for name, fact in tuning.FACTS.items():
        assert fact.value is getattr(tuning, name)
        assert fact.found in ("measured", "tried", "chosen"), name
        assert fact.unit, name
        assert fact.trades, name
        assert set(fact.suites) <= set(suites.SUITES), name
        assert fact.suites or fact.found == "chosen", name


def test_every_tuned_constant_is_used():
    text = "\n".join(path.read_text() for name, path in MODULES.items() if name != "covertreex.base.tuning")
    assert [name for name in tuning.FACTS if f"tuning.{name}" not in text] == []


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their bare names: of two that are called alike, one is taken for the other."""
    names = [path.stem for path in Path(__file__).parent.rglob("*.py") if path.stem not in ("conftest", "__init__")]
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))
