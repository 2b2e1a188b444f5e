"""Every kernel that there is, at a few settings, for points of three columns; and what each is by the textbook."""

import dataclasses
import math

import mpmath as mp
import numpy as np

import covertreex as cx
from covertreex.kernels import Kernel
from covertreex.kernels.closed import Closed
from covertreex.kernels.kernel import Scaled
from covertreex.kernels.stationary import Stationary


def whittle(r):
    return (1.0 + r) * np.exp(-r)


#: Settings of classes that have more to set than lengthscale and variance. A class that is not here has the usual ones.
SETTINGS = {
    cx.RationalQuadratic: [{"alpha": 0.3}, {"lengthscale": (0.3, 0.5, 2.0), "alpha": 5.0}],
    cx.Matern: [
        {"nu": 0.05},
        {"nu": 0.3, "variance": 2.0},
        {"nu": 1.5},
        {"nu": 1.1, "lengthscale": (0.3, 0.5, 2.0)},
        {"nu": 100.0},
    ],
    cx.PoweredExponential: [{"power": 0.1}, {"power": 1.0}, {"power": 1.7, "lengthscale": 0.4}, {"power": 2.0}],
    cx.Cauchy: [
        {"alpha": 0.2, "beta": 0.1},
        {"alpha": 2.0, "beta": 3.0},
        {"lengthscale": 0.3, "alpha": 1.3, "beta": 20.0},
    ],
    cx.Wendland: [
        {"smoothness": 0, "lengthscale": 0.5},
        {"smoothness": 1},
        {"smoothness": 2, "dimension": 5},
        {"smoothness": 3},
    ],
    cx.DampedCosine: [{"frequency": 0.577, "lengthscale": 0.2}, {"frequency": 2.0, "dimension": 1, "active_dims": [1]}],
    cx.Periodic: [
        {"period": 0.4},
        {"period": (0.4, 1.0, 3.0), "lengthscale": (0.5, 1.0, 2.0)},
        {"period": 0.3, "active_dims": [0, 2]},
    ],
    cx.Cosine: [{"period": 0.7, "active_dims": [1]}, {"lengthscale": 0.1, "period": 3.0, "active_dims": [2]}],
    cx.Isotropic: [
        {"function": whittle, "lengthscale": 0.3},
        {"function": lambda r: np.maximum(1 - r / 3, 0.0) ** 2, "breakpoints": 3.0},
    ],
    cx.Gneiting: [
        {},
        {"beta": 0.0, "nu": 1.5},
        {"beta": 1.0, "alpha": 1.0, "delta": 0.0, "lengthscale_space": (0.2, 0.5)},
        {"nu": 1.1, "alpha": 0.3, "beta": 0.4, "time_dims": [0], "lengthscale_time": 0.2},
        {"nu": 2.5, "space_dims": [2], "time_dims": [0], "lengthscale_space": 0.4},
    ],
}

USUAL = [{}, {"lengthscale": (0.3, 0.5, 2.0), "variance": 2.5}, {"lengthscale": 0.2, "active_dims": [2, 0]}]


def classes():
    """Classes of kernels that are a formula each."""

    def below(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    others = (Scaled, cx.Sum, cx.Product, cx.Covariance)
    found = [
        cls for cls in below(Kernel)
        if cls.__module__.startswith("covertreex.kernels") and dataclasses.is_dataclass(cls)
        and not cls.__name__.startswith("_") and cls not in (Stationary, Closed) and not issubclass(cls, others)
    ]  # fmt: skip
    return list(dict.fromkeys(found))


EVERY = [cls(**setting) for cls in classes() for setting in SETTINGS.get(cls, USUAL)]

COMPOSED = [
    cx.RBF(0.5) + cx.Matern12(0.2, variance=0.3),
    cx.RBF(0.5, active_dims=[0, 1]) * cx.Matern(0.3, nu=0.8, active_dims=[2]),
    2.0 * (cx.Periodic(0.5, period=0.3, active_dims=[2]) * cx.RBF(1.0) + cx.Spherical(0.7)),
    cx.Cosine(0.4, active_dims=[0]) * cx.Cosine(0.9, active_dims=[1]) * cx.Matern12(0.5),
    cx.Gneiting(0.4, 0.3) + cx.Wendland(0.8, variance=0.5),
    cx.Isotropic(whittle, 0.3) * cx.Cauchy(0.5) + cx.RationalQuadratic(2.0, variance=0.1),
]


def matern(nu, r):
    nu, r = mp.mpf(nu), mp.mpf(r)
    if r == 0:
        return mp.mpf(1)
    x = mp.sqrt(2 * nu) * r
    return 2 ** (1 - nu) / mp.gamma(nu) * x**nu * mp.besselk(nu, x)


def wendland(kernel, r):
    """By the integrals that define them: Wendland (1995); Fasshauer, Meshfree Approximation Methods, section 11.2."""
    power = kernel.dimension // 2 + kernel.smoothness + 1
    if r >= 1:
        return mp.mpf(0)

    def by_coefficients(coefficients):
        # int_r^1 s p(s) ds, of powers of s
        raised = [mp.mpf(0), mp.mpf(0), *(c / (i + 2) for i, c in enumerate(coefficients))]
        return [mp.fsum(raised) - raised[0], *(-c for c in raised[1:])]

    coefficients = [mp.mpf((-1) ** i) * mp.binomial(power, i) for i in range(power + 1)]
    for _ in range(kernel.smoothness):
        coefficients = by_coefficients(coefficients)
    return mp.fsum(c * mp.mpf(r) ** i for i, c in enumerate(coefficients)) / coefficients[0]


#: Correlations by distance, in 40 digits.
OF_DISTANCE = {
    cx.RBF: lambda k, r: mp.exp(-r * r / 2),
    cx.Matern12: lambda k, r: mp.exp(-r),
    cx.Matern32: lambda k, r: (1 + mp.sqrt(3) * r) * mp.exp(-mp.sqrt(3) * r),
    cx.Matern52: lambda k, r: (1 + mp.sqrt(5) * r + 5 * r * r / 3) * mp.exp(-mp.sqrt(5) * r),
    cx.RationalQuadratic: lambda k, r: (1 + r * r / (2 * mp.mpf(k.alpha))) ** -mp.mpf(k.alpha),
    cx.Matern: lambda k, r: matern(k.nu, r),
    cx.PoweredExponential: lambda k, r: mp.exp(-(r ** mp.mpf(k.power))),
    cx.Cauchy: lambda k, r: (1 + r ** mp.mpf(k.alpha)) ** (-mp.mpf(k.beta) / mp.mpf(k.alpha)),
    cx.Wendland: wendland,
    cx.Spherical: lambda k, r: 1 - mp.mpf(3) / 2 * r + r**3 / 2 if r < 1 else mp.mpf(0),
    cx.DampedCosine: lambda k, r: mp.exp(-r) * mp.cos(mp.mpf(k.frequency) * r),
    cx.Isotropic: lambda k, r: mp.mpf(float(k.function(np.array([float(r)]))[0])) if r else mp.mpf(1),
}


def gneiting(kernel, a, b):
    time = list(kernel.time_dims or [len(a) - 1])
    space = list(kernel.space_dims or [j for j in range(len(a)) if j not in time])
    h = mp.sqrt(mp.fsum(x * x for x in (a[space] - b[space]) / np.broadcast_to(kernel.lengthscale_space, len(space))))
    u = mp.sqrt(mp.fsum(x * x for x in (a[time] - b[time]) / kernel.lengthscale_time))
    psi = (1 + u ** (2 * mp.mpf(kernel.alpha))) ** mp.mpf(kernel.beta)
    separable = (1 + u ** (2 * mp.mpf(kernel.alpha))) ** -mp.mpf(kernel.delta)
    return separable * psi ** (-mp.mpf(kernel.dimension) / 2) * matern(kernel.nu, h / mp.sqrt(psi))


#: Correlations of two points, in the columns that are compared.
OF_POINTS = {
    cx.Periodic: lambda k, a, b: mp.exp(
        -2 * mp.fsum((mp.sin(mp.pi * x / p) / w) ** 2 for x, p, w in zip(
            a - b, np.broadcast_to(k.period, len(a)), np.broadcast_to(k.lengthscale, len(a)), strict=True
        ))
    ),
    cx.Cosine: lambda k, a, b: mp.cos(2 * mp.pi * (a[0] - b[0]) / mp.mpf(k.lengthscale) / k.period),
}  # fmt: skip


def textbook(kernel, A, B):
    """The covariance matrix, entry by entry."""

    def one(a, b):
        if isinstance(kernel, cx.Gneiting):
            return gneiting(kernel, a, b)
        if kernel.active_dims is not None:
            a, b = a[list(kernel.active_dims)], b[list(kernel.active_dims)]
        if type(kernel) in OF_POINTS:
            return OF_POINTS[type(kernel)](kernel, a, b)
        lengthscale = np.broadcast_to(kernel.lengthscale, len(a))
        return OF_DISTANCE[type(kernel)](kernel, mp.mpf(math.dist(a / lengthscale, b / lengthscale)))

    with mp.workdps(40):
        return np.array([[float(kernel.variance * one(a, b)) for b in B] for a in A])


def words(kernel):
    """For names of tests."""
    return repr(kernel)[:90].replace(" ", "")
