"""Processes and approximations in plain NumPy and SciPy, to compare the package with."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

import covertreex as cx

KERNELS = {
    "matern32": cx.Matern32(0.3, variance=1.7),
    "rbf": cx.RBF(0.2, variance=0.4),
    "matern 0.8": cx.Matern(0.25, nu=0.8, variance=2.5),
    "ard": cx.Matern52((0.2, 0.5), variance=30.0),
    "product": cx.RBF(0.4, active_dims=[0]) * cx.Matern12(0.3, variance=2.0, active_dims=[1]),
    "sum": cx.RBF(0.5) + cx.Matern12(0.1, variance=0.3),
    "multiple": 3.0 * (cx.RBF(0.5) + cx.Matern32(0.1)),
}


def points(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 2))


def dense_log_likelihood(covariance, y):
    factor = cho_factor(covariance, lower=True)
    return -0.5 * (len(y) * np.log(2 * np.pi) + 2 * np.sum(np.log(np.diag(factor[0]))) + y @ cho_solve(factor, y))


def tree_of(X, kernel, inducing, **more):
    return cx.cover_tree(X, kernel=kernel, inducing=inducing, **more)


def factors_of(X, Z, kernel):
    """Factors in the units of the kernel's variance, by SciPy."""
    L = cholesky(kernel(Z, Z) + 1e-6 * kernel.variance * np.eye(len(Z)), lower=True)
    return solve_triangular(L, kernel(Z, X), lower=True).T


def plain(C, neighbors):
    """B and D row by row, of a covariance with its noise; in the order of the rows."""
    n = len(C)
    B, D = np.eye(n), np.empty(n)
    for i, row in enumerate(neighbors):
        N = row[row >= 0]
        weights = np.linalg.solve(C[np.ix_(N, N)], C[N, i])
        B[i, N], D[i] = -weights, C[i, i] - weights @ C[N, i]
    return B, D
