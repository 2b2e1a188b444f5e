"""What was measured, as tables and lines for terminals and Markdown."""

from collections.abc import Iterator

from covertreex.cli import display
from covertreex_bench.speed import verdicts
from covertreex_bench.writing import WIDE, Grid

#: What a row is compared with: key of `verdicts.ratios`, and head of the column.
COMPARED = (("numpy", "x numpy\nspeed"), ("gpboost", "x gpboost\nspeed"), ("peer", "x best\npeer speed"))

#: Heads of the columns of preparation and time, by what a series counts.
TIMES = {
    "search": ("factors\ns", "search\ns"),
    "prepared": ("prepare\ns", "search\ns"),
    "build": ("build\ns", "build +\nquery s"),
    "change": ("order\ns", "in all\ns"),
    "one by one": ("factors\ns", "search\ns"),
}

#: What these columns say.
TIMES_MEAN = {
    "search": "Search counts everything that comes after the factors, which all are given.",
    "prepared": "Search finds everything prepared; preparing is factors, CoverTree.prepare and a first search.",
    "build": "Build and query are counted together.",
    "change": "Factors and search are counted; order is the part of a first solve that a change does without.",
    "one by one": "What a search for each query takes more than one for all is Python, but for rows that many share.",
}


def show_case(out, name: str, counts: str, case: dict) -> None:
    """Print one case to the console `out`: a title, a table, and remarks."""
    out.print(case_title(name, case), style="bold")
    grid = case_grid(case, counts)
    out.print(grid.on_terminal(None if out.width >= WIDE else -1))
    for line in case_remarks(case):
        out.print(line)


def case_title(name: str, case: dict) -> str:
    """The question in one line."""
    facts = [f"d = {case['d']}", f"m = {case['m']}" if case["m"] else "", f"k = {case['k']}"]
    listed = ", ".join([f"n = {case['n']:,}", *(fact for fact in facts if fact and fact not in name)])
    return f"{name}: {listed}; {case['pairs'] / 1e6:,.1f} million pairs"


def case_grid(case: dict, counts: str) -> Grid:
    """One row per entrant; the last column is for wide screens."""
    found = [verdicts.ratios(case, row) for row in case["rows"]]
    wanted = ("peer",) if counts == "build" else ("numpy", "gpboost")
    compared = [(key, head) for key, head in COMPARED if key in wanted and any(one[key] is not None for one in found)]
    prepare, seconds = TIMES[counts]
    columns = [
        ("row", "left"),
        (prepare, "right"),
        (seconds, "right"),
        ("of dense\nlimit", "right"),
        *((head, "right") for _, head in compared),
        ("\nrecall", "right"),
        ("surely\nabove", "right"),
        ("all runs\ns", "left"),
    ]
    rows = []
    for row, one in zip(case["rows"], found, strict=True):
        part = "~" if row["measured_share"] < 1.0 else ""
        known = row["recall"] is not None
        none = "" if row["kind"] == "limit" else "unknown"
        rows.append(
            [
                row["row"],
                display.duration(row["prepare_seconds"]),
                part + display.duration(row["seconds"]),
                _ratio(one["dense"]),
                *("" if row["kind"] == "limit" else _ratio(one[key]) for key, _ in compared),
                display.share(row["recall"])[:7] if known else none,
                display.share(row["recall_interval"][0])[:7] if known else "",
                ", ".join(map(display.duration, row["all_seconds"])),
            ]
        )
    return Grid(columns, rows)


def _ratio(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def case_remarks(case: dict) -> Iterator[str]:
    """Lines that say what was measured on a part, and who was left out."""
    parts = [f"{row['row']} {row['measured_share']:.1%}" for row in case["rows"] if row["measured_share"] < 1.0]
    if parts:
        yield f"~ measured on a part of the queries and scaled: {', '.join(parts)}."
    for left in case["left_out"]:
        yield f"{left['row']} is left out: {left['why']}."


def wanted_grid(wanted: list[dict]) -> Grid:
    """One row per figure that is wanted."""
    columns = [("verdict", "left"), ("question, row", "left"), ("wanted", "left"), ("measured", "left")]
    rows = []
    for one in wanted:
        measured = one["measured_text"]
        if measured and one["recall"] is not None:
            measured += f", recall {display.share(one['recall'])}"
        measured += f"; {one['why']}" if measured and one["why"] else one["why"]
        rows.append([one["verdict"], f"{one['series']}, {one['row']}", one["wanted"], measured])
    return Grid(columns, rows)


def kernel_text(case: dict) -> str:
    """Kernel and number of queries, as a sentence."""
    kernel = f"`{case['kernel']}`" if case["kernel"] else "Euclidean distance"
    which = "among its predecessors" if case["predecessors"] else "among all points"
    return f"{kernel}; {case['queries']:,} queries, each {which}."


def by_size(series: dict) -> Grid:
    """Seconds and recall of every row, a column for each n."""
    names = list(dict.fromkeys(row["row"] for case in series["cases"] for row in case["rows"]))
    columns = [("row", "left"), *((f"n = {case['n']:,}", "right") for case in series["cases"])]

    def cell(case, name):
        row = next((row for row in case["rows"] if row["row"] == name), None)
        if row is None:
            return "-"
        part = "~" if row["measured_share"] < 1.0 else ""
        recall = f" ({display.share(row['recall'])[:7]})" if row["recall"] is not None else ""
        return part + display.duration(row["seconds"]) + recall

    return Grid(columns, [[name, *(cell(case, name) for case in series["cases"])] for name in names])
