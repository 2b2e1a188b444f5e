"""``covertreex bench``: how fast, with the recall beside it, and how far from the dense limit."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from covertreex.cli import display
from covertreex.errors import InvalidInputError

#: Version of the JSON files; a reader refuses others.
SCHEMA = 1

#: What a row is compared with: key of `verdicts.ratios`, and head of the column.
COMPARED = (("numpy", "x numpy\nspeed"), ("gpboost", "x gpboost\nspeed"), ("peer", "x best\npeer speed"))

#: Heads of the columns of preparation and time, by what a series counts.
TIMES = {
    "search": ("factors\ns", "search\ns"),
    "prepared": ("prepare\ns", "search\ns"),
    "build": ("build\ns", "build +\nquery s"),
    "change": ("order\ns", "in all\ns"),
}

#: What these columns say.
TIMES_MEAN = {
    "search": "Search counts everything that comes after the factors, which all are given.",
    "prepared": "Search finds everything prepared; preparing is factors, CoverTree.prepare and a first search.",
    "build": "Build and query are counted together.",
    "change": "Factors and search are counted; order is the part of a first solve that a change does without.",
}

#: Load before the first run above which the machine is not called idle.
BUSY = 0.5

#: Seconds that a run of brute force may take under --quick.
QUICK_SAMPLE = 0.2


def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which suite; without one they are listed.")
    ] = None,
    n: Annotated[str | None, typer.Option("--n", help="Points, or several sizes between commas. Default: all.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Neighbours per query. Default: the workload's.")] = None,
    inducing: Annotated[
        int | None, typer.Option(help="Inducing points; 0 for plain correlation. Default: the workload's.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of all that takes part. Default: all cores.")] = None,
    repeat: Annotated[
        int | None, typer.Option(help="Timed runs per row, taken in turns; the median is shown. Default: 3.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="Who takes part: backend/profile and peers between commas. Default: exact, fast, all peers."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Only the questions whose name has these words.")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Whether others take part, NumPy included.")] = True,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="Leave out a row that is expected to need more for one run.")
    ] = 60.0,
    audit: Annotated[int, typer.Option(help="Queries of each row whose answer is checked.")] = 1_000,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, half a minute: to see what a suite does.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="Write the figures as JSON; - for stdout.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE.png", help="Draw cost against n, and recall against time.")
    ] = None,
):
    """Measure how fast neighbours are found, with the recall of every speed beside it.

    Each suite asks its questions in growing sizes. Every row's answer is checked against the dense float64 oracle on a
    sample of its queries; times are medians of runs taken in turns. The yardstick is the dense limit: one plain matrix
    product over the pairs that brute force compares, measured in the same run on the same threads.

    Figures that are wanted are printed beside those measured, met or missed. "covertreex report" makes a page of the
    JSON files. Other software that is not installed is left out; pip install "covertreex[bench]" has it.

    Exit code 1 if an exact row's recall is below 1, or a fast one's surely below its target.
    """
    from covertreex import parallel, tables
    from covertreex.cli import doctor, machine
    from covertreex_bench.speed import measure, pictures, suites
    from covertreex_bench.speed.entrants import blas_threads

    if name is None:
        _list_suites()
        return
    suite = suites.get(name)
    to_stdout = str(json_file) == "-"
    if json_file is not None and not to_stdout:
        tables.check_output(json_file)
    if png is not None:
        tables.check_output(png, (".png",))
        pictures.check_matplotlib()
    repeat = _check_options(repeat, audit, patience, suite, quick)
    n_threads = parallel.thread_count(threads)
    chosen = _choose_series(suite, series)
    sizes = {one.name: _sizes(n, one, quick, k, inducing) for one in chosen}
    contenders, taking_part, notes = suites.rows(suite, display.names(rows), peers, quick)
    small = suites.QUICK_INDUCING if quick and inducing is None else inducing

    out, steps = display.console(stderr=to_stdout), display.Steps()
    load = machine.load_average()
    out.print(f"{suite.name}: {suite.summary}")
    here = machine.describe(threads)
    out.print(f"machine: {machine.line(here)}")
    for note in notes:
        out.print(note)
    if not quick:
        steps(f"on two idle cores {suite.minutes} (an estimate); --quick takes half a minute, --no-peers less")

    done = []
    with blas_threads(n_threads):
        for one in chosen:
            past, cases = {}, []
            for size in sizes[one.name]:
                steps(f"{one.name}, n = {size:,}")
                question = suites.question(one, size, n_threads, k, small)
                case = measure.measure(
                    question,
                    suites.entrants(one, contenders, taking_part),
                    repeat=repeat,
                    patience=patience,
                    audit=audit,
                    sample=QUICK_SAMPLE if quick else measure.SAMPLE_SECONDS,
                    past=past,
                    say=lambda text: steps("  " + text),
                )
                cases.append(case)
                out.print()
                show_case(out, one.name, one.counts, case)
            done.append({"name": one.name, "counts": one.counts, "cases": cases})
    steps("done")

    here["versions"] = machine.versions(dict.fromkeys((*machine.PACKAGES, *PEER_PACKAGES)))
    here["instruction_sets"], here["blas"] = doctor.instruction_sets(), doctor.multiplies()
    here["load_before"], here["load_after"] = load, machine.load_average()
    result = {
        "covertreex_bench": SCHEMA,
        "suite": suite.name,
        "summary": suite.summary,
        "command": display.command_line(context),
        "date": date.today().isoformat(),
        "machine": here,
        "options": {"repeat": repeat, "patience": patience, "audit": audit, "quick": quick, "k": k, "inducing": small},
        "notes": notes,
        "series": done,
    }
    result["wanted"] = judge(result)
    result["problems"] = problems(result)
    out.print()
    if result["wanted"]:
        out.print(wanted_grid(result["wanted"]).on_terminal())
    for line in warnings(result):
        out.print(line)
    for problem in result["problems"]:
        out.print(f"FAILED: {problem}", style="bold red")

    if json_file is not None:
        display.write_json(result, json_file, indent=1)
    if png is not None:
        with tables.replacing(png, "wb") as file:
            pictures.draw(result, file)
    if result["problems"]:
        raise typer.Exit(1)


#: Distributions whose versions go into a file.
PEER_PACKAGES = ("gpboost", "pynndescent", "scikit-learn", "pykdtree", "threadpoolctl")


# ---------------------------------------------------------------------------------------------------------------------
# What was asked for


def _list_suites():
    from covertreex_bench.speed import suites

    table = display.plain_table(("suite", "left"), ("what it asks", "left"), ("on two cores,\nan estimate", "left"))
    for suite in suites.SUITES.values():
        table.add_row(suite.name, suite.summary, suite.minutes)
    out = display.console()
    out.print(table)
    out.print()
    out.print('Run one with "covertreex bench NAME", or in half a minute with "covertreex bench NAME --quick".')


def _check_options(repeat, audit, patience, suite, quick):
    """The number of turns, and errors for what is out of range."""
    if repeat is None:
        repeat = suite.repeat if not quick else min(3, suite.repeat) if suite.repeat > 3 else 1
    for name, value in (("repeat", repeat), ("audit", audit)):
        if value < 1:
            raise InvalidInputError(f"--{name} must be at least 1, got {value}.")
    if not patience > 0.0:
        raise InvalidInputError(f"--patience must be a number of seconds above 0, got {patience:g}.")
    return repeat


def _choose_series(suite, words):
    """The suite's series, or those that have all `words` in their name."""
    if words is None:
        return suite.series
    chosen = tuple(one for one in suite.series if all(word in one.name for word in words.split()))
    if not chosen:
        names = "; ".join(one.name for one in suite.series)
        raise InvalidInputError(f"no question of the suite {suite.name} has {words!r} in its name; they are: {names}.")
    return chosen


def _sizes(text, series, quick, k, inducing):
    """Numbers of points, ascending."""
    if text is None:
        return series.quick if quick else series.sizes
    try:
        sizes = sorted({int(part.replace("_", "")) for part in text.split(",")})
    except ValueError:
        raise InvalidInputError(f"--n must be a number of points, or several between commas; got {text!r}.") from None
    least = max(2, (k or 0) + 1, inducing or 0)
    if sizes[0] < least:
        raise InvalidInputError(
            f"--n must be at least {least:,}, for more points than neighbours and inducing points; got {sizes[0]:,}."
        )
    return tuple(sizes)


# ---------------------------------------------------------------------------------------------------------------------
# What there is to see


def show_case(out, name, counts, case):
    """Print one case to the console `out`: a title, a table, and remarks."""
    out.print(case_title(name, case), style="bold")
    grid = case_grid(case, counts)
    out.print(grid.on_terminal(None if out.width >= display.WIDE else -1))
    for line in case_remarks(case):
        out.print(line)


def case_title(name, case):
    """The question in one line."""
    facts = [f"d = {case['d']}", f"m = {case['m']}" if case["m"] else "", f"k = {case['k']}"]
    listed = ", ".join([f"n = {case['n']:,}", *(fact for fact in facts if fact and fact not in name)])
    return f"{name}: {listed}; {case['pairs'] / 1e6:,.1f} million pairs"


def case_grid(case, counts):
    """One row per entrant; the last column is for wide screens."""
    from covertreex_bench.speed import verdicts

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
    return display.Grid(columns, rows)


def _ratio(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def case_remarks(case):
    """Lines that say what was measured on a part, and who was left out."""
    parts = [f"{row['row']} {row['measured_share']:.1%}" for row in case["rows"] if row["measured_share"] < 1.0]
    if parts:
        yield f"~ measured on a part of the queries and scaled: {', '.join(parts)}."
    for left in case["left_out"]:
        yield f"{left['row']} is left out: {left['why']}."


def judge(result):
    """What is wanted of the suite of `result`, beside what it measured."""
    from covertreex_bench.speed import suites, verdicts

    suite = suites.SUITES[result["suite"]]
    series = {one.name: one for one in suite.series}
    found = {one["name"]: one["cases"] for one in result["series"]}
    if result["options"]["k"] is not None or result["options"]["inducing"] is not None:
        found = {name: [] for name in found}  # the figures are about the workloads as they are
    return [
        verdicts.judge(wanted, series[wanted.series].sizes, found[wanted.series])
        for wanted in suite.wanted
        if wanted.series in found
    ]


def wanted_grid(wanted):
    """One row per figure that is wanted."""
    columns = [("verdict", "left"), ("question, row", "left"), ("wanted", "left"), ("measured", "left")]
    rows = []
    for one in wanted:
        measured = one["measured_text"]
        if measured and one["recall"] is not None:
            measured += f", recall {display.share(one['recall'])}"
        measured += f"; {one['why']}" if measured and one["why"] else one["why"]
        rows.append([one["verdict"], f"{one['series']}, {one['row']}", one["wanted"], measured])
    return display.Grid(columns, rows)


def warnings(result):
    """What makes figures worth less than they look."""
    load = result["machine"]["load_before"]
    if result["options"]["quick"]:
        yield "Small sizes (--quick): they show what the suite does, not how fast anything is."
    if load is not None and load > BUSY:
        yield f"The machine was not idle (load {load} before the first run): trust neither times nor ratios."
    if result["machine"]["versions"]["threadpoolctl"] == "not installed":
        yield "threadpoolctl is not installed: BLAS used as many threads as it liked."


def problems(result):
    """What is not as it must be, whatever the speed."""
    found = []
    for series in result["series"]:
        for case in series["cases"]:
            for row in case["rows"]:
                if row["kind"] != "engine" or row["recall"] is None:
                    continue
                where = f"{row['row']}, {series['name']}, n = {case['n']:,}: recall {display.share(row['recall'])}"
                target = row["recall_target"]
                if target == 1.0 and row["recall"] < 1.0:
                    found.append(f"{where}, and must be 1.")
                elif row["recall_interval"][1] < target:
                    found.append(f"{where}, surely below its target of {target:g}.")
    return found
