"""``covertreex report``: a page, with pictures, of what ``covertreex bench`` measured."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from covertreex.cli import display
from covertreex.errors import InvalidInputError
from covertreex_bench.commands import bench


def report(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE.json...", help='What "covertreex bench --json" wrote.')],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.md", help="Page to write; pictures are put beside it.")
    ] = Path("performance.md"),
):
    """Write a page of what "covertreex bench --json" measured, with a picture of each suite beside it.

    Files of one suite are put together, so that a long suite can be run in parts (--n, --series); of two that have the
    same question in the same size, the one named later counts. Needs matplotlib.
    """
    from covertreex import tables
    from covertreex_bench.speed import pictures

    tables.check_output(output, (".md",))
    suites = merge([read(path) for path in files])
    pictures.check_matplotlib()
    page = Page(suites, output.stem, display.command_line(context))
    for suite in suites:
        with tables.replacing(output.with_name(page.picture(suite)), "wb") as file:
            pictures.draw(suite, file)
    with tables.replacing(output) as file:
        file.write(page.markdown())
    for suite in suites:
        typer.echo(f"{output.with_name(page.picture(suite))}")
    typer.echo(f"{output}")


# ---------------------------------------------------------------------------------------------------------------------
# What there is to report


def read(path):
    """The result in a file of ``covertreex bench --json``.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is something else.
    """
    from covertreex_bench.speed import suites

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}.") from None
    version = found.get("covertreex_bench") if isinstance(found, dict) else None
    if version is None:
        raise InvalidInputError(f'{path} was not written by "covertreex bench --json"; name files that were.')
    if version != bench.SCHEMA or found["suite"] not in suites.SUITES:
        raise InvalidInputError(
            f"{path} is of another release (version {version}, suite {found['suite']!r}; known are version "
            f'{bench.SCHEMA} and {", ".join(suites.SUITES)}); run "covertreex bench" anew.'
        )
    return found


def merge(results):
    """One result per suite, in the order of the suites; their ``runs`` are the results that it was made of."""
    from covertreex_bench.speed import suites

    merged = []
    for suite in suites.SUITES.values():
        runs = [result for result in results if result["suite"] == suite.name]
        if not runs:
            continue
        cases = {}
        for result in runs:
            for series in result["series"]:
                for case in series["cases"]:
                    cases[series["name"], case["n"], case["k"], case["m"]] = case
        series = [
            {
                "name": one.name,
                "counts": one.counts,
                "cases": [case for key, case in sorted(cases.items()) if key[0] == one.name],
            }
            for one in suite.series
        ]
        whole = {**runs[-1], "series": series, "runs": runs}
        whole["wanted"], whole["problems"] = bench.judge(whole), bench.problems(whole)
        merged.append(whole)
    return merged


@dataclass(frozen=True)
class Page:
    """The report.

    Attributes
    ----------
    suites : list of dict
        As `merge` makes them.
    stem : str
        Of the page's name, and so of those of its pictures.
    command : str
    """

    suites: list
    stem: str
    command: str

    def picture(self, suite):
        """Name of a suite's picture."""
        return f"{self.stem}-{suite['suite']}.png"

    def markdown(self):
        """The page."""
        parts = [
            ["# Performance"],
            [
                "What `covertreex bench` measured. **A speed without a recall beside it means nothing**: every row's",
                "answer was checked against the dense float64 oracle, in the same run, on a sample of its queries;",
                "*surely above* is the lower end of the 95 % interval of its recall (Wilson's, for as many trials as",
                "misses that come in clusters are worth).",
            ],
            [
                "The yardstick is the *dense limit*: one plain blocked matrix product (dgemm) over the pairs that",
                "brute force compares, 2 m flops each, measured in the same run on the same threads. It evaluates no",
                "kernel, selects nothing and answers nothing. It is as fast as NumPy's BLAS, whose kernels may be",
                "those of an older processor (see *Machine*): compare shares of it where BLAS and instruction sets are",
                "the same. Times are medians of runs taken in turns; ~ marks those that were measured on a part of the",
                "queries and scaled.",
            ],
            ["Made by this command, and by no hand:"],
            ["```", self.command, "```"],
            ["## What is wanted, and what was measured"],
            self.wanted().markdown(),
        ]
        for suite in self.suites:
            parts += self.section(suite)
        parts += [["## Rows"], self.rows().markdown(), ["## Machine"], self.machine().markdown()]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def wanted(self):
        """Every figure that is wanted of the suites."""
        columns = [("suite", "left"), *bench.wanted_grid([]).columns]
        rows = [[suite["suite"], *row] for suite in self.suites for row in bench.wanted_grid(suite["wanted"]).rows]
        return display.Grid(
            columns, [[f"**{cell}**" if i == 1 else cell for i, cell in enumerate(row)] for row in rows]
        )

    def section(self, suite):
        """A suite: its picture, and for each question the largest size in full, and times by size."""
        commands = [f"{run['command']}    # {run['date']}" for run in suite["runs"]]
        yield [f"## {suite['suite']}"]
        yield [suite["summary"] + "."]
        yield ["```", *commands, "```"]
        yield [f"![{suite['suite']}: cost against n, and recall against time]({self.picture(suite)})"]
        yield [f"- **FAILED:** {problem}" for problem in suite["problems"]]
        yield list(dict.fromkeys(line for run in suite["runs"] for line in bench.warnings(run)))
        for series in suite["series"]:
            if not series["cases"]:
                continue
            largest = series["cases"][-1]
            yield [f"### {suite['suite']}: {bench.case_title(series['name'], largest)}"]
            yield [f"{kernel_text(largest)} {bench.TIMES_MEAN[series['counts']]}"]
            yield bench.case_grid(largest, series["counts"]).markdown()
            yield [f"- {line}" for line in bench.case_remarks(largest)]
            if len(series["cases"]) > 1:
                yield ["Seconds, and recall, by n:"]
                yield by_size(series).markdown()

    def rows(self):
        """What people must know about a row's figures."""
        notes = {
            row["row"]: row["note"]
            for suite in self.suites
            for series in suite["series"]
            for case in series["cases"]
            for row in case["rows"]
            if row["note"]
        }
        return display.Grid([("row", "left"), ("what it is", "left")], [list(pair) for pair in notes.items()])

    def machine(self):
        """The machines of all runs; one column for each that differs."""
        from covertreex.cli import machine

        found = []
        for run in (run for suite in self.suites for run in suite["runs"]):
            facts = {
                **{name: str(value) for name, value in machine.hardware(run["machine"])},
                **run["machine"]["versions"],
            }
            if facts not in found:
                found.append(facts)
        names = list(dict.fromkeys(name for facts in found for name in facts))
        columns = [("what", "left"), *(("found", "left") for _ in found)]
        rows = [[name, *(facts.get(name, "") for facts in found)] for name in names]
        loads = [
            load
            for suite in self.suites
            for run in suite["runs"]
            if (load := run["machine"]["load_before"]) is not None
        ]
        if loads:
            rows.append(["load before a run", f"{min(loads)} to {max(loads)}", *[""] * (len(found) - 1)])
        return display.Grid(columns, rows)


def kernel_text(case):
    """Kernel and number of queries, as a sentence."""
    kernel = f"`{case['kernel']}`" if case["kernel"] else "Euclidean distance"
    which = "among its predecessors" if case["predecessors"] else "among all points"
    return f"{kernel}; {case['queries']:,} queries, each {which}."


def by_size(series):
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

    return display.Grid(columns, [[name, *(cell(case, name) for case in series["cases"])] for name in names])
