"""Fit a Vecchia-inducing-points (VIF) Gaussian process by maximum likelihood, with neighbours from covertreex.

The data: y = f(x) + noise at n random places of the unit square, f a Gaussian process with a Matern 3/2 kernel.
The model (arXiv 2507.05064): m inducing points carry the large scale of f, as a process of rank m. What they leave,
the residual process, is small and short-ranged; together with the noise it gets a Vecchia approximation: every point is
regressed on k neighbours before it in a random order. The best neighbours are those most correlated *in the residual
process*, so they change with the lengthscale, and the fit asks for them anew between runs of the optimiser.

    python examples/vif_gaussian_process.py                         # 20,000 points
    python examples/vif_gaussian_process.py --n 2000                # a smaller run
    python examples/vif_gaussian_process.py --check                 # against a dense Gaussian process, and GPBoost
    python examples/vif_gaussian_process.py --compare               # residual neighbours against Euclidean ones
    python examples/vif_gaussian_process.py --picture neighbors.png # needs matplotlib

Notation. Covariances are in units of the variance s of f: the kernel has variance 1, noise stands for (noise variance)
over s, and s itself is profiled out of the likelihood. V (n x m) has rows v_i = L^-1 k(Z, x_i) with L = chol(k(Z, Z) +
jitter): the inducing points explain V V', and the residual covariance is c_ij = k(x_i, x_j) - v_i . v_j.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

import covertreex as cx

#: What makes the data, and what the fit must find again.
TRUTH = {"variance": 1.5, "lengthscale": 0.08, "noise": 0.25}

#: Added to k(Z, Z): the default of `covertreex.cover_tree`.
JITTER = 1e-6


def matern32(r2, lengthscale):
    """Matern 3/2 correlation at squared distances `r2`."""
    a = np.sqrt(3.0 * r2) / lengthscale
    return (1.0 + a) * np.exp(-a)


def simulate(n, seed=0, side=1024):
    """Draw places and data from the true model, exactly.

    The places are distinct nodes of a fine grid, in random order. There circulant embedding draws the process itself,
    with two Fourier transforms.

    Parameters
    ----------
    n : int
    seed : int
    side : int
        The grid has side x side nodes.

    Returns
    -------
    X : ndarray, shape (n, 2)
    y : ndarray, shape (n,)
    """
    rng = np.random.default_rng(seed)
    lag = np.minimum(np.arange(2 * side), 2 * side - np.arange(2 * side)) / side
    spectrum = np.fft.fft2(matern32(lag[:, None] ** 2 + lag**2, TRUTH["lengthscale"])).real
    if spectrum.min() < -1e-6 * spectrum.max():
        raise ValueError("the grid is too small for the lengthscale to embed the covariance in a torus.")
    white = rng.normal(size=spectrum.shape) + 1j * rng.normal(size=spectrum.shape)
    field = np.fft.fft2(np.sqrt(np.maximum(spectrum, 0.0)) * white).real / (2 * side)
    nodes = rng.choice(side * side, n, replace=False)
    row, column = np.divmod(nodes, side)
    X = np.column_stack([row, column]) / side
    f = np.sqrt(TRUTH["variance"]) * field[row, column]
    return X, f + np.sqrt(TRUTH["noise"]) * rng.normal(size=n)


def inducing_points(X, m, seed=0):
    """Centres of m clusters of the points: inducing points that fill the space, as GPBoost takes them."""
    return kmeans2(X, m, minit="++", seed=np.random.default_rng(seed))[0]


def factors(X, Z, lengthscale):
    """The factors V, shape (n, m): what the inducing points explain of the covariance is V V'."""
    L = cholesky(matern32(cdist(Z, Z, "sqeuclidean"), lengthscale) + JITTER * np.eye(len(Z)), lower=True)
    return np.ascontiguousarray(solve_triangular(L, matern32(cdist(Z, X, "sqeuclidean"), lengthscale), lower=True).T)


def in_batches(task, n, size):
    """Call ``task(slice)`` for all of 0..n in slices of at most `size`, on all cores (NumPy lets go of the GIL)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(task, [slice(start, min(start + size, n)) for start in range(0, n, size)]):
            pass


def residual_blocks(X, V, neighbors, lengthscale):
    """Residual covariances among each point and its neighbours.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    V : ndarray, shape (n, m)
    neighbors : ndarray of int, shape (n, k)
        As from `knn`: short rows end in -1.
    lengthscale : float

    Returns
    -------
    ndarray, shape (n, k + 1, k + 1)
        The point comes first. Neighbours that are missing are given variance 1 and no covariance, so that they have no
        influence and all rows can be solved together.
    """
    n, k = neighbors.shape
    blocks = np.empty((n, k + 1, k + 1))

    def task(part):
        group = np.column_stack([np.arange(part.start, part.stop), neighbors[part]])
        missing = group < 0
        group[missing] = 0
        x, v = X[group], V[group]
        r2 = sum((x[:, :, None, a] - x[:, None, :, a]) ** 2 for a in range(X.shape[1]))
        block = matern32(r2, lengthscale) - v @ v.transpose(0, 2, 1)
        row, place = np.nonzero(missing)
        block[row, place, :] = block[row, :, place] = 0.0
        block[row, place, place] = 1.0
        blocks[part] = block

    in_batches(task, n, max(1, 200_000 // (k + 1) ** 2))
    return blocks


def vecchia_precision(blocks, neighbors, noise):
    """The Vecchia approximation of the residual process with noise: its precision is W'W.

    Point i given its neighbours N has mean ``A_i y_N`` and variance D_i, with ``A_i = C_iN (C_NN + noise)^-1`` and
    ``D_i = c_ii + noise - A_i C_Ni``. Row i of W is ``(e_i - A_i) / sqrt(D_i)``.

    Returns
    -------
    W : csr_matrix, shape (n, n)
        Lower triangular, k + 1 entries a row.
    log_det : float
        Of the covariance, ``sum(log(D))``.
    """
    n, k = neighbors.shape
    coefficients, D = np.empty((n, k + 1)), np.empty(n)

    def task(part):
        covariance = blocks[part, 1:, 1:] + noise * np.eye(k)
        cross = blocks[part, 1:, 0]
        A = np.linalg.solve(covariance, cross[:, :, None])[:, :, 0]
        D[part] = blocks[part, 0, 0] + noise - np.sum(A * cross, axis=1)
        coefficients[part, 0], coefficients[part, 1:] = 1.0, -A

    in_batches(task, n, max(1, 2_000_000 // (k + 1) ** 2))
    coefficients /= np.sqrt(D)[:, None]
    columns = np.column_stack([np.arange(n), np.maximum(neighbors, 0)])  # the coefficients of missing ones are 0
    W = csr_matrix((coefficients.ravel(), columns.ravel(), np.arange(n + 1) * (k + 1)), shape=(n, n))
    return W, float(np.sum(np.log(D)))


def quadratic_terms(V, W, log_det, y):
    """Determinant and quadratic form of Sigma = V V' + (W'W)^-1, by Woodbury's formula: only m x m matrices are solved.

    Returns
    -------
    log_det : float
        ``log |Sigma|``
    quadratic : float
        ``y' Sigma^-1 y``
    """
    WV, Wy = W @ V, W @ y
    M = cho_factor(np.eye(V.shape[1]) + WV.T @ WV, lower=True)
    b = WV.T @ Wy
    return log_det + 2.0 * np.sum(np.log(np.diag(M[0]))), Wy @ Wy - b @ cho_solve(M, b)


class Likelihood:
    """The VIF likelihood at one lengthscale; all that does not depend on the noise is computed once.

    Parameters
    ----------
    X, y : ndarray, shapes (n, d) and (n,)
    Z : ndarray, shape (m, d)
    neighbors : ndarray of int, shape (n, k)
    lengthscale : float
    """

    def __init__(self, X, y, Z, neighbors, lengthscale):
        self.y, self.neighbors = y, neighbors
        self.V = factors(X, Z, lengthscale)
        self.blocks = residual_blocks(X, self.V, neighbors, lengthscale)

    def terms(self, noise):
        """``log |Sigma|`` and ``y' Sigma^-1 y`` in units of the variance, for a noise in units of the variance."""
        W, log_det = vecchia_precision(self.blocks, self.neighbors, noise)
        return quadratic_terms(self.V, W, log_det, self.y)

    def __call__(self, variance, noise):
        """The log-likelihood; `noise` is a variance in the units of the data."""
        log_det, quadratic = self.terms(noise / variance)
        return -0.5 * (len(self.y) * np.log(2 * np.pi * variance) + log_det + quadratic / variance)

    def profile(self, noise):
        """The log-likelihood at the best variance, and that variance; `noise` is in units of it."""
        log_det, quadratic = self.terms(noise)
        n, variance = len(self.y), quadratic / len(self.y)
        return -0.5 * (n * np.log(2 * np.pi * variance) + n + log_det), variance


def objective(theta, X, y, Z, neighbors, step=1e-4):
    """Minus the profile log-likelihood per point, and its gradient by finite differences.

    Parameters
    ----------
    theta : ndarray, shape (2,)
        Log lengthscale, log noise in units of the variance.
    """
    here = Likelihood(X, y, Z, neighbors, np.exp(theta[0]))
    value = here.profile(np.exp(theta[1]))[0]
    by_noise = here.profile(np.exp(theta[1] + step))[0] - value
    by_lengthscale = Likelihood(X, y, Z, neighbors, np.exp(theta[0] + step)).profile(np.exp(theta[1]))[0] - value
    return -value / len(y), -np.array([by_lengthscale, by_noise]) / (step * len(y))


def standard_errors(theta, X, y, Z, neighbors, step=0.01):
    """Standard errors of log variance, log lengthscale and log noise, from the curvature at the maximum."""
    n = len(y)
    grid = np.empty((3, 3, 2))  # log |Sigma| and the quadratic form around the maximum
    for i in range(3):
        likelihood = Likelihood(X, y, Z, neighbors, np.exp(theta[0] + (i - 1) * step))
        for j in range(3):
            grid[i, j] = likelihood.terms(np.exp(theta[1] + (j - 1) * step))
    slope = np.array([grid[2, 1] - grid[0, 1], grid[1, 2] - grid[1, 0]]) / (2 * step)
    curve = np.empty((2, 2, 2))
    curve[0, 0] = grid[2, 1] - 2 * grid[1, 1] + grid[0, 1]
    curve[1, 1] = grid[1, 2] - 2 * grid[1, 1] + grid[1, 0]
    curve[0, 1] = curve[1, 0] = (grid[2, 2] - grid[2, 0] - grid[0, 2] + grid[0, 0]) / 4
    curve /= step**2
    per_variance = n / grid[1, 1, 1]
    information = np.empty((3, 3))  # in log variance, log lengthscale, log (noise / variance)
    information[0, 0] = n / 2
    information[0, 1:] = information[1:, 0] = -slope[:, 1] * per_variance / 2
    information[1:, 1:] = (curve[..., 0] + curve[..., 1] * per_variance) / 2
    change = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1]])  # log noise = log (noise / variance) + log variance
    return np.sqrt(np.diag(change @ np.linalg.inv(information) @ change.T))


def fit(X, y, Z, k, settings="exact", rounds=6, audit=500, verbose=True):
    """Maximum likelihood, with neighbours that follow the lengthscale.

    Parameters
    ----------
    X, y : ndarray, shapes (n, d) and (n,)
        In the order of the Vecchia approximation.
    Z : ndarray, shape (m, d)
    k : int
    settings : str
        'exact' or 'fast' neighbours.
    rounds : int
        At most so many searches. After each the optimiser makes a few steps, twice as many every time; when the
        lengthscale hardly moves any more, it is done.
    audit : int
        So many points, drawn at random, are searched for by brute force after each search, to see what 'fast' misses.
    verbose : bool

    Returns
    -------
    dict
        variance, lengthscale, noise; log_likelihood; theta (as in `objective`); neighbors; times; recalls, of the
        audited points' neighbours in each search.
    """
    audited = np.sort(np.random.default_rng(0).permutation(len(X))[:audit])
    recalls = []
    theta = np.array([np.log(np.ptp(X, axis=0).mean() / 4), 0.0])  # a guess: a quarter of the domain, noise = variance
    tree, previous = None, None
    times = {"neighbours": 0.0, "audit": 0.0, "likelihood": 0.0}
    for step in range(rounds):
        kernel = cx.Matern32(lengthscale=float(np.exp(theta[0])))
        began = time.perf_counter()
        tree = cx.cover_tree(X, kernel=kernel, inducing=Z, jitter=JITTER) if tree is None else tree.with_metric(kernel)
        result = tree.search(k, predecessor_mode=True, settings=settings)
        searched = time.perf_counter()
        recalls.append(tree.oracle().recall(result.indices[audited], audited, predecessor_mode=True))
        checked = time.perf_counter()
        changed = len(X) if previous is None else len(result.changed_rows(previous))
        found = minimize(
            objective,
            theta,
            args=(X, y, Z, result.indices),
            jac=True,
            method="L-BFGS-B",
            bounds=[(np.log(1e-3), np.log(10.0)), (np.log(1e-4), np.log(1e4))],
            options={"maxiter": 3 * 2**step, "ftol": 1e-10},
        )
        times["neighbours"] += searched - began
        times["audit"] += checked - searched
        times["likelihood"] += time.perf_counter() - checked
        moved = abs(found.x[0] - theta[0])
        theta, previous = found.x, result
        if verbose:
            print(
                f"search {step + 1}: {searched - began:5.1f} s, recall {recalls[-1]:.5f} of {len(audited)} points, "
                f"neighbours of {changed:,} changed; then {found.nit} steps ({found.nfev} evaluations, "
                f"{time.perf_counter() - checked:.1f} s) to lengthscale "
                f"{np.exp(theta[0]):.4f}, log-likelihood {-found.fun * len(X):,.2f}",
                flush=True,
            )
        if moved < 1e-3:
            break
    value, variance = Likelihood(X, y, Z, result.indices, np.exp(theta[0])).profile(np.exp(theta[1]))
    return {
        "variance": variance,
        "lengthscale": float(np.exp(theta[0])),
        "noise": float(np.exp(theta[1])) * variance,
        "log_likelihood": value,
        "theta": theta,
        "neighbors": result.indices,
        "times": times,
        "recalls": recalls,
    }


def dense_log_likelihood(X, y, variance, lengthscale, noise):
    """The log-likelihood without any approximation, from the n x n covariance matrix."""
    covariance = variance * matern32(cdist(X, X, "sqeuclidean"), lengthscale) + noise * np.eye(len(X))
    L = cho_factor(covariance, lower=True)
    return -0.5 * (len(y) * np.log(2 * np.pi) + 2 * np.sum(np.log(np.diag(L[0]))) + y @ cho_solve(L, y))


def vif_log_likelihood(X, y, Z, k, variance, lengthscale, noise, euclidean=False):
    """The VIF log-likelihood at given parameters, with k residual (or Euclidean) neighbours before each point."""
    kernel = cx.Matern32(lengthscale=lengthscale)
    tree = cx.cover_tree(X) if euclidean else cx.cover_tree(X, kernel=kernel, inducing=Z, jitter=JITTER)
    neighbors = tree.knn(k, predecessor_mode=True)
    return Likelihood(X, y, Z, neighbors, lengthscale)(variance, noise)


def gpboost_log_likelihood(X, y, m, k, variance, lengthscale, noise):
    """The same from GPBoost 1.8 (its own inducing points and order), or None where it is not installed."""
    try:
        import gpboost
    except ImportError:
        return None
    model = gpboost.GPModel(
        gp_coords=X,
        cov_function="matern",
        cov_fct_shape=1.5,
        gp_approx="vif_correlation",
        num_ind_points=m,
        num_neighbors=k,
        vecchia_ordering="none",  # X is in random order
        likelihood="gaussian",
    )
    return -model.neg_log_likelihood(cov_pars=np.array([noise, variance, lengthscale]), y=y)


def check(n=400, m=30, k=15, seed=0):
    """Compare likelihoods at the true parameters on a small case.

    Returns
    -------
    dict of float
        'dense'; 'vif' with all predecessors as neighbours, which must be equal (it keeps n^3 numbers, so only up to
        600 points); 'vif, k', which must be close; the same with Euclidean neighbours; and those of GPBoost where it
        is installed.
    """
    X, y = simulate(n, seed)
    Z = inducing_points(X, m, seed)
    values = {"dense": dense_log_likelihood(X, y, **TRUTH)}
    if n <= 600:
        values["vif, all predecessors"] = vif_log_likelihood(X, y, Z, n - 1, **TRUTH)
        values["GPBoost, all predecessors"] = gpboost_log_likelihood(X, y, m, n - 1, **TRUTH)
    values[f"vif, k = {k}"] = vif_log_likelihood(X, y, Z, k, **TRUTH)
    values[f"GPBoost, k = {k}"] = gpboost_log_likelihood(X, y, m, k, **TRUTH)
    values[f"vif, k = {k}, Euclidean neighbours"] = vif_log_likelihood(X, y, Z, k, euclidean=True, **TRUTH)
    return {name: value for name, value in values.items() if value is not None}


def print_check(n, m, k):
    """Print what `check` says, and fail if the likelihood is not what it must be."""
    values = check(n, m, k)
    dense = values["dense"]
    for name, value in values.items():
        print(f"{name:36} {value:16.8f}   relative difference {abs(value / dense - 1):.1e}")
    if not any("GPBoost" in name for name in values):
        print("GPBoost is not installed; python -m pip install 'gpboost==1.8.*' to compare with it.")
    if not abs(values.get("vif, all predecessors", dense) / dense - 1) < 1e-6:
        raise SystemExit("the VIF likelihood with all predecessors differs from the dense likelihood.")


def residual_correlation(X, x, Z, lengthscale):
    """|rho| of one place with each row of X: the correlation that the inducing points leave."""
    points = np.vstack([x, X])
    V = factors(points, Z, lengthscale)
    p = 1.0 - np.sum(V**2, axis=1)
    c = matern32(np.sum((X - x) ** 2, axis=1), lengthscale) - V[1:] @ V[0]
    return np.abs(c) / np.sqrt(p[1:] * p[0])


def picture(path, n=4_000, m=60, k=20, lengthscale=0.25, seed=4):
    """Draw the neighbours of three points: Euclidean ones, and beside them those of the residual process.

    The points are not chosen by hand: among those away from the border they are the three where the two sets share
    least, a middling number, and most.

    Parameters
    ----------
    path : str
        A PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(seed)
    X, Z = rng.uniform(size=(n, 2)), rng.uniform(size=(m, 2))
    near = cx.cover_tree(X).knn(k)
    residual = cx.cover_tree(X, kernel=cx.Matern32(lengthscale), inducing=Z, jitter=JITTER).knn(k)
    shared = np.array([len(np.intersect1d(a, b)) for a, b in zip(near, residual, strict=True)])
    inside = np.flatnonzero(np.all((X > 0.12) & (X < 0.88), axis=1))
    by_shared = inside[np.argsort(shared[inside], kind="stable")]
    chosen = by_shared[[0, len(by_shared) // 2, -1]]

    figure, axes = plt.subplots(3, 2, figsize=(6.7, 11.2), layout="constrained")
    for row, i in zip(axes, chosen, strict=True):
        reach = 1.25 * max(np.abs(X[near[i]] - X[i]).max(), np.abs(X[residual[i]] - X[i]).max())
        x, y = (np.linspace(c - reach, c + reach, 240) for c in X[i])
        places = np.column_stack([a.ravel() for a in np.meshgrid(x, y)])
        map_ = residual_correlation(places, X[i], Z, lengthscale).reshape(240, 240)
        for axis, found, name in zip(row, (near, residual), ("Euclidean", "residual correlation"), strict=True):
            image = axis.imshow(
                map_, origin="lower", extent=(x[0], x[-1], y[0], y[-1]), cmap="Blues", vmin=0, vmax=1, alpha=0.85
            )
            axis.plot(*X.T, ".", color="0.45", ms=3)
            axis.plot(*Z.T, "X", color="black", mec="white", ms=10, label="inducing point")
            axis.plot(*X[found[i]].T, "o", color="tab:orange", mec="black", mew=0.7, ms=7, label="neighbour")
            axis.plot(*X[i], "*", color="crimson", mec="white", mew=0.8, ms=18, label="the point")
            axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xticks=[], yticks=[])
            strength = np.median(residual_correlation(X[found[i]], X[i], Z, lengthscale))
            axis.set_title(f"{name}: median |\u03c1| {strength:.2f}", fontsize=11)
        row[0].set_ylabel(f"{shared[i]} of {k} neighbours in common", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=11)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.015)
    bar.set_label("|\u03c1|: correlation with the point that the inducing points leave unexplained")
    figure.savefig(path, dpi=80)
    print(f"{path}: of {k} neighbours, {np.mean(shared):.1f} are the same on average over all {n:,} points")


def compare(n=6_000, m=200, k=15, seed=0):
    """How much closer to the true model a VIF approximation is with residual neighbours than with Euclidean ones.

    By the Kullback-Leibler divergence of the residual process with noise from its Vecchia approximation. At the true
    parameters its quadratic part is the same for all neighbours, so a difference is half that of ``sum(log(D))``, and
    no data are needed.

    Yields
    ------
    lengthscales : tuple of float
        Of uniform points in a unit cube.
    noise : float
        In units of the variance.
    scaled, raw : float
        Divergence with Euclidean neighbours, of coordinates divided by the lengthscales or as they were given, less
        that with residual neighbours: positive where residual neighbours are better.
    """
    rng = np.random.default_rng(seed)
    for lengthscales in ((0.25, 0.25), (0.5, 0.5, 0.5), (0.35, 0.4, 0.45, 0.5, 0.55), (0.2, 0.5, 1.0, 2.0, 4.0)):
        raw = rng.uniform(size=(n, len(lengthscales)))
        X = raw / np.array(lengthscales)
        Z = inducing_points(X, m, seed)
        V = factors(X, Z, 1.0)
        trees = (cx.cover_tree(X, kernel=cx.Matern32(1.0), inducing=Z), cx.cover_tree(X), cx.cover_tree(raw))
        found = [tree.knn(k, predecessor_mode=True) for tree in trees]
        blocks = [residual_blocks(X, V, neighbors, 1.0) for neighbors in found]
        for noise in (0.1, 0.001):
            ours, scaled, given = (
                vecchia_precision(b, neighbors, noise)[1] / 2 for b, neighbors in zip(blocks, found, strict=True)
            )
            yield lengthscales, noise, scaled - ours, given - ours


def print_compare():
    """Print what `compare` yields."""
    print(f"{'lengthscales':32}{'noise':>8}{'gain over Euclidean, scaled':>30}{'as given':>12}")
    for lengthscales, noise, scaled, raw in compare():
        print(f"{lengthscales!s:32}{noise:8.3f}{scaled:30.1f}{raw:12.1f}")


def print_fit(n, m, k, settings, seed):
    """Simulate, fit, and print the estimates beside the truth."""
    began = time.perf_counter()
    X, y = simulate(n, seed)
    Z = inducing_points(X, m, seed)
    seconds = time.perf_counter() - began
    print(f"{n:,} points, {m} inducing points, {k} neighbours ({settings}); simulated in {seconds:.1f} s", flush=True)
    began = time.perf_counter()
    model = fit(X, y, Z, k, settings)
    seconds = time.perf_counter() - began
    errors = standard_errors(model["theta"], X, y, Z, model["neighbors"])
    print(f"\n{'':12}{'truth':>10}{'estimate':>10}{'std. error':>12}{'(estimate - truth) / error':>28}")
    for name, error in zip(("variance", "lengthscale", "noise"), errors, strict=True):
        z = np.log(model[name] / TRUTH[name]) / error
        print(f"{name:12}{TRUTH[name]:10.4f}{model[name]:10.4f}{model[name] * error:12.4f}{z:28.2f}")
    at_truth = vif_log_likelihood(X, y, Z, k, **TRUTH)
    print(f"\nlog-likelihood {model['log_likelihood']:,.2f} (at the truth {at_truth:,.2f})")
    print(
        f"run time of the fit {seconds:.1f} s: neighbours {model['times']['neighbours']:.1f} s, "
        f"their audit {model['times']['audit']:.1f} s, likelihood {model['times']['likelihood']:.1f} s"
    )


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, help="points (20,000; 400 with --check)")
    parser.add_argument("--inducing", type=int, help="inducing points (200; 30 with --check)")
    parser.add_argument("--k", type=int, help="neighbours (20; 15 with --check)")
    parser.add_argument("--settings", choices=["exact", "fast"], default="exact", help="of the search (exact)")
    parser.add_argument("--seed", type=int, default=0, help="of the data (0)")
    parser.add_argument("--check", action="store_true", help="compare likelihoods with a dense Gaussian process")
    parser.add_argument("--compare", action="store_true", help="compare residual with Euclidean neighbours")
    parser.add_argument("--picture", metavar="FILE.png", help="draw Euclidean and residual neighbours (matplotlib)")
    arguments = parser.parse_args()
    n, m, k = (400, 30, 15) if arguments.check else (20_000, 200, 20)
    n, m, k = (
        given if given is not None else usual
        for given, usual in zip((arguments.n, arguments.inducing, arguments.k), (n, m, k), strict=True)
    )
    if n < 3 or m < 1 or k < 1:
        parser.error(f"a fit takes at least 3 points, 1 inducing point and 1 neighbour; got {n}, {m} and {k}.")
    m, k = min(m, n), min(k, n - 1)
    if arguments.picture:
        picture(arguments.picture)
    elif arguments.compare:
        print_compare()
    elif arguments.check:
        print_check(n, m, k)
    else:
        print_fit(n, m, k, arguments.settings, arguments.seed)


if __name__ == "__main__":
    main()
