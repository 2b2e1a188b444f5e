"""Timing entrants in turns on one question, and checking what they found."""

import time
from collections.abc import Callable

import numpy as np

from covertreex.oracle import DenseOracle
from covertreex.results import recall_interval
from covertreex_bench.speed.entrants import BLOCK, Entrant, Question

#: Seconds that one run of brute force, or of the dense limit, may take by default.
SAMPLE_SECONDS = 4.0

#: Blocks of queries from which the time of a divisible entrant is foreseen, and the fewest that are measured.
PILOT_BLOCKS, LEAST_BLOCKS = 4, 8

#: Above this n a slow entrant is foreseen from a part of the points, one in so many; below it just runs.
PILOT_ABOVE, PILOT_PART = 8_192, 4


def measure(
    question: Question,
    entrants: list[Entrant],
    *,
    repeat: int = 3,
    patience: float = 60.0,
    audit: int = 1_000,
    sample: float = SAMPLE_SECONDS,
    past: dict[str, tuple[int, float]] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict:
    """Ask all entrants the same, in turns, and check their answers against the dense oracle.

    Parameters
    ----------
    question : Question
    entrants : list of Entrant
    repeat : int
        Timed runs of each. One whose runs have taken `patience` seconds together is not run again, but for rows of the
        suite `optimiser`, each of whose turns has a kernel of its own.
    patience : float
        An entrant that is expected to need more seconds for one run is left out, and what was expected is said.
    audit : int
        Queries whose answer is checked.
    sample : float
        Seconds that a run of brute force may take; where all of it would take longer, a part is measured and scaled.
    past : dict, optional
        What entrants took at smaller sizes: (n, seconds) by name. It is added to.
    say : callable, optional
        Called with a line of text at the start of each step.

    Returns
    -------
    dict
        The question, ``rows`` and who is ``left_out``; can become JSON.
    """
    say = say or (lambda text: None)
    past = {} if past is None else past
    racers, left_out = [], []
    for entrant in entrants:
        why = entrant.unable(question)
        racer = _Racer(entrant, question, sample, say)
        try:
            if why is None:
                why = racer.get_ready(past, patience)
        except Exception as error:
            if entrant.kind != "peer":
                raise
            why = _failed(error)
        if why is None:
            racers.append(racer)
        else:
            left_out.append({"row": entrant.name, "why": why})
    for turn in range(repeat):
        for racer in list(racers):
            if turn and racer.spent >= patience and not racer.entrant.each_turn_differs:
                continue
            expected = "" if racer.expected is None else f", about {_about(racer.expected)}"
            say(f"{racer.entrant.name}: run {turn + 1} of {repeat}{expected}")
            try:
                racer.run()
            except Exception as error:
                if racer.entrant.kind != "peer":
                    raise
                racers.remove(racer)
                left_out.append({"row": racer.entrant.name, "why": _failed(error)})
    if any(racer.last.indices is not None for racer in racers):
        say("checking against the dense oracle")
    for number, racer in enumerate(racers):
        past[racer.entrant.name] = question.n, racer.median
        racer.check(audit, racers[:number])
    workload = question.workload
    return {
        "workload": workload.name,
        "kernel": None if question.kernel is None else repr(question.kernel),
        "n": question.n,
        "d": workload.X.shape[1],
        "m": workload.metric.get("inducing") or 0,
        "k": question.k,
        "queries": len(question.rows),
        "predecessors": workload.predecessors,
        "pairs": question.pairs(),
        "rows": [racer.as_dict() for racer in racers],
        "left_out": left_out,
    }


def _failed(error):
    return f"it failed: {type(error).__name__}: {error}"


def _about(seconds):
    return "a second" if seconds < 1.5 else f"{seconds:.0f} s"


class _Racer:
    """An entrant on its way: what it asks of itself, and what was timed."""

    def __init__(self, entrant, question, sample, say):
        self.entrant, self.question, self.sample = entrant, question, sample
        self.positions, self.expected, self.spent = np.arange(len(question.rows)), None, 0.0
        self.seconds, self.prepared, self.last = [], [], None
        self.state, self.ready = None, None
        self.recall, self.interval, self.checked = None, None, 0
        self.say = say

    def get_ready(self, past, patience):
        """Foresee how long a run takes and prepare it; why the entrant must be left out, None if it need not."""
        entrant, question = self.entrant, self.question
        if not entrant.divisible:
            self.expected = self._foresee(past)
            if self.expected is not None and self.expected > patience:
                return (
                    f"one run is expected to take {_about(self.expected)}; "
                    f"--patience {int(np.ceil(1.2 * self.expected))} lets it run"
                )
        if entrant.slow_start:
            self.say(f"{entrant.name}: getting ready, which may take minutes the first time")
        begin = time.perf_counter()
        self.state = entrant.prepare(question)
        self.ready = time.perf_counter() - begin
        if entrant.divisible:
            self._choose_part()
        return None

    def _foresee(self, past):
        """Seconds that a run is expected to take, from smaller sizes; None where small size lets it just run."""
        entrant, question = self.entrant, self.question
        if entrant.name in past:
            n, seconds = past[entrant.name]
            return seconds * (question.n / n) ** (entrant.growth if question.every_row else 1.0)
        if question.n <= PILOT_ABOVE or not question.every_row or entrant.each_turn_differs:
            return None
        small = question.smaller(question.n // PILOT_PART)
        self.say(f"{entrant.name}: how long it takes, from {small.n:,} points")
        run = entrant.run(small, entrant.prepare(small), np.arange(len(small.rows)))
        return (run.fixed + run.seconds) * float(PILOT_PART) ** entrant.growth

    def _choose_part(self):
        """Blocks of queries, evenly spread, that take about `sample` seconds; all where that is enough."""
        total = -(-len(self.question.rows) // BLOCK)
        pilot = self._blocks(total, PILOT_BLOCKS)
        run = None
        for _ in range(2):  # once to warm up
            run = self.entrant.run(self.question, self.state, pilot)
        whole = run.fixed + run.seconds * self._scale(run, pilot)
        if whole > 1.25 * self.sample:
            self.positions = self._blocks(total, max(LEAST_BLOCKS, int(total * self.sample / whole)))
        self.expected = min(whole, self.sample)

    def _blocks(self, total, count):
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
        places = np.arange(len(self.question.rows))
        return np.concatenate([places[b * BLOCK : (b + 1) * BLOCK] for b in chosen])

    def _scale(self, run, positions):
        done = self.question.pairs(positions) if run.work is None else run.work
        return self.question.pairs() / max(1, done)

    def run(self):
        """One timed run."""
        begin = time.perf_counter()
        run = self.entrant.run(self.question, self.state, self.positions)
        self.spent += time.perf_counter() - begin
        part = len(self.positions) < len(self.question.rows)
        scale = self._scale(run, self.positions) if part or run.work is not None else 1.0
        self.seconds.append(run.fixed + run.seconds * scale)
        if run.prepare is not None:
            self.prepared.append(run.prepare)
        self.last = run

    @property
    def median(self):
        return float(np.median(self.seconds))

    def check(self, audit, others):
        """Find the recall of a sample of the queries that were asked; equal answers are checked once."""
        found, question, workload = self.last.indices, self.question, self.last.workload
        if found is None:
            return
        for other in others:
            if workload is None and np.array_equal(other.positions, self.positions) and other.answered(found):
                self.recall, self.interval, self.checked = other.recall, other.interval, other.checked
                return
        draw = np.sort(np.random.default_rng(0).permutation(len(self.positions))[:audit])
        oracle = question.oracle if workload is None else DenseOracle(workload.X, **workload.metric)
        rows = question.rows[self.positions[draw]]
        hits = oracle.hits(found[draw], rows, predecessor_mode=question.workload.predecessors)
        self.recall, self.interval = recall_interval(*hits)
        self.checked = len(draw)

    def answered(self, indices):
        """Whether this was the answer, to the question itself."""
        return self.last.workload is None and np.array_equal(self.last.indices, indices)

    def as_dict(self):
        """The figures, as a dictionary that can become JSON."""
        entrant = self.entrant
        prepare = float(np.median(self.prepared)) if self.prepared else None
        if prepare is None and entrant.kind == "engine":
            prepare = self.ready
        return {
            "row": entrant.name,
            "kind": entrant.kind,
            "seconds": self.median,
            "all_seconds": self.seconds,
            "prepare_seconds": prepare,
            "measured_share": len(self.positions) / len(self.question.rows),
            "recall": self.recall,
            "recall_target": entrant.recall_target,
            "recall_interval": self.interval,
            "checked_queries": self.checked,
            "evals_per_query": self.last.evals,
            "plan": self.last.plan,
            "expected_us": self.last.expected_us,
            "took_us": self.last.took_us,
            "note": entrant.note,
        }
