"""``covertreex parity``: backends side by side on one question, and what each setting does to it."""

import enum
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from covertreex.cli import display
from covertreex.errors import InvalidInputError

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
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Flip each setting alone instead, from parity to gold.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Whose settings --matrix flips. Default: cython.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write a report in Markdown.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="Write the figures as JSON; - for stdout.")
    ] = None,
):
    """Run backends side by side on one question: bits, counters, times and recall, in one run.

    Every row is compared with the first, bit for bit; parity rows with the first of them, counter for counter; times
    with gold; recall is against a dense float64 oracle. Where rows differ, the first query that does is shown with both
    neighbours, both distances, and the oracle's.

    With --matrix, one backend: from parity to gold each setting flipped alone, and what it does to evaluations, time
    and answer. Only level caps and budgets are approximate, and their recall is shown; all else must not change a bit.

    Exit code 1 if bits, parity counters or a recall are not as they must be, or a counter is not zero though the
    settings switch off what it counts.
    """
    from covertreex import tables
    from covertreex.cli import machine
    from covertreex_bench import compare

    to_stdout = str(json_file) == "-"
    if report is not None:
        tables.check_output(report, (".md",))
    if json_file is not None and not to_stdout:
        tables.check_output(json_file)
    if matrix and rows is not None:
        raise InvalidInputError("--rows and --matrix exclude each other; name the backend of a matrix with --backend.")
    if backend is not None and not matrix:
        raise InvalidInputError("--backend goes with --matrix; without it, name backends with --rows.")
    question = compare.make_workload(
        workload.value, n=n, k=k, queries=queries, predecessors=predecessors, inducing=inducing
    )
    if rows is not None:
        contenders, notes = compare.parse_contenders(display.names(rows)), []
    elif not matrix:
        contenders, notes = compare.parity_contenders()

    load = machine.load_average()
    steps = display.Steps()
    with steps.timed("factors", f"making the factors of {len(question.X):,} points"):
        tree = question.tree(threads)
    switches = None
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
        machine=machine_facts(contenders, threads, load),
        command=display.command_line(context),
        factors_seconds=steps.took["factors"],
    )
    audit.show(display.console(stderr=to_stdout))
    if report is not None:
        with tables.replacing(report) as file:
            file.write(audit.markdown())
    if json_file is not None:
        display.write_json(audit.as_dict(), json_file)
    if comparison.problems:
        raise typer.Exit(1)


# ---------------------------------------------------------------------------------------------------------------------
# What a report says about its making


def machine_facts(contenders, threads, load):
    """What there is to know about the machine, as a dictionary that can become JSON; `load` is that before the runs."""
    from covertreex import registry
    from covertreex.cli import doctor, machine

    wanted = {contender.backend for contender in contenders}
    distributions = [info.distribution for info in registry.list_backends() if info.name in wanted]
    found = machine.describe(threads)
    found["versions"] = machine.versions(dict.fromkeys((*machine.PACKAGES, *distributions)))
    found["instruction_sets"] = doctor.instruction_sets()
    found["load_before"], found["load_after"] = load, machine.load_average()
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What there is to see


@dataclass(frozen=True)
class Audit:
    """A comparison, and all that a reader needs to judge and repeat it: on the screen, as Markdown, as JSON.

    Attributes
    ----------
    comparison : covertreex_bench.compare.Comparison
    switches : list of covertreex_bench.compare.Switch, or None
        One for each run of a matrix; None for backends side by side.
    workload : covertreex_bench.workloads.Workload
    notes : list of str
        What is left out, and why.
    machine : dict
    command : str
    factors_seconds : float
    """

    comparison: object
    switches: list | None
    workload: object
    notes: list
    machine: dict
    command: str
    factors_seconds: float

    def show(self, out):
        """Print everything to the console `out`."""
        from covertreex.cli import machine

        here = self.machine
        out.print(self.question())
        out.print(f"machine: {machine.line(here)}; load {here['load_before']} before, {here['load_after']} after")
        for note in self.notes:
            out.print(note)
        out.print()
        grid = self.results() if self.switches is None else self.matrix()
        out.print(grid.on_terminal(None if out.width >= display.WIDE else -1))
        out.print()
        for line in self.legend():
            out.print(line)
        for title, grid in self.disagreements():
            out.print()
            out.print(title, style="bold red")
            out.print(grid.on_terminal())
        if self.comparison.problems:
            out.print()
        for problem in self.comparison.problems:
            out.print(f"FAILED: {problem}", style="bold red")
        if not self.comparison.problems:
            out.print(self.verdict(), style="green")

    def markdown(self):
        """The report."""
        what = "Backends side by side" if self.switches is None else "One switch at a time, from parity to gold"
        problems = self.comparison.problems
        parts = [
            [f"# {what}"],
            [self.question() + "."],
            [f"**FAILED:** {problem}" for problem in problems] or [f"**{self.verdict()}**"],
            [f"Made by this command on {date.today().isoformat()}, and by no hand:"],
            ["```", self.command, "```"],
            ["## Results"],
            (self.results() if self.switches is None else self.matrix()).markdown(),
            [f"- {line}" for line in (*self.legend(), *self.notes)],
        ]
        for title, grid in self.disagreements():
            parts += [[f"### {title}"], grid.markdown()]
        parts += [
            ["## Counters"],
            ["Sums over all queries (`frontier_peak`: the largest). *off*: the settings switch off what it counts."],
            self.counters().markdown(),
            ["## Settings"],
            self.settings().markdown(),
            ["## Machine"],
            self.machine_grid().markdown(),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def as_dict(self):
        """The same as a dictionary that can become JSON."""
        comparison, workload = self.comparison, self.workload
        kernel = workload.metric.get("kernel")
        rows = [run.as_dict() | {"name": run.contender.name} for run in comparison.runs]
        for number, (row, run) in enumerate(zip(rows, comparison.runs, strict=True)):
            row["ratio_to_gold"] = run.median_seconds / comparison.gold.median_seconds if self.has_gold() else None
            row["settings_digest"] = run.contender.settings.digest()
            if self.switches is not None:
                base = self.base(number)
                row["base"] = base.contender.name
                row["seconds_to_base"] = run.median_seconds / base.median_seconds
                row["evals_to_base"] = run.evals_per_query / base.evals_per_query if base.evals_per_query else None
                row["approximate"] = run.contender.settings.approximate
        return {
            "command": self.command,
            "workload": {
                "name": workload.name,
                "n": len(workload.X),
                "d": workload.X.shape[1],
                "kernel": repr(kernel) if kernel is not None else None,
                "m": workload.metric.get("inducing") or 0,
                "k": workload.k,
                "queries": len(workload.queries),
                "predecessors": workload.predecessors,
            },
            "machine": self.machine,
            "factors_seconds": self.factors_seconds,
            "tree_seconds": comparison.tree_seconds,
            "settings": {run.contender.name: asdict(run.contender.settings) for run in comparison.runs},
            "rows": rows,
            "differences": [asdict(difference) for difference in comparison.differences],
            "counter_differences": [asdict(difference) for difference in comparison.counter_differences],
            "notes": self.notes,
            "problems": comparison.problems,
        }

    def question(self):
        """The workload in one line."""
        n, d = self.workload.X.shape
        kernel, inducing = self.workload.metric.get("kernel"), self.workload.metric.get("inducing")
        metric = "Euclidean distance"
        if kernel is not None:
            metric = f"{kernel!r}, " + (f"m = {inducing:,} inducing points" if inducing else "no inducing points")
        return (
            f"{self.workload.name} workload, n = {n:,}, d = {d}, {metric}, k = {self.workload.k}, "
            f"{len(self.workload.queries):,} queries{', predecessors' if self.workload.predecessors else ''}"
        )

    def verdict(self):
        """What holds, if there is no problem."""
        if self.switches is None:
            return f"All rows agree: {self.comparison.verdict}"
        return f"No switch changes what it must not: {self.comparison.verdict}"

    def has_gold(self):
        """Whether a row is of the gold profile."""
        return self.comparison.gold.contender.settings.profile == "gold"

    def base(self, number):
        """The run with which that of switch `number` is compared."""
        name = self.switches[number].base
        return next(run for run in self.comparison.runs if run.contender.name == name)

    def legend(self):
        """Lines that say how to read the results."""
        from covertreex_bench.compare import SWITCHED_COUNTERS

        comparison = self.comparison
        tree = display.duration(comparison.tree_seconds)
        yield (
            f"Off the clock: factors {display.duration(self.factors_seconds)} s"
            + (f", tree {tree} s" if comparison.tree_seconds is not None else "")
            + ", shared by all rows; loading and compiling."
        )
        if (repeat := len(comparison.runs[0].seconds)) > 1:
            yield f"Query times are medians of {repeat} runs, taken in turns."
        if (load := self.machine["load_before"]) is not None and load > 0.5:
            yield f"The machine was not idle (load {load} before the first run): times are longer than need be."
        if self.switches is None:
            return
        bases = dict.fromkeys(switch.base for switch in self.switches)
        first, *others = [
            [base, [s.contender.name for s in self.switches if s.base == base != s.contender.name]] for base in bases
        ]
        yield (
            f"Ratios (x) are to {first[0]}"
            + "".join(f"; those of {' and '.join(names)} to {base}" for base, names in others)
            + ". After a screen, evaluations are those that were left to do."
        )
        named = [run for run in comparison.runs if run.contender.settings.profile in ("gold", "parity")]
        off = [
            name
            for name, wanted in SWITCHED_COUNTERS.items()
            if not any(wanted(run.contender.settings) or name in run.leaks for run in named)
        ]
        names = " and ".join(run.contender.name for run in named)
        yield f"Off under {names}, and counted zero times: {', '.join(off)}."

    def results(self):
        """One row per contender."""
        comparison = self.comparison
        columns = [
            ("backend/\nprofile", "left"),
            ("query\ns", "right"),
            ("x gold" if self.has_gold() else f"x {comparison.gold.contender.name}", "right"),
            ("queries\n/s", "right"),
            ("recall", "right"),
            ("evals\n/query", "right"),
            ("bits", "left"),
            ("counts", "left"),
            ("all runs\ns", "left"),
        ]
        first_parity = next((run for run in comparison.runs if run.same_counters is not None), None)
        rows = []
        for run in comparison.runs:
            counts = "" if run.same_counters is None else "same" if run.same_counters else "DIFFER"
            rows.append(
                [
                    run.contender.name,
                    display.duration(run.median_seconds),
                    f"{run.median_seconds / comparison.gold.median_seconds:.2f}",
                    f"{run.queries_per_second:,.0f}",
                    display.share(run.recall),
                    f"{run.evals_per_query:,.0f}",
                    "first" if run is comparison.reference else _sameness(run),
                    "first" if run is first_parity else counts,
                    ", ".join(map(display.duration, run.seconds)),
                ]
            )
        return display.Grid(columns, rows)

    def matrix(self):
        """One row per switch."""
        columns = [
            ("switch", "left"),
            ("evals\n/query", "right"),
            ("x", "right"),
            ("query\ns", "right"),
            ("x", "right"),
            ("answer", "left"),
            ("recall", "right"),
            ("at work", "left"),
        ]
        rows = []
        for number, (switch, run) in enumerate(zip(self.switches, self.comparison.runs, strict=True)):
            base = self.base(number)
            rows.append(
                [
                    run.contender.name,
                    f"{run.evals_per_query:,.0f}",
                    f"{run.evals_per_query / base.evals_per_query:.2f}" if base.evals_per_query else "-",
                    display.duration(run.median_seconds),
                    f"{run.median_seconds / base.median_seconds:.2f}",
                    "first" if run is self.comparison.reference else _sameness(run),
                    display.share(run.recall),
                    _at_work(switch, run, base),
                ]
            )
        return display.Grid(columns, rows)

    def disagreements(self):
        """(title, grid) for each run whose bits or counters are not as they must be."""
        for found in self.comparison.differences:
            title = (
                f"{found.other} and {found.first} answer {found.queries:,} of {len(self.workload.queries):,} queries "
                f"differently, first query {found.position} (row {found.query}), neighbour {found.place + 1}"
            )
            columns = [("", "left"), (found.first, "right"), (found.other, "right"), ("oracle", "right")]
            rows = [
                ["neighbour", *map(str, (*found.neighbors, found.oracle_neighbor))],
                ["its distance", *map(repr, (*found.distances, found.oracle_distance))],
                ["by the oracle", *map(repr, (*found.oracle_distances, found.oracle_distance))],
            ]
            yield title, display.Grid(columns, rows)
        runs = {run.contender.name: run for run in self.comparison.runs}
        for found in self.comparison.counter_differences:
            one, other = (runs[name].result.telemetry.counters for name in (found.first, found.other))
            rows = [[name, f"{one[name]:,}", f"{other[name]:,}"] for name in one if one[name] != other[name]]
            rows.append([f"block {found.block}: {found.field}", *map(str, found.values)])
            columns = [("counter", "left"), (found.first, "right"), (found.other, "right")]
            yield f"{found.other} and {found.first} count differently", display.Grid(columns, rows)

    def counters(self):
        """Every counter of every row; in a matrix, of the rows of a named profile."""
        from covertreex_bench.compare import SWITCHED_COUNTERS

        runs = [
            run
            for run in self.comparison.runs
            if self.switches is None or run.contender.settings.profile in ("gold", "parity")
        ]

        def cell(name, run):
            wanted = SWITCHED_COUNTERS.get(name)
            off = wanted is not None and not wanted(run.contender.settings)
            return f"{run.result.telemetry.counters[name]:,}" + (" *off*" if off else "")

        columns = [("counter", "left"), *((run.contender.name, "right") for run in runs)]
        names = runs[0].result.telemetry.counters
        return display.Grid(columns, [[name, *(cell(name, run) for run in runs)] for name in names])

    def settings(self):
        """The settings of each profile that took part."""
        profiles = {run.contender.settings.profile: asdict(run.contender.settings) for run in self.comparison.runs}
        profiles.pop("custom", None)
        fields = [name for name in next(iter(profiles.values())) if name != "profile"]
        columns = [("setting", "left"), *((name, "left") for name in profiles)]
        return display.Grid(
            columns, [[name, *(_plain(settings[name]) for settings in profiles.values())] for name in fields]
        )

    def machine_grid(self):
        """The machine, and what is installed."""
        from covertreex.cli import machine

        here = self.machine
        rows = [
            *map(list, machine.hardware(here)),
            ["load", f"{here['load_before']} before the first run, {here['load_after']} after the last"],
            *([name, version] for name, version in here["versions"].items()),
        ]
        return display.Grid([("what", "left"), ("found", "left")], rows)


def _sameness(run):
    if run.same_bits:
        return "same"
    return "differs" if run.contender.settings.approximate else "DIFFER"


def _at_work(switch, run, base):
    """What shows that a mechanism did something."""
    telemetry = run.result.telemetry
    if switch.shows:
        count = telemetry.counters[switch.shows]
        if switch.shows == "gate_rejects" and run.result.plan.screen == "none":
            return "inert here: no float32 screen"
        return f"{count:,} {switch.shows}" if count else f"inert here: no {switch.shows}"
    if run is base:
        return ""
    if run.contender.settings.dynamic_query_block:
        return f"blocks of {min(telemetry.block_sizes)} to {max(telemetry.block_sizes)} queries"
    for name, before in base.result.telemetry.counters.items():
        if telemetry.counters[name] != before:
            return f"{name} {before:,} to {telemetry.counters[name]:,}"
    return "no counter moves"


def _plain(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
