"""The page of performance: what suites measured, in Markdown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from covertreex_bench import conditions
from covertreex_bench.speed import grids, results
from covertreex_bench.writing import Grid


@dataclass(frozen=True)
class Page:
    """The page.

    Attributes
    ----------
    suites : list of dict
        As `covertreex_bench.speed.results.merge` makes them.
    stem : str
        Of the page's name, and so of those of its pictures.
    command : str
    """

    suites: list[dict]
    stem: str
    command: str

    def picture(self, suite: dict) -> str:
        """Name of a suite's picture."""
        return f"{self.stem}-{suite['suite']}.png"

    def markdown(self) -> str:
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
            ["```bash", self.command, "```"],
            ["## What is wanted, and what was measured"],
            self.wanted().markdown(),
        ]
        for suite in self.suites:
            parts += self.section(suite)
        parts += [["## Rows"], self.rows().markdown(), ["## Machine"], self.machine().markdown()]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def wanted(self) -> Grid:
        """Every figure that is wanted of the suites."""
        columns = [("suite", "left"), *grids.wanted_grid([]).columns]
        rows = [[suite["suite"], *row] for suite in self.suites for row in grids.wanted_grid(suite["wanted"]).rows]
        return Grid(columns, [[f"**{cell}**" if i == 1 else cell for i, cell in enumerate(row)] for row in rows])

    def section(self, suite: dict) -> Iterator[Iterable[str]]:
        """A suite: its picture, and for each question the largest size in full, and times by size."""
        commands = [f"{run['command']}    # {run['date']}" for run in suite["runs"]]
        yield [f"## {suite['suite']}"]
        yield [suite["summary"] + "."]
        yield ["```bash", *commands, "```"]
        yield [f"![{suite['suite']}: cost against n, and recall against time]({self.picture(suite)})"]
        yield [f"- **FAILED:** {problem}" for problem in suite["problems"]]
        yield list(dict.fromkeys(line for run in suite["runs"] for line in results.warnings(run)))
        for series in suite["series"]:
            if not series["cases"]:
                continue
            largest = series["cases"][-1]
            yield [f"### {suite['suite']}: {grids.case_title(series['name'], largest)}"]
            yield [f"{grids.kernel_text(largest)} {grids.TIMES_MEAN[series['counts']]}"]
            yield grids.case_grid(largest, series["counts"]).markdown()
            yield [f"- {line}" for line in grids.case_remarks(largest)]
            if len(series["cases"]) > 1:
                yield ["Seconds, and recall, by n:"]
                yield grids.by_size(series).markdown()

    def rows(self) -> Grid:
        """What people must know about a row's figures."""
        notes = {
            row["row"]: row["note"]
            for suite in self.suites
            for series in suite["series"]
            for case in series["cases"]
            for row in case["rows"]
            if row["note"]
        }
        return Grid([("row", "left"), ("what it is", "left")], [list(pair) for pair in notes.items()])

    def machine(self) -> Grid:
        """The machines of all runs; one column for each that differs."""
        found = []
        for run in (run for suite in self.suites for run in suite["runs"]):
            facts = {
                **{name: str(value) for name, value in conditions.hardware(run["machine"])},
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
        return Grid(columns, rows)
