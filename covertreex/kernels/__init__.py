"""Covariance functions: what people fit, and how canonical arithmetic evaluates it."""

from covertreex.kernels.called import Covariance
from covertreex.kernels.closed import CLOSED, RBF, Matern12, Matern32, Matern52, RationalQuadratic
from covertreex.kernels.columns import Columns
from covertreex.kernels.kernel import Functions, Kernel, Plain, Product, Scaled, Stationary, Sum
from covertreex.kernels.table import Expression, Table

__all__ = [
    "CLOSED", "RBF", "Columns", "Covariance", "Expression", "Functions", "Kernel", "Matern12", "Matern32", "Matern52", "Plain",
    "Product", "RationalQuadratic", "Scaled", "Stationary", "Sum", "Table", "named_kernels", "names_of_kernels",
]  # fmt: skip


def named_kernels() -> dict[str, type[Stationary]]:
    """Every kernel of one function of a distance, by the name of its class in lower case, as options and files have it.

    Examples
    --------
    >>> "matern32" in named_kernels()
    True
    """
    found: dict[str, type[Stationary]] = {}

    def collect(cls: type[Stationary]) -> None:
        for below in cls.__subclasses__():
            if below.__module__.startswith("covertreex.kernels") and below.__name__ != "Closed":
                found[below.__name__.lower()] = below
            collect(below)

    collect(Stationary)
    return found


def names_of_kernels() -> str:
    """The names of all kernels, for messages.

    Examples
    --------
    >>> names_of_kernels().startswith("RBF, Matern12")
    True
    """
    *others, last = (cls.__name__ for cls in named_kernels().values())
    return f"{', '.join(others)} or {last}"
