"""Results and everything else that holds arrays: ``==`` and `hash` are those of any object."""

import dataclasses
import importlib
import pkgutil

import pytest

import covertreex as cx
from covertreex.kernels import Kernel

#: Modules that draw, or that start when they are imported.
NOT_IMPORTED = ("__main__", "pictures", "conftest", "test_backend")


def classes_with_arrays():
    """Every data class of the package that says it holds an array."""
    found = set()
    for module in pkgutil.walk_packages(cx.__path__, "covertreex."):
        if module.name.rpartition(".")[2] not in NOT_IMPORTED:
            found |= {
                one
                for one in vars(importlib.import_module(module.name)).values()
                if dataclasses.is_dataclass(one)
                and isinstance(one, type)
                and not issubclass(one, Kernel)  # some take functions of arrays, and have none
                and any("ndarray" in str(field.type) for field in dataclasses.fields(one))
            }
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("one", classes_with_arrays(), ids=lambda one: one.__name__)
def test_what_holds_arrays_is_compared_by_identity(one):
    """``==`` of fields compares arrays, and what comes out has no truth."""
    assert one.__eq__ is object.__eq__
    assert one.__hash__ is object.__hash__


def test_results_can_be_compared_and_kept_in_sets():
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    results = [tree.search(k=2), tree.search(k=2), tree.radius(1.5), tree.radius(1.5)]
    assert all((one == other) is (one is other) for one in results for other in results)
    assert len(set(results)) == 4
    assert results.index(results[3]) == 3
