"""Pictures of trees, answers and measurements. Needs matplotlib: the extra ``plot``.

Every function draws into the Axes that it is given, or into new ones, and returns them: titles, limits and files are
the caller's. Matplotlib is imported when the first picture is drawn.

>>> import covertreex as cx
>>> tree = cx.cover_tree([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
>>> ax = cx.plot.neighbors(tree, tree.search(k=1), query=2)
>>> ax.get_title()
'row 2: 1 neighbour, distance 3 to 3'
"""

import json
import math
import os
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import FloatArray
from covertreex.base.validation import check_points
from covertreex.covertree import CoverTree
from covertreex.data.metrics import Euclidean, ResidualCorrelation
from covertreex.errors import InvalidInputError
from covertreex.results import SearchResult

__all__ = ["changed_rows", "correlation", "in_degree", "neighbors", "recall"]

#: Okabe and Ito's colours, which people with any colour vision tell apart, and the marks that go with them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000", "#7F7F7F", "#B22222")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

#: Recalls that are named on their axis, which is that of -log10(1 - recall); 1 stands at `TOP`.
TICKS, TOP = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999), 5.0

#: Places per side of the field behind neighbours, and bins of distances.
GRID, BINS = 160, 40

#: What is behind a name, so that lines under it do not hide it.
BOX: dict[str, Any] = {"facecolor": "white", "alpha": 0.75, "pad": 0.4, "linewidth": 0}

#: Pairs whose own correlation is below this are beyond the right end of `correlation`.
FAINT = 0.02


def neighbors(
    tree: CoverTree,
    result: SearchResult,
    query: int = 0,
    *,
    points: ArrayLike | None = None,
    columns: tuple[int, int] = (0, 1),
    ax: Any = None,
) -> Any:
    """One query and its neighbours on a map, with the points and inducing points around them.

    Of points in two columns under a kernel, what is behind them is ``|rho|`` between the query and each place, as far
    as inducing points leave it: that of values without noise.

    Parameters
    ----------
    tree : CoverTree
    result : SearchResult
        An answer of this tree.
    query : int
        Which row of the answer.
    points : array_like, shape (q, d), optional
        The coordinates that were asked for, of a result about coordinates.
    columns : tuple of int
        The columns that make the map: across, up.
    ax : matplotlib.axes.Axes, optional
        Made if it is not given.

    Returns
    -------
    matplotlib.axes.Axes
        Lines labelled 'points', 'inducing points' (where there are) and 'the point', and a scatter 'neighbours', of the
        colour of its ``|rho|`` where there is no field; the field is an image.

    Raises
    ------
    InvalidInputError
        If there is no such query or column, or coordinates are missing.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).uniform(size=(500, 2))
    >>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.2), inducing=20)
    >>> ax = cx.plot.neighbors(tree, tree.search(k=10, queries=[7]))
    >>> ax.get_title()
    'row 7: 10 neighbours, |rho| 0.98 to 0.78'
    """
    if not 0 <= query < len(result.indices):
        raise InvalidInputError(f"query must be a row of the answer, 0 to {len(result.indices) - 1}, got {query}.")
    d = tree.X.shape[1]
    if len(columns) != 2 or not all(0 <= column < d for column in columns):
        raise InvalidInputError(f"columns must be two of the points' columns, 0 to {d - 1}, got {columns!r}.")
    here, name = _asked(tree, result, query, points)
    ax = _axes(ax, "neighbors")
    found = result.indices[query] >= 0
    rows, distances = result.indices[query][found], result.distances[query][found]
    X, across_up = tree.X, list(columns)
    left, right = _window(here[across_up], X[rows][:, across_up])

    shown = None
    if d == 2 and tree.projection is not None and tree.projection.kernel is not None:
        field = _field(tree, here, columns, left, right)
        shown = ax.imshow(field, extent=(left[0], right[0], left[1], right[1]), origin="lower", cmap="Blues", vmin=0.0,
                  vmax=1.0, aspect="auto", interpolation="bilinear")  # fmt: skip
    others = X[tree.ids][:, across_up]
    ax.plot(*others.T, ".", color="0.45", markersize=4.0, markeredgewidth=0.0, label="points", zorder=2)
    near: dict[str, Any] = {"s": 46, "edgecolor": "k", "linewidth": 0.7, "zorder": 4, "label": "neighbours"}
    if shown is not None or isinstance(tree.metric, Euclidean):
        ax.scatter(*X[rows][:, across_up].T, color=COLOURS[4], **near)
    else:
        strength = 1.0 - distances**2
        shown = ax.scatter(*X[rows][:, across_up].T, c=strength, cmap="viridis", vmin=0.0, vmax=1.0, **near)
    if shown is not None:
        ax.figure.colorbar(shown, ax=ax, label="|rho| with the point")
    said = "distance"
    if not isinstance(tree.metric, Euclidean):
        said, distances = "|rho|", 1.0 - distances**2
    if isinstance(tree.metric, ResidualCorrelation) and tree.metric.v_matrix is None:
        Z = tree.metric.inducing_points(X)[:, across_up]
        ax.plot(*Z.T, "X", color="k", markeredgecolor="w", markersize=9, label="inducing points", zorder=5)
    ax.plot(*here[across_up], "*", color="crimson", markeredgecolor="w", markersize=17, label="the point", zorder=6)
    ax.set_xlim(left[0], right[0])
    ax.set_ylim(left[1], right[1])
    names = tree.feature_names_in_ or [f"column {column}" for column in range(d)]
    ax.set(xlabel=names[columns[0]], ylabel=names[columns[1]])
    ends = f", {said} {distances[0]:.2g} to {distances[-1]:.2g}" if len(rows) else ""
    ax.set_title(f"{name}: {len(rows)} neighbour{'' if len(rows) == 1 else 's'}{ends}", fontsize="medium")
    return ax


def correlation(tree: CoverTree, *, queries: int = 200, seed: int = 0, ax: Any = None) -> Any:
    """Correlation against distance: the kernel's own, and what inducing points leave of it.

    Some rows, drawn at random, are compared with all others by the dense oracle. The wide band holds the middle 80 % of
    pairs at each distance: where it is wide, distance does not tell who is correlated.

    Parameters
    ----------
    tree : CoverTree
        With a kernel.
    queries : int
        How many rows are drawn. Each is compared with all n.
    seed : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Lines 'kernel' and 'what inducing points leave' (medians) and a band, over distances in lengthscales.

    Raises
    ------
    InvalidInputError
        If the tree has no kernel, or `queries` is not positive.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X = np.random.default_rng(0).uniform(size=(500, 2))
    >>> ax = cx.plot.correlation(cx.cover_tree(X, kernel=cx.RBF(lengthscale=0.2), inducing=20))
    >>> [line.get_label() for line in ax.lines]
    ['kernel', 'what inducing points leave']
    """
    metric = tree.metric
    if isinstance(metric, Euclidean):
        raise InvalidInputError("correlation needs a tree with a kernel: cover_tree(X, kernel=...).")
    if queries < 1:
        raise InvalidInputError(f"queries must be at least 1, got {queries}.")
    ids = tree.ids
    rows = np.random.default_rng(seed).choice(ids, min(queries, len(ids)), replace=False)
    coords = metric.coordinates(tree.X)
    apart = np.sqrt(np.stack([np.sum((coords[ids] - coords[row]) ** 2, axis=1) for row in rows]))
    others = ids[None, :] != rows[:, None]
    own = np.abs(metric.kernel(tree.X[rows], tree.X[ids]))[others] / metric.kernel.variance
    left, apart = tree.oracle().closeness(rows)[:, ids][others], apart[others]
    end = apart[own >= FAINT].max(initial=0.0)
    if end == 0.0:
        raise InvalidInputError(
            f"no two of {queries} rows and all others are correlated to {FAINT} or more: the lengthscale is far below "
            "what lies between points."
        )
    edges = np.linspace(0.0, end, BINS + 1)
    bins = np.digitize(apart, edges) - 1
    filled = [place for place in range(BINS) if np.any(bins == place)]
    middles = (0.5 * (edges[1:] + edges[:-1]))[filled]
    kernel = [np.median(own[bins == place]) for place in filled]
    low, median, high = np.array([np.quantile(left[bins == place], (0.1, 0.5, 0.9)) for place in filled]).T

    ax = _axes(ax, "correlation")
    ax.plot(middles, kernel, color="k", linestyle="--", label="kernel")
    if isinstance(metric, ResidualCorrelation):
        ax.fill_between(middles, low, high, color=COLOURS[0], alpha=0.25, linewidth=0.0, label="80 % of pairs")
        ax.plot(middles, median, color=COLOURS[0], label="what inducing points leave")
    ax.set(xlabel="distance, in lengthscales", ylabel="|rho|", xlim=(0.0, end), ylim=(0.0, 1.02))
    ax.legend(frameon=False)
    return ax


def in_degree(tree: CoverTree, result: SearchResult, *, ax: Any = None) -> Any:
    """How many rows are neighbours of how many queries: hubs are to the right, rows that nobody has at 0.

    Parameters
    ----------
    tree : CoverTree
    result : SearchResult
        An answer of this tree.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A histogram with a logarithmic axis of rows, and a line at the mean.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import covertreex as cx
    >>> tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    >>> cx.plot.in_degree(tree, tree.search(k=1)).get_title()
    'row 1 is a neighbour of 2 of 3 queries'
    """
    ax = _axes(ax, "in_degree")
    indices = result.indices
    degrees = np.bincount(indices[indices >= 0], minlength=len(tree.X))[tree.ids]
    most = int(degrees.max())
    step = max(1, math.ceil((most + 1) / 100))
    ax.hist(degrees, bins=np.arange(0, most + step + 1, step) - 0.5, color=COLOURS[0], log=True)
    ax.axvline(degrees.mean(), color=COLOURS[1], linewidth=1.4, label=f"mean, {degrees.mean():.3g}")
    ax.set(xlabel="queries that have the row for a neighbour", ylabel="rows")
    hub = tree.ids[np.argmax(degrees)]
    ax.set_title(f"row {hub} is a neighbour of {most:,} of {len(indices):,} queries", fontsize="medium")
    ax.legend(frameon=False)
    return ax


def changed_rows(results: Sequence[SearchResult], *, steps: Sequence[Any] | None = None, ax: Any = None) -> Any:
    """Share of queries whose neighbours changed, step by step of an optimiser.

    Parameters
    ----------
    results : sequence of SearchResult
        Two or more answers to the same queries, in the order of the steps.
    steps : sequence, optional
        What to write below each answer, such as its lengthscale; by default its number, from 0.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A line with a mark for each answer but the first, in percent.

    Raises
    ------
    InvalidInputError
        If there are fewer than two answers, or they do not compare (`SearchResult.changed_rows`), or not one step each.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> X, found = np.random.default_rng(0).uniform(size=(500, 2)), []
    >>> for lengthscale in (0.1, 0.2, 0.21):
    ...     found.append(cx.cover_tree(X, kernel=cx.RBF(lengthscale), inducing=20).search(k=10))
    >>> ax = cx.plot.changed_rows(found, steps=(0.1, 0.2, 0.21))
    >>> ax.lines[0].get_ydata().round(1).tolist()
    [83.0, 12.8]
    """
    if len(results) < 2:
        raise InvalidInputError(
            f"changed_rows needs two answers or more, to compare each with the last; got {len(results)}."
        )
    steps = list(range(len(results))) if steps is None else list(steps)
    if len(steps) != len(results):
        raise InvalidInputError(f"steps must name each of the {len(results)} answers, got {len(steps)}.")
    shares = [100.0 * len(after.changed_rows(before)) / len(after.indices) for before, after in pairwise(results)]
    ax = _axes(ax, "changed_rows")
    places = np.arange(1, len(results))
    ax.plot(places, shares, marker="o", color=COLOURS[0])
    for place, share in zip(places, shares, strict=True):
        ax.annotate(f"{share:.3g} %", (place, share), xytext=(0, 8), textcoords="offset points", ha="center",
                    fontsize=8, bbox=BOX)  # fmt: skip
    ax.set_xticks(places, [str(step) for step in steps[1:]])
    ax.set(xlabel="step", ylabel="queries with other neighbours, %", ylim=(0.0, 1.15 * max(*shares, 1.0)))
    ax.margins(x=0.08)
    ax.grid(axis="y", alpha=0.25)
    return ax


def recall(bench: dict[str, Any] | str | os.PathLike[str], *, series: int = 0, ax: Any = None) -> Any:
    """Recall against time, of what ``covertreex bench SUITE --json FILE`` measured, at its largest size.

    Two recalls are far apart on their axis if one misses ten times as much as the other; 1 stands on top. Lines through
    marks are 95 % intervals; hollow marks at the bottom are software whose neighbours cannot be seen. The *dense limit*
    is the time of one plain matrix product over all pairs.

    Parameters
    ----------
    bench : dict or path
        The JSON, or its file.
    series : int
        Which of its questions, of those that have figures.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If `bench` is something else, or has no such question.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> row = {"row": "mine", "kind": "engine", "seconds": 0.5, "recall": 0.99, "recall_interval": [0.98, 0.995]}
    >>> bench = {"covertreex_bench": 1, "series": [{"name": "all", "cases": [{"n": 1000, "rows": [row]}]}]}
    >>> recall(bench).get_title()
    'all, n = 1,000: recall'
    """
    if not isinstance(bench, dict):
        try:
            bench = json.loads(Path(bench).read_text(encoding="utf-8"))
        except (ValueError, UnicodeError) as error:
            raise InvalidInputError(f"recall takes the JSON of covertreex bench; {bench} is none: {error}.") from None
    if not isinstance(bench, dict) or "covertreex_bench" not in bench:
        raise InvalidInputError("recall takes the JSON of covertreex bench SUITE --json FILE; this is something else.")
    measured = [one for one in bench["series"] if one["cases"]]
    if not 0 <= series < len(measured):
        raise InvalidInputError(
            f"series must be one of the {len(measured)} questions with figures, from 0; got {series}."
        )
    ax = _axes(ax, "recall")
    case = max(measured[series]["cases"], key=lambda case: case["n"])
    _draw_recalls(ax, case, looks_of(measured))
    ax.set_title(f"{measured[series]['name']}, n = {case['n']:,}: recall")
    return ax


def height_of(recall: float) -> float:
    """Place of a recall on its axis: two recalls are far apart if one misses ten times as much as the other.

    Examples
    --------
    >>> height_of(1.0), round(height_of(0.99), 6)
    (5.0, 2.0)
    """
    return TOP if recall >= 1.0 else min(TOP - 0.3, -math.log10(1.0 - recall))


def looks_of(series: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour, mark and width by row of a benchmark, covertreex first; the same in all pictures of one file.

    Examples
    --------
    >>> rows = [{"row": "dense limit", "kind": "limit"}, {"row": "mine", "kind": "engine"}]
    >>> looks_of([{"cases": [{"rows": rows}]}])["mine"]["marker"]
    'o'
    """
    kinds = {row["row"]: row["kind"] for one in series for case in one["cases"] for row in case["rows"]}
    looks: dict[str, dict[str, Any]] = {}
    number = 0
    for name in sorted(kinds, key=lambda name: kinds[name] != "engine"):
        if kinds[name] == "limit":
            looks[name] = {"color": "#444444", "marker": "", "linestyle": "--", "linewidth": 1.4}
            continue
        ours = kinds[name] == "engine"
        looks[name] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKS[number % len(MARKS)],
            "linestyle": "-" if ours else ":",
            "linewidth": 2.4 if ours else 1.4,
            "markersize": 7 if ours else 6,
        }
        number += 1
    return looks


def seconds_axis(ax: Any, which: str) -> None:
    """Make an axis of `ax`, 'x' or 'y', a logarithmic one of seconds whose ticks are plain numbers."""
    ticker = import_module("matplotlib.ticker")
    getattr(ax, f"set_{which}scale")("log")
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))

    def label(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        # Over many decades more labels than one for each would run into each other.
        return f"{value:g}" if high < 3e3 * low or f"{value:e}".startswith("1.0") else ""

    axis.set_major_formatter(ticker.FuncFormatter(label))
    axis.set_minor_formatter(ticker.NullFormatter())
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def _axes(ax: Any, caller: str) -> Any:
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(
            f"plot.{caller} needs matplotlib, which cannot be imported ({error}): "
            "python -m pip install '.[plot]' in the source folder."
        ) from error
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def _asked(tree: CoverTree, result: SearchResult, query: int, points: ArrayLike | None) -> tuple[FloatArray, str]:
    """Where a query is, and what it is called."""
    if points is None:
        if result.rows is None:
            raise InvalidInputError("the answer is about coordinates: give them, points=..., as they were asked for.")
        row = int(result.rows[query])
        return tree.X[row], f"row {row}"
    if result.rows is not None:
        raise InvalidInputError("the answer is about rows of X, which the tree has: leave out points.")
    coordinates = check_points(points, "points", columns=tree.X.shape[1])
    if len(coordinates) != len(result.indices):
        raise InvalidInputError(
            f"points must be the {len(result.indices)} places that were asked for, got {len(coordinates)}."
        )
    return coordinates[query], f"query {query}"


def _window(here: FloatArray, near: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two opposite corners of what is shown: the query in the middle, and room around its neighbours."""
    half = 1.25 * np.max(np.abs(near - here), axis=0, initial=0.0)
    half[half == 0.0] = half.max() if half.max() > 0.0 else 1.0
    return here - half, here + half


def _field(
    tree: CoverTree, here: FloatArray, columns: tuple[int, int], left: FloatArray, right: FloatArray
) -> FloatArray:
    """``|rho|`` between a query and places on a grid, rows of the picture from below."""
    steps = (np.arange(GRID) + 0.5) / GRID
    across, up = (left + (right - left) * steps[:, None]).T
    places = np.empty((GRID * GRID + 1, 2))
    places[0] = here
    places[1:, columns[0]], places[1:, columns[1]] = np.tile(across, GRID), np.repeat(up, GRID)
    projection: Any = tree.projection
    _, factors, p = projection(places, tree.n_threads)
    metric: Any = tree.metric
    covariances = metric.kernel(places[:1], places[1:])[0] / metric.kernel.variance - factors[1:] @ factors[0]
    rho: FloatArray = np.minimum(np.abs(covariances) / np.sqrt(p[0] * p[1:]), 1.0)
    return rho.reshape(GRID, GRID)


def _draw_recalls(ax: Any, case: dict[str, Any], looks: dict[str, dict[str, Any]]) -> None:
    """Recall against seconds, with 95 % intervals; the dense limit is a vertical line."""
    low = min((row["recall_interval"][0] for row in case["rows"] if row["recall"] is not None), default=0.0)
    shown = [share for share in TICKS if share >= max(share for share in TICKS[:3] if share <= low)]
    unknown = height_of(shown[0]) - 0.6
    nameless = [row for row in case["rows"] if row["recall"] is None and row["kind"] != "limit"]
    placed = []
    for row in sorted(case["rows"], key=lambda row: row["seconds"]):
        look = looks[row["row"]]
        if row["kind"] == "limit":
            ax.axvline(row["seconds"], color=look["color"], linestyle="--", linewidth=1.4)
            ax.annotate("dense limit", (row["seconds"], 0.3), xycoords=("data", "axes fraction"), rotation=90,
                        xytext=(3, 0), textcoords="offset points", fontsize=8, va="center")  # fmt: skip
            continue
        known = row["recall"] is not None
        height = height_of(row["recall"]) if known else unknown
        if known:
            ends = [height_of(limit) for limit in row["recall_interval"]]
            ax.plot([row["seconds"]] * 2, ends, color=look["color"], linewidth=1.2)
        ax.plot(row["seconds"], height, marker=look["marker"], color=look["color"], markersize=9, linestyle="none",
                markerfacecolor=look["color"] if known else "none", label=row["row"])  # fmt: skip
        placed.append((row["seconds"], height, row["row"], look["color"]))
    seconds_axis(ax, "x")
    _name_points(ax, placed)
    places, names = [*map(height_of, shown), TOP], [*(f"{share:g}" for share in shown), "1"]
    if nameless:
        places, names = [unknown, *places], ["unknown", *names]
    ax.set_yticks(places, names)
    ax.set_ylim(places[0] - 0.35, TOP + 0.9)
    ax.axhline(height_of(0.999), color="#999999", linewidth=0.8)
    ax.margins(x=0.18)
    ax.set(xlabel="time, seconds", ylabel="recall against the float64 oracle")


def _name_points(ax: Any, placed: Sequence[tuple[float, float, str, str]]) -> None:
    """A name at each point; of points at the same height, above and below in turn, so that names do not meet."""
    count: dict[float, int] = {}
    for seconds, height, name, colour in placed:
        turn = count[height] = count.get(height, -1) + 1
        step = (9, -17, 20, -28, -39, -50, -61, -72, -83)[turn % 9]
        ax.annotate(name, (seconds, height), xytext=(0, step), textcoords="offset points", fontsize=8.5, color=colour,
                    ha="center", bbox=BOX)  # fmt: skip
