"""What a run of a suite measured: a dictionary that can become JSON, what is wrong with it, and files of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from covertreex.cli import display
from covertreex.errors import InvalidInputError
from covertreex_bench.speed import suites, verdicts

#: Version of the JSON files; a reader refuses others.
SCHEMA = 1

#: Load before the first run above which the machine is not called idle.
BUSY = 0.5


def judge(result: dict) -> list[dict]:
    """What is wanted of the suite of `result`, beside what it measured."""
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


def warnings(result: dict) -> Iterator[str]:
    """What makes figures worth less than they look."""
    load = result["machine"]["load_before"]
    if result["options"]["quick"]:
        yield "Small sizes (--quick): they show what the suite does, not how fast anything is."
    if load is not None and load > BUSY:
        yield f"The machine was not idle (load {load} before the first run): trust neither times nor ratios."
    if result["machine"]["versions"]["threadpoolctl"] == "not installed":
        yield "threadpoolctl is not installed: BLAS used as many threads as it liked."


def problems(result: dict) -> list[str]:
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


def read(path: Path | str) -> dict:
    """The result in a file of ``covertreex bench --json``.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}.") from None
    version = found.get("covertreex_bench") if isinstance(found, dict) else None
    if version is None:
        raise InvalidInputError(f'{path} was not written by "covertreex bench --json"; name files that were.')
    if version != SCHEMA or found["suite"] not in suites.SUITES:
        raise InvalidInputError(
            f"{path} is of another release (version {version}, suite {found['suite']!r}; known are version "
            f'{SCHEMA} and {", ".join(suites.SUITES)}); run "covertreex bench" anew.'
        )
    return found


def merge(results: list[dict]) -> list[dict]:
    """One result per suite, in the order of the suites; their ``runs`` are the results that it was made of."""
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
        whole["wanted"], whole["problems"] = judge(whole), problems(whole)
        merged.append(whole)
    return merged
