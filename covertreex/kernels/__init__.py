"""Covariance functions: what people fit, and how canonical arithmetic evaluates it."""

from dataclasses import fields

from covertreex.kernels.called import Covariance
from covertreex.kernels.closed import CLOSED, RBF, Matern12, Matern32, Matern52, RationalQuadratic
from covertreex.kernels.columns import Columns
from covertreex.kernels.expression import Expression
from covertreex.kernels.families import Cauchy, DampedCosine, Matern, PoweredExponential, Spherical, Wendland
from covertreex.kernels.functions import Functions, Plain
from covertreex.kernels.gneiting import Gneiting
from covertreex.kernels.isotropic import Isotropic
from covertreex.kernels.kernel import Kernel, Product, Scaled, Sum
from covertreex.kernels.periodic import Cosine, Periodic
from covertreex.kernels.stationary import Stationary
from covertreex.kernels.table import Table

__all__ = [
    "CLOSED", "RBF", "Cauchy", "Columns", "Cosine", "Covariance", "DampedCosine", "Expression", "Functions",
    "Gneiting", "Isotropic", "Kernel", "Matern", "Matern12", "Matern32", "Matern52", "Periodic", "Plain",
    "PoweredExponential", "Product", "RationalQuadratic", "Scaled", "Spherical", "Stationary", "Sum", "Table",
    "Wendland", "named_kernels", "names_of_kernels",
]  # fmt: skip


def named_kernels() -> dict[str, type[Stationary]]:
    """Every kernel that lengthscales and a variance suffice for, by the name of its class in lower case.

    Examples
    --------
    >>> "matern32" in named_kernels()
    True
    """
    found: dict[str, type[Stationary]] = {}

    def collect(cls: type[Stationary]) -> None:
        for below in cls.__subclasses__():
            concrete = below.correlation is not Stationary.correlation
            required = any(field.name == "function" for field in fields(below))
            if below.__module__.startswith("covertreex.kernels") and concrete and not required:
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
