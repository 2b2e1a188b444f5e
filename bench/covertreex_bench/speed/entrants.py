"""Who takes part in a benchmark: covertreex itself, and the dense limit, the yardstick of every figure."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec

import numpy as np

from covertreex import ordering
from covertreex.base import parallel
from covertreex.covertree import cover_tree
from covertreex.kernels import Kernel
from covertreex.oracle import DenseOracle
from covertreex_bench.compare import Contender
from covertreex_bench.workloads import Workload

#: Queries that brute force takes at a time.
BLOCK = 256

#: Rows and columns of a tile of the dense limit's product: of those tried, the fastest at m = 512.
TILE = 512, 2_048


def blas_threads(count: int) -> AbstractContextManager:
    """A context in which BLAS and OpenMP use `count` threads; as many as they like without threadpoolctl."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(count)


def on_pool(tasks: Sequence[Callable], threads: int) -> list:
    """Run callables on `threads` threads, BLAS using one in each; one after the other, if BLAS cannot be told so.

    BLAS's own threads wait for each other after every product, which is slow on a machine with other work to do.
    """
    if find_spec("threadpoolctl") is None:
        return [task() for task in tasks]
    with blas_threads(1):
        return parallel.run(tasks, threads)


@dataclass(frozen=True, eq=False)
class Question:
    """A workload, and what all entrants share of it.

    Attributes
    ----------
    workload : covertreex_bench.workloads.Workload
    threads : int
    smaller : callable, optional
        Makes the same question in another n, from which the time of a slow entrant is foreseen.
    """

    workload: Workload
    threads: int
    smaller: Callable[[int], "Question"] | None = None

    @property
    def n(self) -> int:
        """int: points."""
        return len(self.workload.X)

    @property
    def k(self) -> int:
        """int: neighbours per query."""
        return self.workload.k

    @property
    def kernel(self) -> Kernel | None:
        """Kernel or None: None for Euclidean."""
        return self.workload.metric.get("kernel")

    @property
    def every_row(self) -> bool:
        """bool: whether all rows are asked about, in order."""
        return self.workload.queries is None

    @cached_property
    def rows(self) -> np.ndarray:
        """ndarray, shape (q,), int64: rows asked about."""
        return np.arange(self.n) if self.every_row else np.asarray(self.workload.queries)

    @cached_property
    def oracle(self) -> DenseOracle:
        """DenseOracle: the truth, and the factors that brute force works from."""
        return DenseOracle(self.workload.X, **self.workload.metric)

    @property
    def factors(self) -> np.ndarray:
        """ndarray: what the dense limit multiplies: (n, m) factors, or coordinates where there are none."""
        V = None if self.kernel is None else self.oracle.V
        return self.workload.X if V is None or V.shape[1] == 0 else V

    def pairs(self, positions: np.ndarray | None = None) -> int:
        """Pairs that brute force compares for the queries at these positions; all of them by default."""
        rows = self.rows if positions is None else self.rows[positions]
        return int(rows.sum()) if self.workload.predecessors else len(rows) * self.n

    def search_arguments(self) -> dict:
        """Keyword arguments of `CoverTree.search` that ask this."""
        queries = None if self.every_row else self.rows
        return {"k": self.k, "queries": queries, "predecessor_mode": self.workload.predecessors}


@dataclass(frozen=True, eq=False)
class Run:
    """One timed answer.

    Attributes
    ----------
    seconds : float
        Of what grows with the queries; where only a part of them was asked, of that part.
    indices : ndarray or None
        Rows found, -1 past the last; None where the entrant does not say.
    fixed : float
        Seconds that count and do not grow with the queries, such as an index's building.
    prepare : float or None
        Seconds of preparation, for people; counted only as far as `fixed` has them.
    work : int or None
        Pairs compared, where that is not those of the queries asked.
    plan : str
        How the search went about it.
    evals : float or None
        Distance evaluations per query.
    expected_us, took_us : float or None
        Microseconds of one core for a query: what the plan expected, if it did, and what the search took.
    workload : Workload or None
        What was answered, where it is not the question's own.
    """

    seconds: float
    indices: np.ndarray | None
    fixed: float = 0.0
    prepare: float | None = None
    work: int | None = None
    plan: str = ""
    evals: float | None = None
    expected_us: float | None = None
    took_us: float | None = None
    workload: Workload | None = None


class Entrant:
    """Something that answers questions; a base class that answers none.

    Attributes
    ----------
    name : str
    kind : {'engine', 'peer', 'limit'}
    needs : dict of str to str
        Modules that must be installed, and how to get them.
    divisible : bool
        Whether a part of the queries costs that part of the time, so that measuring a part is enough.
    growth : float
        Time grows like ``n ** growth``, when all points are asked about; to foresee, not to measure.
    each_turn_differs : bool
        Whether every run answers another question, so that none may be left out.
    slow_start : bool
        Whether getting ready takes a minute or more at any size, as compiling may.
    recall_target : float or None
        The recall that it promises.
    note : str
        What people must know about its figures.
    """

    name = ""
    kind = "peer"
    needs = {}  # noqa: RUF012
    divisible = False
    growth = 2.0
    each_turn_differs = False
    slow_start = False
    recall_target = None
    note = ""

    def unable(self, question: Question) -> str | None:
        """Why this entrant cannot answer `question`; None if it can."""
        return None

    def prepare(self, question: Question):
        """What `run` wants to have ready, off the clock."""

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        """Answer the queries at `positions`, which are all unless the entrant is divisible; a `Run`."""
        raise NotImplementedError


class DenseLimit(Entrant):
    """One plain blocked float64 matrix product over the pairs that brute force compares, 2 m flops each.

    No kernel, no selection, no answer: what is faster did not look at all pairs, or not in float64.
    """

    name = "dense limit"
    kind = "limit"
    divisible = True
    note = "one blocked dgemm over the pairs that brute force compares: no kernel, no selection, no answer"

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        V, rows = question.factors, question.rows[positions]

        def task(part):
            # A slice is no copy.
            A = V[part[0] : part[-1] + 1] if part[-1] - part[0] == len(part) - 1 else V[part]
            stop = part.max() + 1 if question.workload.predecessors else len(V)
            out = np.empty(TILE)
            for first in range(0, stop, TILE[1]):
                B = V[first : min(first + TILE[1], stop)]
                np.matmul(A, B.T, out=out[: len(A), : len(B)])
            return len(A) * int(stop)

        # Few queries make small tiles, so that no thread is idle.
        height = min(TILE[0], -(-len(rows) // question.threads))
        tasks = [lambda part=rows[start : start + height]: task(part) for start in range(0, len(rows), height)]
        begin = time.perf_counter()
        done = sum(on_pool(tasks, question.threads))
        return Run(time.perf_counter() - begin, None, work=done)


class Engine(Entrant):
    """covertreex, with one backend and profile.

    Parameters
    ----------
    contender : covertreex_bench.compare.Contender
    counts : {'search', 'prepared', 'build'}
        What is timed: the first search of a tree whose factors are made, and all else not; a later search of the same
        tree, after `CoverTree.prepare`; or building and searching.
    """

    kind = "engine"

    def __init__(self, contender: Contender, counts: str):
        self.contender, self.counts = contender, counts
        self.name = contender.name
        self.recall_target = contender.settings.recall_target
        self.growth = 1.2 if self.recall_target < 1.0 else 2.0

    def _search(self, tree, question, **arguments):
        arguments = {**question.search_arguments(), **arguments}
        begin = time.perf_counter()
        result = tree.search(
            **arguments,
            settings=self.contender.settings,
            backend=self.contender.backend,
            n_threads=question.threads,
        )
        return result, time.perf_counter() - begin

    def prepare(self, question: Question):
        # Kernels are loaded, and compiled where they are, by a question that makes nothing ready for the one asked.
        metric = dict(question.workload.metric)
        if metric.get("inducing"):
            metric["inducing"] = min(16, question.n)
        few = cover_tree(question.workload.X[:256], **metric, n_threads=question.threads)
        self._search(few, question, k=min(question.k, len(few)), queries=None)
        if self.counts == "prepared":
            tree = question.workload.tree(question.threads)
            tree.prepare(question.k, question.threads)
            self._search(tree, question)
            return tree

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        if self.counts == "prepared":
            result, seconds = self._search(state, question)
            return _answer(result, seconds)
        begin = time.perf_counter()
        tree = question.workload.tree(question.threads)
        made = time.perf_counter() - begin
        result, seconds = self._search(tree, question)
        if self.counts == "search":
            return _answer(result, seconds, prepare=made)
        # A tree is built when the first search wants it: what the second does without.
        again = min(self._search(tree, question)[1], seconds)
        build = made + seconds - again
        return _answer(result, again, prepare=build, fixed=build)


class OneByOne(Engine):
    """The same queries, a search for each: what is more than in one search of all is what Python takes."""

    def __init__(self, contender: Contender):
        super().__init__(contender, "search")
        self.name = f"{contender.name}, one by one"

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        begin = time.perf_counter()
        tree = question.workload.tree(question.threads)
        made = time.perf_counter() - begin
        self._search(tree, question, queries=question.rows[:1])  # which makes what all searches share
        begin = time.perf_counter()
        found = [self._search(tree, question, queries=[row])[0] for row in question.rows]
        seconds = time.perf_counter() - begin
        # One query is one thread's work.
        took = replace(found[-1].telemetry, seconds=sum(one.telemetry.seconds for one in found), n_threads=1)
        indices = np.concatenate([one.indices for one in found])
        return _answer(replace(found[-1], indices=indices, telemetry=took), seconds, prepare=made)


def _answer(result, seconds, **more):
    counters = result.telemetry.counters
    evals = counters.get("distance_evals", 0) / max(1, len(result.indices))
    took = 1e6 * result.telemetry.seconds * result.telemetry.n_threads / max(1, len(result.indices))
    us = {"expected_us": result.plan.expected_us or None, "took_us": took}
    return Run(seconds, result.indices, plan=str(result.plan), evals=evals, **us, **more)


@dataclass(frozen=True, eq=False)
class Steps:
    """Kernels on the way of an optimiser: one for each timed turn, shared by all that take part."""

    kernels: list[Kernel]

    def of(self, workload: Workload, turn: int) -> Workload:
        """`workload` with the kernel of this turn."""
        return replace(workload, metric={**workload.metric, "kernel": self.kernels[turn % len(self.kernels)]})


class FirstSolve(Engine):
    """The first solve under new kernel parameters: a tree from nothing, and its search.

    `prepare` of its runs is the time to put the points in order, which is all that a tree over coordinates is.
    """

    each_turn_differs = True

    def __init__(self, contender: Contender, steps: Steps):
        super().__init__(contender, "search")
        self.name, self.steps = f"{contender.name}, first solve", steps

    def prepare(self, question: Question):
        super().prepare(question)
        return {"turn": 0, "answer": None}

    def run(self, question: Question, state, positions: np.ndarray) -> Run:
        workload = self.steps.of(question.workload, state["turn"])
        state["turn"] += 1
        coords = workload.metric["kernel"].scale(workload.X)
        begin = time.perf_counter()
        ordering.leaf_order(coords, n_threads=question.threads)
        ordered = time.perf_counter() - begin
        begin = time.perf_counter()
        tree = self._tree(workload, question, state)
        made = time.perf_counter() - begin
        result, seconds = self._search(tree, question, start=state["answer"])
        if state["answer"] is not None:
            state["answer"] = result
        return _answer(result, made + seconds, prepare=ordered, workload=workload)

    def _tree(self, workload, question, state):
        return workload.tree(question.threads)


class Change(FirstSolve):
    """The same on a tree made under other parameters: `CoverTree.with_metric`, and a search from the last answer."""

    def __init__(self, contender: Contender, steps: Steps):
        super().__init__(contender, steps)
        self.name = f"{contender.name}, changed"

    def prepare(self, question: Question):
        tree = question.workload.tree(question.threads)
        answer, _ = self._search(tree, question)
        return {**super().prepare(question), "tree": tree, "answer": answer}

    def _tree(self, workload, question, state):
        state["tree"] = state["tree"].with_metric(workload.metric["kernel"])
        return state["tree"]
