"""Nearest neighbours under the residual correlation of Vecchia and VIF Gaussian processes, by cover trees.

>>> import numpy as np, covertreex as cx
>>> X = np.random.default_rng(0).normal(size=(1000, 3))
>>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.5), inducing=100)
>>> tree.knn(k=10, predecessor_mode=True).shape
(1000, 10)
"""

try:
    import covertreex._core.canonical  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"the compiled parts of covertreex are missing from {__path__[0]}. If that is the source folder, Python found "
        "it before the installed package: run Python elsewhere, or install in place (python -m pip install -e .)."
    ) from error

from covertreex import oracle, ordering, outputs, plot, vecchia
from covertreex._version import __version__ as __version__
from covertreex.backends.registry import get_backend, list_backends, refresh
from covertreex.covertree import CoverTree, cover_tree, load
from covertreex.data.metrics import Correlation, Euclidean, ResidualCorrelation
from covertreex.errors import (
    BackendError,
    BackendWarning,
    CovertreexError,
    FactorizationError,
    FileFormatError,
    InvalidInputError,
    InvariantError,
    SettingsError,
)
from covertreex.kernels import (
    RBF,
    Cauchy,
    Cosine,
    Covariance,
    DampedCosine,
    Gneiting,
    Isotropic,
    Matern,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    PoweredExponential,
    Product,
    RationalQuadratic,
    Spherical,
    Sum,
    Wendland,
)
from covertreex.results import RadiusResult, SearchResult
from covertreex.settings import EXACT, FAST, GOLD, PARITY, TraversalSettings, settings_from_env

__all__ = [
    "EXACT",
    "FAST",
    "GOLD",
    "PARITY",
    "RBF",
    "BackendError",
    "BackendWarning",
    "Cauchy",
    "Correlation",
    "Cosine",
    "Covariance",
    "CoverTree",
    "CovertreexError",
    "DampedCosine",
    "Euclidean",
    "FactorizationError",
    "FileFormatError",
    "Gneiting",
    "InvalidInputError",
    "InvariantError",
    "Isotropic",
    "Matern",
    "Matern12",
    "Matern32",
    "Matern52",
    "Periodic",
    "PoweredExponential",
    "Product",
    "RadiusResult",
    "RationalQuadratic",
    "ResidualCorrelation",
    "SearchResult",
    "SettingsError",
    "Spherical",
    "Sum",
    "TraversalSettings",
    "Wendland",
    "cover_tree",
    "get_backend",
    "list_backends",
    "load",
    "oracle",
    "ordering",
    "outputs",
    "plot",
    "refresh",
    "settings_from_env",
    "vecchia",
]
