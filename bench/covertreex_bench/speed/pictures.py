"""Pictures of what a suite measured: cost against n, and recall against time. Needs matplotlib."""

import math

import numpy as np

from covertreex.errors import InvalidInputError

#: Okabe and Ito's colours, which people with any colour vision tell apart, and the marks that go with them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000", "#7F7F7F", "#B22222")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

#: Recalls that are named on their axis, which is that of -log10(1 - recall); 1 stands at `TOP`.
TICKS, TOP = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999), 5.0


def check_matplotlib() -> None:
    """Raise if pictures cannot be drawn.

    Raises
    ------
    InvalidInputError
        If matplotlib is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InvalidInputError(
            'pictures need matplotlib, which is not installed; run python -m pip install ".[bench]" in the source '
            "folder, or leave out --png."
        )


def height_of(recall: float) -> float:
    """Place of a recall on its axis: two recalls are far apart if one misses ten times as much as the other.

    Examples
    --------
    >>> height_of(1.0), round(height_of(0.99), 6)
    (5.0, 2.0)
    """
    return TOP if recall >= 1.0 else min(TOP - 0.3, -math.log10(1.0 - recall))


def draw(result: dict, file) -> None:
    """Draw a result as PNG: for each series, cost against n on the left and recall against time on the right.

    Parameters
    ----------
    result : dict
        As `covertreex_bench.speed.results.read` takes it.
    file : path or binary file
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = [one for one in result["series"] if one["cases"]]
    looks = _looks(series)
    figure = Figure(figsize=(11.0, 0.7 + 4.3 * max(1, len(series))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(series)), 2, squeeze=False)
    for (left, right), one in zip(axes, series, strict=False):
        (_draw_costs if len({case["n"] for case in one["cases"]}) > 1 else _draw_bars)(left, one, looks)
        _draw_recalls(right, one, looks)
    threads = result["machine"]["threads"]
    figure.suptitle(
        f"covertreex bench {result['suite']}: {result['machine']['processor']}, "
        f"{threads} thread{'s' if threads > 1 else ''}",
        fontsize=11,
    )
    figure.savefig(file, format="png", dpi=110)


def _looks(series):
    """Colour, mark and width by row, covertreex first; the same in all panels."""
    kinds = {row["row"]: row["kind"] for one in series for case in one["cases"] for row in case["rows"]}
    looks, number = {}, 0
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


def _draw_costs(axes, series, looks):
    """Seconds against n, both in logarithms; each line's name with the lowest recall that it had."""
    for name, look in looks.items():
        rows = [(case["n"], row) for case in series["cases"] for row in case["rows"] if row["row"] == name]
        if not rows:
            continue
        rows.sort(key=lambda pair: pair[0])
        recalls = [row["recall"] for _, row in rows if row["recall"] is not None]
        more = " or more" if len(set(recalls)) > 1 else ""
        label = f"{name} ({_known(rows[0][1]['kind'], min(recalls, default=None))}{more})"
        axes.plot([n for n, _ in rows], [row["seconds"] for _, row in rows], label=label, **look)
    sizes = sorted({case["n"] for case in series["cases"]})
    axes.set(xscale="log", xlabel="n, points", ylabel="time, seconds", title=f"{series['name']}: cost")
    _seconds(axes, "y")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08, y=0.08)
    # Below the lines: names are long, and a box inside would hide some.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _draw_bars(axes, series, looks):
    """Seconds as bars, the slowest on top: what there is to see of a single size."""
    case = series["cases"][-1]
    rows = sorted(case["rows"], key=lambda row: row["seconds"])
    for place, row in enumerate(rows):
        axes.barh(place, row["seconds"], color=looks[row["row"]]["color"], height=0.55)
        axes.annotate(f"{row['seconds']:.3g} s, {_known(row['kind'], row['recall'])}", (row["seconds"], place),
                      xytext=(4, 0), textcoords="offset points", fontsize=8.5, va="center")  # fmt: skip
    axes.set_yticks(range(len(rows)), [row["row"] for row in rows])
    axes.set(xlabel="time, seconds", title=f"{series['name']}, n = {case['n']:,}: cost")
    _seconds(axes, "x")
    fastest, slowest = rows[0]["seconds"], rows[-1]["seconds"]
    axes.set_xlim(fastest / 2.0, fastest / 2.0 * (slowest / fastest * 2.0) ** 1.5)


def _draw_recalls(axes, series, looks):
    """Recall against seconds at the largest size, with 95 % intervals; the dense limit is a vertical line."""
    case = max(series["cases"], key=lambda case: case["n"])
    low = min((row["recall_interval"][0] for row in case["rows"] if row["recall"] is not None), default=0.0)
    shown = [share for share in TICKS if share >= max(share for share in TICKS[:3] if share <= low)]
    unknown = height_of(shown[0]) - 0.6
    nameless = [row for row in case["rows"] if row["recall"] is None and row["kind"] != "limit"]
    placed = []
    for row in sorted(case["rows"], key=lambda row: row["seconds"]):
        look = looks[row["row"]]
        if row["kind"] == "limit":
            axes.axvline(row["seconds"], color=look["color"], linestyle="--", linewidth=1.4)
            axes.annotate("dense limit", (row["seconds"], 0.3), xycoords=("data", "axes fraction"), rotation=90,
                          xytext=(3, 0), textcoords="offset points", fontsize=8, va="center")  # fmt: skip
            continue
        known = row["recall"] is not None
        height = height_of(row["recall"]) if known else unknown
        if known:
            ends = [height_of(limit) for limit in row["recall_interval"]]
            axes.plot([row["seconds"]] * 2, ends, color=look["color"], linewidth=1.2)
        axes.plot(row["seconds"], height, marker=look["marker"], color=look["color"], markersize=9, linestyle="none",
                  markerfacecolor=look["color"] if known else "none")  # fmt: skip
        placed.append((row["seconds"], height, row["row"], look["color"]))
    _seconds(axes, "x")
    _name_points(axes, placed)
    places, names = [*map(height_of, shown), TOP], [*(f"{share:g}" for share in shown), "1"]
    if nameless:
        places, names = [unknown, *places], ["unknown", *names]
    axes.set_yticks(places, names)
    axes.set_ylim(places[0] - 0.35, TOP + 0.9)
    axes.axhline(height_of(0.999), color="#999999", linewidth=0.8)
    axes.margins(x=0.18)
    axes.set(xlabel="time, seconds", ylabel="recall against the float64 oracle",
             title=f"{series['name']}, n = {case['n']:,}: recall")  # fmt: skip


def _name_points(axes, placed):
    """A name at each point; of points at the same height, above and below in turn, so that names do not meet."""
    count = {}
    for seconds, height, name, colour in placed:
        turn = count[height] = count.get(height, -1) + 1
        step = (9, -17, 20, -28, -39, -50, -61, -72, -83)[turn % 9]
        axes.annotate(name, (seconds, height), xytext=(0, step), textcoords="offset points", fontsize=8.5, color=colour,
                      ha="center", bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.4, "linewidth": 0})  # fmt: skip


def _seconds(axes, which):
    """A logarithmic axis of seconds whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _known(kind, recall):
    if kind == "limit":
        return "no answer"
    return "recall unknown" if recall is None else f"recall {_text(recall)}"


def _text(recall):
    return "1" if recall >= 1.0 else f"{np.floor(recall * 1e4) / 1e4:.4f}"
