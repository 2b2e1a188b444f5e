"""``covertreex gold``: the reference workload on every backend, with the proof that they agree."""

from pathlib import Path
from typing import Annotated

import typer

from covertreex.cli import display
from covertreex.cli.display import KERNEL_LIST, KernelName


def gold(
    n: Annotated[int, typer.Option("--n", help="Points.")] = 32_768,
    k: Annotated[int, typer.Option("--k", help="Neighbours per query.")] = 50,
    queries: Annotated[int, typer.Option(help="How many points to ask about.")] = 1_024,
    kernel: Annotated[
        KernelName, typer.Option(metavar="KERNEL", help=f"Covariance function: {KERNEL_LIST}.")
    ] = KernelName.rbf,
    lengthscale: Annotated[str, typer.Option(help="Lengthscale, or three between commas.")] = "1.0",
    inducing: Annotated[int, typer.Option(help="Inducing points; 0 for plain correlation.")] = 512,
    predecessors: Annotated[bool, typer.Option("--predecessors", help="Only points before the query.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads. Default: all cores.")] = None,
    repeat: Annotated[int, typer.Option(help="Timed runs per row, taken in turns; the median is shown.")] = 1,
    rows: Annotated[
        str | None,
        typer.Option(help="What to run, as backend/profile between commas. Default: all that is installed."),
    ] = None,
    json_file: display.JsonFile = None,
    telemetry: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was counted, one JSON line per query block.")
    ] = None,
):
    """Run the gold workload on every backend and check that all find the same, true neighbours.

    32,768 points in three dimensions, 512 inducing points, and the 50 nearest neighbours of 1,024 of the points.
    Prints one row per backend and profile: how long it took, its recall against a dense float64 oracle, and whether its
    answer equals the first row's bit for bit. About a minute on two cores.

    Exit code 1 if a recall is below 1, or bits or the counters of parity rows differ.
    """
    from covertreex.cli import machine
    from covertreex.io import tables
    from covertreex_bench import compare, conditions, workloads

    to_stdout = str(json_file) == "-"
    for path in (None if to_stdout else json_file, telemetry):
        if path is not None:
            tables.check_output(path)
    contenders, notes = compare.default_contenders()
    if rows is not None:
        contenders, notes = compare.parse_contenders(display.names(rows)), []

    steps = display.Steps()
    out = display.console(stderr=to_stdout)
    workload = workloads.gold(
        n,
        k=k,
        queries=queries,
        kernel=display.make_kernel(kernel.value, display.numbers(lengthscale, "lengthscale")),
        inducing=inducing,
        predecessors=predecessors,
    )
    here = machine.describe(threads)
    shape = {"n": n, "d": workload.X.shape[1], "m": inducing, "k": k, "queries": queries, "predecessors": predecessors}
    for line in (_question(workload, shape), f"machine: {conditions.line(here)}", *notes):
        out.print(line)

    with steps.timed("factors", f"making the factors of {n:,} points"):
        tree = workload.tree(threads)
    comparison = compare.compare(
        tree,
        workload.queries,
        k,
        contenders,
        predecessor_mode=predecessors,
        n_threads=threads,
        repeat=repeat,
        on_step=steps,
    )
    steps("done")

    _show(out, comparison, steps.took["factors"], tree, repeat)
    display.write_json(_as_json(comparison, steps.took["factors"], workload, shape, here), json_file)
    if telemetry is not None:
        with tables.replacing(telemetry) as file:
            file.writelines(run.result.telemetry.to_jsonl() for run in comparison.runs)
    if comparison.problems:
        raise typer.Exit(1)


def _question(workload, shape):
    """The workload in a line."""
    return (
        f"gold workload: n = {shape['n']:,}, d = {shape['d']}, {workload.metric['kernel']}, "
        f"m = {shape['m']:,} inducing points, k = {shape['k']}{', predecessors' if shape['predecessors'] else ''}, "
        f"{shape['queries']:,} queries"
    )


def _show(out, comparison, factors_seconds, tree, repeat):
    """Print table, remarks and verdict to the console `out`."""
    out.print()
    out.print(_table(comparison, factors_seconds))
    out.print()
    for line in _remarks(comparison, tree, repeat):
        out.print(line)
    problems = comparison.problems
    for problem in problems:
        out.print(f"FAILED: {problem}", style="bold red")
    if not problems:
        out.print("All rows agree: " + comparison.verdict, style="green")


def _table(comparison, factors_seconds):
    right = "right"
    table = display.plain_table(
        ("backend/\nprofile", "left"),
        ("factors\ns", right),
        ("tree\ns", right),
        ("query\ns", right),
        ("queries\n/s", right),
        ("\nrecall", right),
        ("evals\n/query", right),
        ("\nbits", "left"),
        ("\ncounts", "left"),
    )
    seen_parity = False
    for number, run in enumerate(comparison.runs):
        counters = "" if run.same_counters is None else "same" if run.same_counters else "DIFFER"
        if run.same_counters is not None and not seen_parity:
            counters, seen_parity = "first", True
        table.add_row(
            run.contender.name,
            display.duration(factors_seconds),
            display.duration(comparison.tree_seconds if run.result.plan.verb == "search" else None),
            display.duration(run.median_seconds),
            f"{run.queries_per_second:,.0f}",
            display.share(run.recall),
            f"{run.evals_per_query:,.0f}",
            "first" if number == 0 else "same" if run.same_bits else "DIFFER",
            counters,
        )
    return table


def _remarks(comparison, tree, repeat):
    yield "Factors and tree are made once and shared by all rows; a row without a tree scans all points."
    if repeat > 1:
        yield f"Query times are medians of {repeat} runs, taken in turns."
    slow = [run for run in comparison.runs if run.first_call_seconds > 1.0]
    if slow:
        listed = ", ".join(f"{run.contender.name} {display.duration(run.first_call_seconds)} s" for run in slow)
        yield f"Loading and compiling, off the clock: {listed}."
    if tree.payload.floored:
        yield f"{tree.payload.floored:,} points have a residual variance at its floor, 1e-9 of the variance."


def _as_json(comparison, factors_seconds, workload, shape, here):
    return {
        "workload": {"name": workload.name, "kernel": repr(workload.metric["kernel"]), **shape},
        "machine": here,
        "factors_seconds": factors_seconds,
        "tree_seconds": comparison.tree_seconds,
        "rows": [run.as_dict() for run in comparison.runs],
        "problems": comparison.problems,
    }
