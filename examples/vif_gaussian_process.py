"""Fit a Vecchia-inducing-points (VIF) Gaussian process by maximum likelihood, and predict with it.

The data: y = f(x) + noise at n random places of the unit square, f a Gaussian process with a Matern 3/2 kernel.
The model (arXiv 2507.05064): m inducing points carry the large scale of f, as a process of rank m. What they leave,
the residual process, is small and short-ranged; together with the noise it gets a Vecchia approximation: every point is
regressed on k neighbours before it in a random order, those most correlated with it *in the residual process*. These
depend on the lengthscale, so the fit finds them anew as it moves.

    python examples/vif_gaussian_process.py                             # 20,000 points
    python examples/vif_gaussian_process.py --n 200000                  # some minutes
    python examples/vif_gaussian_process.py --check                     # against a dense Gaussian process, and GPBoost
    python examples/vif_gaussian_process.py --picture prediction.png    # of data and predictions; needs matplotlib

All is done by `cx.vecchia`; docs/vecchia.md has its formulas. Which neighbours are the best is in which_neighbors.py.
"""

import argparse
import time

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import cholesky, solve_triangular

import covertreex as cx

#: What makes the data, and what the fit must find again.
TRUTH = {"variance": 1.5, "lengthscale": 0.08, "noise": 0.25}

#: Points held out to see how good predictions are.
HELD_OUT = 1_000


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
    scaled = np.sqrt(3.0 * (lag[:, None] ** 2 + lag**2)) / TRUTH["lengthscale"]
    spectrum = np.fft.fft2((1.0 + scaled) * np.exp(-scaled)).real
    if spectrum.min() < -1e-6 * spectrum.max():
        raise ValueError("the grid is too small for the lengthscale to embed the covariance in a torus.")
    white = rng.normal(size=spectrum.shape) + 1j * rng.normal(size=spectrum.shape)
    field = np.fft.fft2(np.sqrt(np.maximum(spectrum, 0.0)) * white).real / (2 * side)
    row, column = np.divmod(rng.choice(side * side, n, replace=False), side)
    f = np.sqrt(TRUTH["variance"]) * field[row, column]
    return np.column_stack([row, column]) / side, f + np.sqrt(TRUTH["noise"]) * rng.normal(size=n)


def true_kernel():
    """The kernel of the process that was drawn."""
    return cx.Matern32(TRUTH["lengthscale"], variance=TRUTH["variance"])


def inducing_points(X, m, seed=0):
    """Centres of m clusters of some of the points: inducing points that fill the space, as GPBoost takes them."""
    return kmeans2(X[:5_000], m, minit="++", seed=np.random.default_rng(seed))[0]


def fit(X, y, Z, k, settings="fast", verbose=True):
    """Maximum likelihood: first of a tenth of the points, so that the fit of all begins near the end, and is short.

    Parameters
    ----------
    X, y : ndarray, shapes (n, d) and (n,)
        In random order, so that the first are a sample of all.
    Z : ndarray, shape (m, d)
    k : int
    settings : str
        'exact' or 'fast' neighbours.
    verbose : bool

    Returns
    -------
    covertreex.vecchia.Fit
    """
    sizes = [len(X)]
    while sizes[0] >= 10_000:
        sizes.insert(0, sizes[0] // 10)
    kernel, noise = cx.Matern32(float(np.ptp(X, axis=0).mean()) / 4, variance=np.var(y) / 2), np.var(y) / 2
    for size in sizes:
        began, worked = time.perf_counter(), time.process_time()
        tree = cx.cover_tree(X[:size], kernel=kernel, inducing=Z[:size])
        model = cx.vecchia.Vecchia(tree, k, noise, settings=settings)
        found = model.fit(y[:size], searches=12 if size == sizes[0] else 2)
        kernel, noise = found.kernel, found.noise
        if verbose:
            print(
                f"{size:8,} points: lengthscale {kernel.lengthscale:.4f}, log-likelihood {found.log_likelihood:,.2f} "
                f"after {found.evaluations} evaluations; neighbours changed {found.changed}; "
                f"{time.perf_counter() - began:.1f} s ({time.process_time() - worked:.1f} s of one core)",
                flush=True,
            )
    return found


def curvature(fitted, step=0.01):
    """Gradient and second derivatives of the log-likelihood, with logarithms of the parameters.

    Parameters
    ----------
    fitted : covertreex.vecchia.Fit
    step : float
        The gradient is analytic; its differences over this step are the second derivatives.

    Returns
    -------
    gradient : ndarray, shape (p,)
        In the order of ``fitted.parameters``.
    hessian : ndarray, shape (p, p)
    """
    names, values = list(fitted.parameters), np.array(list(fitted.parameters.values()))

    def gradient(values):
        named = dict(zip(names, values, strict=True))
        noise = named.pop("noise")
        tree = fitted.model.tree.with_metric(fitted.kernel.set_params(**named))
        model = cx.vecchia.Vecchia(tree, noise=noise, neighbors=fitted.model.neighbors)
        found = model.log_likelihood(fitted.y, grad=True)[1]
        return np.array([found[name] for name in names]) * values

    here = gradient(values)
    hessian = np.array([gradient(values * np.exp(step * row)) - here for row in np.eye(len(names))]) / step
    return here, (hessian + hessian.T) / 2


def held_out_errors(fitted, X_new, y_new, k):
    """Root mean square error of predictions, and the share of data within the 95 % intervals."""
    mean, variance = fitted.predict(X_new, k, observed=True)
    return np.sqrt(np.mean((y_new - mean) ** 2)), np.mean(np.abs(y_new - mean) < 1.96 * np.sqrt(variance))


def print_fit(n, m, k, settings, seed):
    """Simulate, fit, predict; print the estimates beside the truth."""
    X, y = simulate(n + HELD_OUT, seed)
    (X, X_new), (y, y_new) = np.split(X, [n]), np.split(y, [n])
    print(f"{n:,} points, {m} inducing points, {k} neighbours ({settings})", flush=True)
    began, worked = time.perf_counter(), time.process_time()
    Z = inducing_points(X, m, seed)
    fitted = fit(X, y, Z, k, settings)
    took, cores = time.perf_counter() - began, time.process_time() - worked
    print(f"the fit took {took:.1f} s, {cores:.1f} s of one core")
    gradient, hessian = curvature(fitted)
    covariance = np.linalg.inv(-hessian)
    errors = np.sqrt(np.diag(covariance))
    print(f"\n{'':12}{'truth':>10}{'estimate':>10}{'std. error':>12}{'(estimate - truth) / error':>28}")
    for error, (name, found) in zip(errors, fitted.parameters.items(), strict=True):
        true = TRUTH[name]
        print(f"{name:12}{true:10.4f}{found:10.4f}{found * error:12.4f}{np.log(found / true) / error:28.2f}")
    tree = cx.cover_tree(X, kernel=true_kernel(), inducing=Z)
    at_truth = cx.vecchia.Vecchia(tree, k, TRUTH["noise"], settings=settings).log_likelihood(y)
    missing = gradient @ covariance @ gradient / 2
    print(
        f"\nlog-likelihood {fitted.log_likelihood:,.2f} (at the truth {at_truth:,.2f}); by its slope the maximum is "
        f"{missing:.2g} above"
    )
    rows = np.sort(np.random.default_rng(0).permutation(n)[:500])
    recall = fitted.model.tree.oracle().recall(fitted.model.neighbors[rows], rows, predecessor_mode=True)
    print(f"recall of the neighbours of {len(rows)} points, by brute force: {recall:.5f}")
    began = time.perf_counter()
    error, covered = held_out_errors(fitted, X_new, y_new, k)
    print(
        f"{HELD_OUT:,} points held out, predicted in {time.perf_counter() - began:.1f} s: error {error:.4f} (that of "
        f"the data {np.std(y_new):.4f}, of the noise {np.sqrt(TRUTH['noise']):.4f}); "
        f"{covered:.1%} within the 95 % intervals"
    )


def check(n=400, m=30, k=15, seed=0):
    """Log-likelihoods at the true parameters, of a small case.

    Returns
    -------
    dict of float
        'dense', by NumPy; 'all predecessors' as neighbours, which must be equal; 'k', which must be close; the same
        with Euclidean neighbours; and those of GPBoost (its own inducing points) where it is installed.
    """
    X, y = simulate(n, seed)
    kernel, noise = true_kernel(), TRUTH["noise"]
    tree = cx.cover_tree(X, kernel=kernel, inducing=inducing_points(X, m, seed))
    L = cholesky(kernel(X, X) + noise * np.eye(n), lower=True)
    white = solve_triangular(L, y, lower=True)
    near = cx.cover_tree(X).knn(k, predecessor_mode=True)
    values = {
        "dense": -0.5 * (n * np.log(2 * np.pi) + white @ white) - np.sum(np.log(np.diag(L))),
        "all predecessors": cx.vecchia.Vecchia(tree, n - 1, noise).log_likelihood(y),
        f"k = {k}": cx.vecchia.Vecchia(tree, k, noise).log_likelihood(y),
        f"k = {k}, Euclidean neighbours": cx.vecchia.Vecchia(tree, noise=noise, neighbors=near).log_likelihood(y),
    }
    try:
        import gpboost
    except ImportError:
        print("GPBoost is not installed; python -m pip install 'gpboost==1.8.*' to compare with it.")
        return values
    for number in (n - 1, k):
        model = gpboost.GPModel(
            gp_coords=X, cov_function="matern", cov_fct_shape=1.5, gp_approx="vif_correlation", num_ind_points=m,
            num_neighbors=number, vecchia_ordering="none", likelihood="gaussian",
        )  # fmt: skip
        parameters = np.array([noise, TRUTH["variance"], TRUTH["lengthscale"]])
        values[f"GPBoost, {number} neighbours"] = -model.neg_log_likelihood(cov_pars=parameters, y=y)
    return values


def print_check(n, m, k):
    """Print what `check` says, and fail if the likelihood is not what it must be."""
    values = check(n, m, k)
    dense = values["dense"]
    for name, value in values.items():
        print(f"{name:32} {value:16.8f}   relative difference {abs(value / dense - 1):.1e}")
    if not abs(values["all predecessors"] / dense - 1) < 1e-8:
        raise SystemExit("the VIF likelihood with all predecessors differs from the dense likelihood.")


def picture(path, n, m, k):
    """Draw data, predicted mean and standard deviation: of all, and of the surroundings of a disc without data."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    X, y = simulate(n)
    centre, radius, width = np.array([0.37, 0.64]), 0.06, 0.24
    seen = np.hypot(*(X - centre).T) > radius
    X, y = X[seen], y[seen]
    fitted = fit(X, y, inducing_points(X, m), k)
    figure, axes = plt.subplots(2, 3, figsize=(12.4, 8.2), layout="constrained", sharex="row", sharey="row")
    windows = [((0.0, 1.0), (0.0, 1.0)), tuple((c - width / 2, c + width / 2) for c in centre)]
    reach = 3.0 * np.sqrt(TRUTH["variance"])
    for row, ((x0, x1), (y0, y1)), size in zip(axes, windows, (2.0, 22.0), strict=True):
        a, b = np.linspace(x0, x1, 180), np.linspace(y0, y1, 180)
        mean, variance = fitted.predict(np.column_stack([part.ravel() for part in np.meshgrid(a, b)]), k)
        box = {"origin": "lower", "extent": (x0, x1, y0, y1), "interpolation": "bilinear"}
        data = row[0].scatter(*X.T, c=y, s=size, cmap="RdBu_r", vmin=-reach, vmax=reach, lw=0)
        row[0].set_facecolor("0.8")
        row[1].imshow(mean.reshape(180, 180), cmap="RdBu_r", vmin=-reach, vmax=reach, **box)
        error = row[2].imshow(np.sqrt(variance).reshape(180, 180), cmap="viridis", vmin=0.0, **box)
        figure.colorbar(data, ax=row[:2], shrink=0.8, pad=0.01)
        figure.colorbar(error, ax=row[2], shrink=0.8, pad=0.02)
        for axis in row:
            axis.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal")
    axes[1, 2].plot(*X.T, ".", color="white", ms=2, alpha=0.7)
    for axis, title in zip(axes[0], ("data, with noise", "predicted mean", "standard deviation"), strict=True):
        axis.set_title(title)
        axis.add_patch(plt.Rectangle(centre - width / 2, width, width, fill=False, ec="black", lw=1.2))
    figure.savefig(path, dpi=80)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # small
    print(f"wrote {path}")


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, help="points (20,000; 400 with --check, 8,000 with --picture)")
    parser.add_argument("--inducing", type=int, help="inducing points (200; 30 with --check)")
    parser.add_argument("--k", type=int, help="neighbours (20; 15 with --check)")
    parser.add_argument("--settings", choices=["exact", "fast"], default="fast", help="of the search (fast)")
    parser.add_argument("--seed", type=int, default=0, help="of the data (0)")
    parser.add_argument("--check", action="store_true", help="compare likelihoods with a dense Gaussian process")
    parser.add_argument("--picture", metavar="FILE.png", help="draw data and predictions (matplotlib)")
    arguments = parser.parse_args()
    usual = (400, 30, 15) if arguments.check else (8_000 if arguments.picture else 20_000, 200, 20)
    given = (arguments.n, arguments.inducing, arguments.k)
    n, m, k = (u if g is None else g for g, u in zip(given, usual, strict=True))
    if n < 3 or m < 1 or k < 1:
        parser.error(f"a fit takes at least 3 points, 1 inducing point and 1 neighbour; got {n}, {m} and {k}.")
    m, k = min(m, n), min(k, n - 1)
    if arguments.picture:
        picture(arguments.picture, n, m, k)
    elif arguments.check:
        print_check(n, m, k)
    else:
        print_fit(n, m, k, arguments.settings, arguments.seed)


if __name__ == "__main__":
    main()
