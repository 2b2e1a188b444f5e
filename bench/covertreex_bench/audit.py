"""The audit of gold and parity: a comparison of backends or switches, on the terminal, as Markdown and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date

from covertreex.cli import display
from covertreex_bench import conditions
from covertreex_bench.compare import SWITCHED_COUNTERS, Comparison, Run, Switch
from covertreex_bench.workloads import Workload
from covertreex_bench.writing import WIDE, Grid


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

    comparison: Comparison
    switches: list[Switch] | None
    workload: Workload
    notes: list[str]
    machine: dict
    command: str
    factors_seconds: float

    def show(self, out) -> None:
        """Print everything to the console `out`."""
        here = self.machine
        out.print(self.question())
        out.print(f"machine: {conditions.line(here)}; load {here['load_before']} before, {here['load_after']} after")
        for note in self.notes:
            out.print(note)
        out.print()
        grid = self.results() if self.switches is None else self.matrix()
        out.print(grid.on_terminal(None if out.width >= WIDE else -1))
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

    def markdown(self) -> str:
        """The report."""
        what = "Backends side by side" if self.switches is None else "One switch at a time, from parity to gold"
        what += ", phase by phase" if self.comparison.phases else ""
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

    def as_dict(self) -> dict:
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

    def question(self) -> str:
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

    def verdict(self) -> str:
        """What holds, if there is no problem."""
        if self.switches is None:
            return f"All rows agree: {self.comparison.verdict}"
        return f"No switch changes what it must not: {self.comparison.verdict}"

    def has_gold(self) -> bool:
        """Whether a row is of the gold profile."""
        return self.comparison.gold.contender.settings.profile == "gold"

    def base(self, number: int) -> Run:
        """The run with which that of switch `number` is compared."""
        name = self.switches[number].base
        return next(run for run in self.comparison.runs if run.contender.name == name)

    def legend(self) -> Iterator[str]:
        """Lines that say how to read the results."""
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
        if self.comparison.phases:
            yield "Ratios (x) are to the first row of the same phase."
            for run in self.comparison.runs:
                if run.contender.phase == "screen":
                    who = getattr(run.result.plan, "phases", {"decision": run.result.backend})
                    by = ", ".join(f"{phase} by {name}" for phase, name in who.items())
                    yield f"{run.contender.name}: {by}."
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

    def results(self) -> Grid:
        """One row per contender."""
        comparison = self.comparison
        by_phase = comparison.phases
        times = "x first" if by_phase else "x gold" if self.has_gold() else f"x {comparison.gold.contender.name}"
        columns = [
            ("backend, phase\nand level" if by_phase else "backend/\nprofile", "left"),
            ("query\ns", "right"),
            (times, "right"),
            ("queries\n/s", "right"),
            ("recall", "right"),
            ("evals\n/query", "right"),
            ("bits", "left"),
            ("counts", "left"),
            ("all runs\ns", "left"),
        ]
        rows, counted = [], set()
        for run in comparison.runs:
            first = run.same_counters is not None and run.contender.counted_with not in counted
            counted.add(run.contender.counted_with)
            base = comparison.first_of_phase(run) if by_phase else comparison.gold
            counts = "" if run.same_counters is None else "same" if run.same_counters else "DIFFER"
            rows.append(
                [
                    run.contender.name,
                    display.duration(run.median_seconds),
                    f"{run.median_seconds / base.median_seconds:.2f}",
                    f"{run.queries_per_second:,.0f}",
                    display.share(run.recall),
                    f"{run.evals_per_query:,.0f}",
                    "first" if run is comparison.reference else _sameness(run),
                    "first" if first else counts,
                    ", ".join(map(display.duration, run.seconds)),
                ]
            )
        return Grid(columns, rows)

    def matrix(self) -> Grid:
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
        return Grid(columns, rows)

    def disagreements(self) -> Iterator[tuple[str, Grid]]:
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
            yield title, Grid(columns, rows)
        runs = {run.contender.name: run for run in self.comparison.runs}
        for found in self.comparison.counter_differences:
            one, other = (runs[name].result.telemetry.counters for name in (found.first, found.other))
            rows = [[name, f"{one[name]:,}", f"{other[name]:,}"] for name in one if one[name] != other[name]]
            rows.append([f"block {found.block}: {found.field}", *map(str, found.values)])
            columns = [("counter", "left"), (found.first, "right"), (found.other, "right")]
            yield f"{found.other} and {found.first} count differently", Grid(columns, rows)

    def counters(self) -> Grid:
        """Every counter of every row; in a matrix, of the rows of a named profile."""
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
        return Grid(columns, [[name, *(cell(name, run) for run in runs)] for name in names])

    def settings(self) -> Grid:
        """The settings of each profile that took part."""
        profiles = {run.contender.settings.profile: asdict(run.contender.settings) for run in self.comparison.runs}
        profiles.pop("custom", None)
        fields = [name for name in next(iter(profiles.values())) if name != "profile"]
        columns = [("setting", "left"), *((name, "left") for name in profiles)]
        return Grid(columns, [[name, *(_plain(settings[name]) for settings in profiles.values())] for name in fields])

    def machine_grid(self) -> Grid:
        """The machine, and what is installed."""
        here = self.machine
        rows = [
            *map(list, conditions.hardware(here)),
            ["load", f"{here['load_before']} before the first run, {here['load_after']} after the last"],
            *([name, version] for name, version in here["versions"].items()),
        ]
        return Grid([("what", "left"), ("found", "left")], rows)


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
