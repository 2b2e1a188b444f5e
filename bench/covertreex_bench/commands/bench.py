"""``covertreex bench``: how fast, with the recall beside it, and how far from the dense limit."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from covertreex.cli import display
from covertreex.errors import InvalidInputError
from covertreex_bench.writing import command_line

#: Distributions whose versions go into a file.
PEER_PACKAGES = ("gpboost", "pynndescent", "scikit-learn", "pykdtree", "threadpoolctl")

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
    json_file: display.JsonFile = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE.png", help="Draw cost against n, and recall against time.")
    ] = None,
):
    """Measure how fast neighbours are found, with the recall of every speed beside it.

    Each suite asks its questions in growing sizes. Every row's answer is checked against the dense float64 oracle on a
    sample of its queries; times are medians of runs taken in turns. The yardstick is the dense limit: one plain matrix
    product over the pairs that brute force compares, measured in the same run on the same threads.

    Figures that are wanted are printed beside those measured, met or missed. "covertreex report" makes a page of the
    JSON files. Other software that is not installed is left out; python -m pip install ".[bench]" in the
    source folder has it.

    Exit code 1 if an exact row's recall is below 1, or a fast one's surely below its target.
    """
    from covertreex.base import parallel
    from covertreex.cli import machine
    from covertreex.io import tables
    from covertreex_bench import conditions
    from covertreex_bench.speed import pictures, suites

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
    load = conditions.load_average()
    out.print(f"{suite.name}: {suite.summary}")
    out.print(f"machine: {conditions.line(machine.describe(threads))}")
    for note in notes:
        out.print(note)
    if not quick:
        steps(f"on two idle cores {suite.minutes} (an estimate); --quick takes half a minute, --no-peers less")

    options = {"repeat": repeat, "patience": patience, "audit": audit, "quick": quick, "k": k, "inducing": small}
    done = [
        _measure(one, sizes[one.name], suites.entrants(one, contenders, taking_part), n_threads, options, out, steps)
        for one in chosen
    ]
    steps("done")
    result = _result(suite, command_line(context), _facts(threads, load), options, notes, done)
    _show_result(out, result)

    display.write_json(result, json_file, indent=1)
    if png is not None:
        with tables.replacing(png, "wb") as file:
            pictures.draw(result, file)
    if result["problems"]:
        raise typer.Exit(1)


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
# What is done, and said


def _measure(series, sizes, entrants, n_threads, options, out, steps):
    """Ask a series' question in all sizes, showing each; a dictionary that can become JSON."""
    from covertreex_bench.speed import grids, measure, suites
    from covertreex_bench.speed.entrants import blas_threads

    past, cases = {}, []
    with blas_threads(n_threads):
        for size in sizes:
            steps(f"{series.name}, n = {size:,}")
            case = measure.measure(
                suites.question(series, size, n_threads, options["k"], options["inducing"]),
                entrants,
                repeat=options["repeat"],
                patience=options["patience"],
                audit=options["audit"],
                sample=QUICK_SAMPLE if options["quick"] else measure.SAMPLE_SECONDS,
                past=past,
                say=lambda text: steps("  " + text),
            )
            cases.append(case)
            out.print()
            grids.show_case(out, series.name, series.counts, case)
    return {"name": series.name, "counts": series.counts, "cases": cases}


def _facts(threads, load):
    """The machine, as a dictionary that can become JSON; `load` is that before the runs."""
    from covertreex.cli import doctor
    from covertreex_bench import conditions

    return conditions.facts(threads, load, PEER_PACKAGES) | {"blas": doctor.multiplies()}


def _result(suite, command, machine, options, notes, series):
    """All of a run, as a dictionary that can become JSON."""
    from covertreex_bench.speed import results

    result = {
        "covertreex_bench": results.SCHEMA,
        "suite": suite.name,
        "summary": suite.summary,
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine,
        "options": options,
        "notes": notes,
        "series": series,
    }
    result["wanted"] = results.judge(result)
    result["problems"] = results.problems(result)
    return result


def _show_result(out, result):
    """Print what is wanted, warnings and problems to the console `out`."""
    from covertreex_bench.speed import grids, results

    out.print()
    if result["wanted"]:
        out.print(grids.wanted_grid(result["wanted"]).on_terminal())
    for line in results.warnings(result):
        out.print(line)
    for problem in result["problems"]:
        out.print(f"FAILED: {problem}", style="bold red")
