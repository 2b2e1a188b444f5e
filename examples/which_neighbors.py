"""Which neighbours are the best: what a Vecchia approximation loses, by their kind and number.

At given parameters the divergence of the approximation from the dense model (Kullback and Leibler's) is a number that
needs no data: how much log-likelihood is lost on average. It is computed here from the n x n covariance, for 2,000
points, with neighbours by residual correlation as covertreex finds them, and with Euclidean ones.

    python examples/which_neighbors.py --divergence divergence.png    # the numbers, and a picture of them
    python examples/which_neighbors.py --neighbors neighbors.png      # the neighbours of three points

Needs matplotlib.
"""

import argparse

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import cholesky, solve_triangular

import covertreex as cx

#: Added to the covariance of inducing points, in units of the variance: what `covertreex.cover_tree` adds.
JITTER = 1e-6


def factors(kernel, X, Z):
    """The factors U, shape (n, m): what the inducing points explain of the covariance is U U'."""
    L = cholesky(kernel(Z, Z) + JITTER * kernel.variance * np.eye(len(Z)), lower=True)
    return solve_triangular(L, kernel(Z, X), lower=True).T


def residual_correlation(kernel, x, X, Z):
    """|rho| of one place with each row of X: the correlation that the inducing points leave."""
    points = np.vstack([x, X])
    U = factors(kernel, points, Z)
    variance = kernel.variance - np.sum(U**2, axis=1)
    return np.abs(kernel(points[:1], X)[0] - U[1:] @ U[0]) / np.sqrt(variance[0] * variance[1:])


def divergence(covariance, model, U):
    """Kullback-Leibler divergence of a model from the dense one, in nats: how much log-likelihood it loses on average.

    ``(trace(S^-1 C) - n + log |S| - log |C|) / 2``, C dense, and S = U U' + (B' D^-1 B)^-1.

    Parameters
    ----------
    covariance : ndarray, shape (n, n)
        Of the data, with the noise.
    model : covertreex.vecchia.Vecchia
    U : ndarray, shape (n, m)
        Of the same inducing points; m = 0 if there are none.

    Returns
    -------
    float
    """
    B, D = model.factor()
    L = cholesky(covariance[np.ix_(model.order, model.order)], lower=True)
    W = B.multiply(1.0 / np.sqrt(D)[:, None]).tocsr()
    WL, WU = W @ L, W @ U[model.order]
    G = cholesky(np.eye(U.shape[1]) + WU.T @ WU, lower=True)
    trace = np.sum(WL**2) - np.sum(solve_triangular(G, WU.T @ WL, lower=True) ** 2)
    log_ratio = np.sum(np.log(D)) + 2.0 * np.sum(np.log(np.diag(G))) - 2.0 * np.sum(np.log(np.diag(L)))
    return 0.5 * (trace - len(D) + log_ratio)


#: Points, kernel, noise and inducing points of what `compare` compares: title, d, kernel, noise, m.
CASES = [
    ("2-d, noise a tenth of the variance", 2, cx.Matern32(0.25), 0.1, 100),
    ("5-d, five lengthscales, noise a tenth", 5, cx.Matern32((0.2, 0.5, 1.0, 2.0, 4.0)), 0.1, 100),
    ("2-d, noise a thousandth", 2, cx.Matern32(0.25), 0.001, 100),
    ("seasons: 1-d, periodic, no inducing points", 1, cx.Matern12(1.0) * cx.Periodic(1.0, period=0.05), 0.1, 0),
]


def compare(d, kernel, noise, m, n=2_000, ks=(5, 10, 20, 40), seed=0):
    """Divergence from the dense model by number and kind of neighbours, in maximin order.

    Returns
    -------
    dict of str to list of float
        For each kind of neighbours the divergence at each k.
    """
    X = np.random.default_rng(seed).uniform(size=(n, d))
    lengthscale = np.asarray(getattr(kernel, "lengthscale", 1.0))
    scaled = X / lengthscale
    Z = lengthscale * kmeans2(scaled, m, minit="++", seed=np.random.default_rng(seed))[0] if m else None
    inducing = {"inducing": Z} if m else {}
    tree = cx.cover_tree(X, kernel=kernel, **inducing)
    kinds = {
        "residual correlation": tree,
        "the same, of noisy data": cx.cover_tree(X, kernel=kernel, noise=noise, **inducing),
    }
    kinds["Euclidean, scaled"] = cx.cover_tree(scaled)
    if np.ndim(lengthscale):
        kinds["Euclidean, as given"] = cx.cover_tree(X)
    order = cx.ordering.maximin(scaled)
    covariance = kernel(X, X) + noise * np.eye(n)
    U = factors(kernel, X, Z) if m else np.zeros((n, 0))
    lost = {}
    for name, kind in kinds.items():
        neighbors = [kind.knn(k, predecessor_mode=True, order=order) for k in ks]
        models = [cx.vecchia.Vecchia(tree, noise=noise, neighbors=found, order=order) for found in neighbors]
        lost[name] = [divergence(covariance, model, U) for model in models]
    return lost


def pyplot():
    """Matplotlib without a window."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw_compare(path):
    """Print and draw what `compare` finds for each of `CASES`."""
    plt = pyplot()
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.4), layout="constrained")
    styles = {"residual correlation": "o-", "the same, of noisy data": "v:", "Euclidean, scaled": "s--"}
    ks = (5, 10, 20, 40)
    for axis, (title, *case) in zip(axes.ravel(), CASES, strict=True):
        print(f"\n{title:40}" + "".join(f"{f'k = {k}':>10}" for k in ks), flush=True)
        for name, lost in compare(*case, ks=ks).items():
            print(f"  {name:38}" + "".join(f"{value:10.3f}" for value in lost), flush=True)
            axis.loglog(ks, lost, styles.get(name, "^-."), color=COLOURS[name], label=name, mec="white", ms=8, lw=2)
        axis.set_xticks(ks, ks)
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_title(title, fontsize=11)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1]:
        axis.set_xlabel("neighbours of each point")
    for axis in axes[:, 0]:
        axis.set_ylabel("divergence from the dense model, nats")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncol=4, frameon=False)
    figure.savefig(path, dpi=90)
    print(f"\nwrote {path}")


#: Of the kinds of neighbours in the picture of `compare`.
COLOURS = {
    "residual correlation": "#d1495b",
    "the same, of noisy data": "#edae49",
    "Euclidean, scaled": "#30638e",
    "Euclidean, as given": "#8d99ae",
}


def draw_neighbors(path, n=4_000, m=60, k=20, seed=4):
    """Neighbours of three points: Euclidean ones, and beside them those of the residual process.

    The points are not chosen by hand: among those away from the border they are the three where the two sets share
    least, a middling number, and most.
    """
    plt = pyplot()
    rng = np.random.default_rng(seed)
    X, Z, kernel = rng.uniform(size=(n, 2)), rng.uniform(size=(m, 2)), cx.Matern32(0.25)
    near = cx.cover_tree(X).knn(k)
    residual = cx.cover_tree(X, kernel=kernel, inducing=Z).knn(k)
    shared = np.array([len(np.intersect1d(a, b)) for a, b in zip(near, residual, strict=True)])
    inside = np.flatnonzero(np.all((X > 0.12) & (X < 0.88), axis=1))
    by_shared = inside[np.argsort(shared[inside], kind="stable")]

    figure, axes = plt.subplots(3, 2, figsize=(6.7, 11.2), layout="constrained")
    for row, i in zip(axes, by_shared[[0, len(by_shared) // 2, -1]], strict=True):
        reach = 1.25 * max(np.abs(X[near[i]] - X[i]).max(), np.abs(X[residual[i]] - X[i]).max())
        x, y = (np.linspace(c - reach, c + reach, 240) for c in X[i])
        places = np.column_stack([a.ravel() for a in np.meshgrid(x, y)])
        left = residual_correlation(kernel, X[i], places, Z)
        for axis, found, name in zip(row, (near, residual), ("Euclidean", "residual correlation"), strict=True):
            image = axis.imshow(
                left.reshape(240, 240), origin="lower", extent=(x[0], x[-1], y[0], y[-1]), cmap="Blues", vmin=0, vmax=1,
                alpha=0.85,
            )  # fmt: skip
            axis.plot(*X.T, ".", color="0.45", ms=3)
            axis.plot(*Z.T, "X", color="black", mec="white", ms=10, label="inducing point")
            axis.plot(*X[found[i]].T, "o", color="tab:orange", mec="black", mew=0.7, ms=7, label="neighbour")
            axis.plot(*X[i], "*", color="crimson", mec="white", mew=0.8, ms=18, label="the point")
            axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xticks=[], yticks=[])
            strength = np.median(residual_correlation(kernel, X[i], X[found[i]], Z))
            axis.set_title(f"{name}: median |\u03c1| {strength:.2f}", fontsize=11)
        row[0].set_ylabel(f"{shared[i]} of {k} neighbours in common", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=11)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.015)
    bar.set_label("|\u03c1|: correlation with the point that the inducing points leave unexplained")
    figure.savefig(path, dpi=80)
    print(f"{path}: of {k} neighbours, {np.mean(shared):.1f} are the same on average over all {n:,} points")


def main():
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--divergence", metavar="FILE.png", help="of approximations from the dense model")
    parser.add_argument("--neighbors", metavar="FILE.png", help="of three points")
    arguments = parser.parse_args()
    if not (arguments.divergence or arguments.neighbors):
        parser.error("nothing to draw; give --divergence or --neighbors, and a file.")
    if arguments.divergence:
        draw_compare(arguments.divergence)
    if arguments.neighbors:
        draw_neighbors(arguments.neighbors)


if __name__ == "__main__":
    main()
