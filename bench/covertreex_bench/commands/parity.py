"""``covertreex parity``: backends side by side on one question, and what each setting does to it."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from covertreex._version import DISTRIBUTION
from covertreex.cli import display
from covertreex.errors import InvalidInputError
from covertreex_bench.writing import command_line

WorkloadName = enum.Enum(
    "WorkloadName", {name: name for name in ("gold", "vif", "cities", "rough", "euclidean")}, type=str
)


def parity(
    context: typer.Context,
    workload: Annotated[
        WorkloadName, typer.Option(metavar="NAME", help="What to ask: gold, vif, cities, rough or euclidean.")
    ] = WorkloadName.gold,
    n: Annotated[int | None, typer.Option("--n", help="Points. Default: as the workload has it.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Neighbours per query. Default: the workload's.")] = None,
    queries: Annotated[int, typer.Option(help="How many points to ask about.")] = 1_024,
    predecessors: Annotated[
        bool | None,
        typer.Option(
            "--predecessors/--all-points", help="Only points before the query, or all. Default: the workload's."
        ),
    ] = None,
    inducing: Annotated[
        int | None, typer.Option(help="Inducing points; 0 for plain correlation. Default: the workload's.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads. Default: all cores.")] = None,
    repeat: Annotated[int, typer.Option(help="Timed runs per row, taken in turns; the median is shown.")] = 1,
    rows: Annotated[
        str | None,
        typer.Option(
            help="What to run, as backend/profile between commas. Default: gold, and parity on every backend."
        ),
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(help="Backends between commas, compared at the levels that they claim, phase by phase."),
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Flip each setting alone instead, from parity to gold.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Whose settings --matrix flips. Default: cython.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write a report in Markdown.")] = None,
    json_file: display.JsonFile = None,
):
    """Run backends side by side on one question: bits, counters, times and recall, in one run.

    Every row is compared with the first, bit for bit; parity rows with the first of them, counter for counter; times
    with gold; recall is against a dense float64 oracle. Where rows differ, the first query that does is shown with both
    neighbours, both distances, and the oracle's.

    With --backends, those: the tree search (L1) and its mechanisms (L2), the decision of all pairs (L0), and an exact
    search with its screens (S, or covertreex's own), each phase timed and compared for itself.

    With --matrix, one backend: from parity to gold each setting flipped alone, and what it does to evaluations, time
    and answer. Only level caps and budgets are approximate, and their recall is shown; all else must not change a bit.

    Exit code 1 if bits, parity counters or a recall are not as they must be, or a counter is not zero though the
    settings switch off what it counts.
    """
    from covertreex.io import tables
    from covertreex_bench import compare, conditions, workloads
    from covertreex_bench.audit import Audit

    to_stdout = str(json_file) == "-"
    if report is not None:
        tables.check_output(report, (".md",))
    if json_file is not None and not to_stdout:
        tables.check_output(json_file)
    _check_options(matrix, rows, backend, backends)
    question = workloads.make_workload(
        workload.value, n=n, k=k, queries=queries, predecessors=predecessors, inducing=inducing
    )
    if rows is not None:
        contenders, notes = compare.parse_contenders(display.names(rows)), []
    elif not matrix and backends is None:
        contenders, notes = compare.parity_contenders()

    load = conditions.load_average()
    steps = display.Steps()
    with steps.timed("factors", f"making the factors of {len(question.X):,} points"):
        tree = question.tree(threads)
    switches = None
    if backends is not None:
        contenders, notes = compare.level_contenders(display.names(backends), tree.payload)
    if matrix:
        switches, notes = compare.switches(backend or "cython", tree.payload)
        contenders = [switch.contender for switch in switches]
    comparison = compare.compare(
        tree,
        question.queries,
        question.k,
        contenders,
        predecessor_mode=question.predecessors,
        n_threads=threads,
        repeat=repeat,
        on_step=steps,
    )
    steps("done")

    audit = Audit(
        comparison=comparison,
        switches=switches,
        workload=question,
        notes=notes,
        machine=conditions.facts(threads, load, _distributions(contenders)),
        command=command_line(context),
        factors_seconds=steps.took["factors"],
    )
    audit.show(display.console(stderr=to_stdout))
    if report is not None:
        with tables.replacing(report) as file:
            file.write(audit.markdown())
    display.write_json(audit.as_dict(), json_file)
    if comparison.problems:
        raise typer.Exit(1)


def _check_options(matrix, rows, backend, backends):
    """Options that have no meaning beside one another are errors, rather than ignored."""
    if backends is not None and (matrix or rows is not None):
        raise InvalidInputError("--backends excludes --rows and --matrix; it says by itself what runs.")
    if matrix and rows is not None:
        raise InvalidInputError("--rows and --matrix exclude each other; name the backend of a matrix with --backend.")
    if backend is not None and not matrix:
        raise InvalidInputError("--backend goes with --matrix; without it, name backends with --rows.")


def _distributions(contenders):
    """Names of the distributions, beside our own, whose backends take part."""
    from covertreex.backends import registry

    wanted = {contender.backend for contender in contenders}
    found = [info.distribution for info in registry.list_backends() if info.name in wanted]
    return [name for name in found if name != DISTRIBUTION]
