"""Pictures of what a suite measured: cost against n, and recall against time. Needs matplotlib."""

import numpy as np

from covertreex import plot
from covertreex.errors import InvalidInputError


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
    looks = plot.looks_of(series)
    figure = Figure(figsize=(11.0, 0.7 + 4.3 * max(1, len(series))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(series)), 2, squeeze=False)
    for place, one in enumerate(series):
        left, right = axes[place]
        (_draw_costs if len({case["n"] for case in one["cases"]}) > 1 else _draw_bars)(left, one, looks)
        plot.recall(result, series=place, ax=right)
    threads = result["machine"]["threads"]
    figure.suptitle(
        f"covertreex bench {result['suite']}: {result['machine']['processor']}, "
        f"{threads} thread{'s' if threads > 1 else ''}",
        fontsize=11,
    )
    figure.savefig(file, format="png", dpi=110)


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
    plot.seconds_axis(axes, "y")
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
    plot.seconds_axis(axes, "x")
    fastest, slowest = rows[0]["seconds"], rows[-1]["seconds"]
    axes.set_xlim(fastest / 2.0, fastest / 2.0 * (slowest / fastest * 2.0) ** 1.5)


def _known(kind, recall):
    if kind == "limit":
        return "no answer"
    return "recall unknown" if recall is None else f"recall {_text(recall)}"


def _text(recall):
    return "1" if recall >= 1.0 else f"{np.floor(recall * 1e4) / 1e4:.4f}"
