"""Time to answer the queries of each workload, on every backend and profile, the answer checked."""

import hashlib

import pytest

from covertreex import errors
from covertreex.backends import registry
from covertreex.cli import display
from covertreex.search import choose_verb
from covertreex_bench import compare


def test_queries(benchmark, question, row, note):
    """One call with all queries; factors, tree and compiled kernels are there before the clock starts."""
    (contender,) = compare.parse_contenders([row])
    settings, workload, tree = contender.settings, question.workload, question.tree
    verb = choose_verb(settings, tree.payload)
    try:
        registry.choose_backend(settings, contender.backend, verb)
    except errors.BackendError as error:
        pytest.skip(str(error))
    if verb == "search":
        _ = tree.tree

    def ask(queries):
        return tree.search(
            workload.k,
            queries,
            predecessor_mode=workload.predecessors,
            settings=settings,
            backend=contender.backend,
        )

    ask(workload.queries[:1])
    benchmark.group = workload.name
    result = benchmark(ask, workload.queries)

    recall = question.oracle.recall(result.indices, workload.queries, predecessor_mode=workload.predecessors)
    counters = result.telemetry.counters
    evals = counters["distance_evals"] / len(workload.queries)
    benchmark.extra_info.update(
        question.describe(),
        verb=verb,
        recall=recall,
        recall_target=settings.recall_target,
        evals_per_query=evals,
        counters=counters,
        answer=hashlib.sha256(result.indices.tobytes() + result.distances.tobytes()).hexdigest()[:16],
    )
    median = benchmark.stats.stats.median if benchmark.stats else None
    rate = "-" if median is None else f"{len(workload.queries) / median:,.0f}"
    note((workload.name, row, display.duration(median), rate, display.share(recall), f"{evals:,.0f}"))
    assert recall >= settings.recall_target
