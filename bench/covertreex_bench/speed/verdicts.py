"""From figures to ratios, growth exponents, and what is wanted: functions of the dictionaries of `measure.measure`."""

import math
from collections.abc import Sequence

from covertreex_bench.speed.suites import Wanted

#: Recall that the profile `fast` must have beside a wanted figure.
FAST_RECALL = 0.999

LIMIT, NUMPY, GPBOOST = "dense limit", "numpy", "gpboost"


def row_of(case: dict, name: str) -> dict | None:
    """The row of this name in a case; None without one."""
    return next((row for row in case["rows"] if row["row"] == name), None)


def ratios(case: dict, row: dict) -> dict[str, float | None]:
    """A row's time as a share of the dense limit, and how many times faster it is than others.

    Parameters
    ----------
    case, row : dict

    Returns
    -------
    dict of str to (float or None)
        'dense'; 'numpy', 'gpboost' and 'peer', the fastest exact one. None where the other did not run.

    Examples
    --------
    >>> case = {"rows": [{"row": "dense limit", "seconds": 2.0}, {"row": "cython/exact", "seconds": 1.0}]}
    >>> ratios(case, case["rows"][1])
    {'dense': 0.5, 'numpy': None, 'gpboost': None, 'peer': None}
    """
    limit = row_of(case, LIMIT)
    others = {"numpy": row_of(case, NUMPY), "gpboost": row_of(case, GPBOOST), "peer": fastest_exact_peer(case)}
    return {
        "dense": row["seconds"] / limit["seconds"] if limit else None,
        **{name: other["seconds"] / row["seconds"] if other else None for name, other in others.items()},
    }


def growth(points: Sequence[tuple[int, float]]) -> float:
    """Exponent b of the line ``seconds = a n**b`` through (n, seconds), by least squares in logarithms.

    Examples
    --------
    >>> round(growth([(1_000, 1.0), (2_000, 4.0), (4_000, 16.0)]), 6)
    2.0
    """
    x, y = [math.log(n) for n, _ in points], [math.log(seconds) for _, seconds in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / across


def fastest_exact_peer(case: dict) -> dict | None:
    """The fastest row of other software whose recall is 1; None without one."""
    exact = [row for row in case["rows"] if row.get("kind") == "peer" and row["recall"] == 1.0]
    return min(exact, key=lambda row: row["seconds"], default=None)


def text_of(wanted: Wanted) -> str:
    """What is wanted, for people."""
    bound = f"{wanted.bound:g}"
    return {
        "dense": f"at most {bound} of the dense limit",
        "numpy": f"at least {bound} times the speed of NumPy",
        "gpboost": f"at least {bound} times the speed of GPBoost",
        "peer": f"at least {bound} times the speed of the fastest exact peer",
        "growth": f"grows at most like n^{bound}",
        "first": "a change takes no longer than the first solve less its tree",
    }[wanted.measure]


def judge(wanted: Wanted, sizes: Sequence[int], cases: list[dict]) -> dict:
    """Compare one wanted figure with what was measured.

    Parameters
    ----------
    wanted : covertreex_bench.speed.suites.Wanted
    sizes : tuple of int
        The sizes of its series; the figure is meant for the largest, or for all.
    cases : list of dict
        Those of the series that were measured.

    Returns
    -------
    dict
        ``series``, ``row``, ``wanted`` (text), ``measured`` (float or None, and ``measured_text``), ``recall`` and
        ``verdict``: 'met', 'missed', or 'not measured' with the reason in ``why``.
    """
    found = {"series": wanted.series, "row": wanted.profile, "wanted": text_of(wanted), "measured": None,
             "measured_text": "", "recall": None, "verdict": "not measured", "why": ""}  # fmt: skip
    by_n = {case["n"]: case for case in cases}
    if wanted.measure == "growth":
        rows = [(n, row) for n in sizes if n in by_n and (row := _engine_row(by_n[n], wanted.profile))]
        if len(rows) < 2:
            return found | {"why": f"it is meant for n = {sizes[0]:,} to {sizes[-1]:,}"}
        measured = growth([(n, row["seconds"]) for n, row in rows])
        row = min((row for _, row in rows), key=lambda row: row["recall"])
        complete = len(rows) == len(sizes)
        found |= {"why": "" if complete else f"only {', '.join(f'n = {n:,}' for n, _ in rows)} ran"}
    else:
        if sizes[-1] not in by_n:
            return found | {"why": f"it is meant for n = {sizes[-1]:,}"}
        case, complete = by_n[sizes[-1]], True
        row = _engine_row(case, wanted.profile, ", changed" if wanted.measure == "first" else "")
        if row is None:
            return found | {"why": _why_not(case, wanted.profile)}
        measured = _measured(wanted, case, row)
        if measured is None:
            name = wanted.measure if wanted.measure in (NUMPY, GPBOOST) else "what it is compared with"
            return found | {"row": row["row"], "recall": row["recall"], "why": _why_not(case, name)}
    fine = measured >= wanted.bound if wanted.least else measured <= wanted.bound
    # Its own recall, or that of the worst size.
    if row["recall"] < (1.0 if wanted.profile == "exact" else FAST_RECALL):
        fine, found["why"] = False, "its recall is too low"
    verdict = "met" if fine else "missed"
    return found | {
        "row": row["row"],
        "measured": measured,
        "measured_text": f"n^{measured:.2f}" if wanted.measure == "growth" else f"{measured:.3g}",
        "recall": row["recall"],
        "verdict": verdict if complete else "not measured",
    }


def _measured(wanted, case, row):
    if wanted.measure == "first":
        first = row_of(case, row["row"].replace("changed", "first solve"))
        return row["seconds"] / (first["seconds"] - first["prepare_seconds"]) if first else None
    return ratios(case, row)[wanted.measure]


def _engine_row(case, profile, ending=""):
    """The first of covertreex's rows with this profile."""
    rows = [row for row in case["rows"] if row["kind"] == "engine"]
    return next((row for row in rows if row["row"].endswith(f"/{profile}{ending}")), None)


def _why_not(case, name):
    """Why a row did not run, from what the case says about who was left out."""
    why = [left["why"] for left in case["left_out"] if left["row"] == name or left["row"].endswith(f"/{name}")]
    return f"{name} was left out: {why[0]}" if why else f"{name} did not run"
