"""Compiled kernels, in Cython and C, which must have been built with the contract that Python goes by."""

import covertreex._core.canonical as canonical  # and not from: what is missing is a module
from covertreex.base.contract import difference

__all__ = ["canonical"]

# What was built before there was a contract has none.
_differing = difference(getattr(canonical, "built_with", dict)())
if _differing:
    raise ImportError(
        f"the compiled parts of covertreex in {__path__[0]} were built with another contract than its Python files "
        f"have: {_differing}. Build them again: python -m pip install --force-reinstall . in the source folder, or "
        "with -e if it is installed in place."
    )
