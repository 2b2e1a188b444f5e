"""What all tests share: the choice of backends, and a clean environment."""

import gc
import os
import signal
from importlib import metadata

import numpy as np
import pytest
from ard import ARD_KERNELS, EVERY_KERNEL
from hypothesis import HealthCheck, settings

import covertreex as cx
from covertreex.backends import registry
from covertreex.base import offers, tuning
from covertreex.protocols import PROTOCOL_VERSION, Capabilities
from covertreex.testing.plugin import add_backend_option

settings.register_profile("local", deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "local")

#: What ``-m quick`` runs: some of every room, together under two minutes on two cores; of these, nothing that is slow.
QUICK = (
    "covertreex/",
    "tests/backends/test_registry.py",
    "tests/backends/test_scan.py",
    "tests/backends/test_tables.py",
    "tests/backends/test_telemetry.py",
    "tests/base/test_contract.py",
    "tests/base/test_inputs.py",
    "tests/bench/test_compare.py",
    "tests/bench/test_package.py",
    "tests/bench/test_workloads.py",
    "tests/cli/test_commands.py",
    "tests/data/test_canonical.py",
    "tests/data/test_metrics.py",
    "tests/data/test_payload.py",
    "tests/io/test_kernels.py",
    "tests/kernels/test_bits.py",
    "tests/kernels/test_composition.py",
    "tests/kernels/test_isotropic.py",
    "tests/search/test_boxes.py",
    "tests/search/test_driver.py",
    "tests/test_docs.py",
    "tests/test_errors.py",
    "tests/test_house.py",
    "tests/test_oracle.py",
    "tests/test_outputs.py",
    "tests/test_plot.py",
    "tests/test_results.py",
    "tests/test_settings.py",
    "tests/test_stubs.py",
)


#: But not these, which take seconds each, or compile all that Numba has.
NOT_QUICK = (
    "covertreex/testing/test_backend.py::test_conformance[numba",
    "tests/cli/test_commands.py::test_the_library_works_without_the_measuring_package",
    "tests/search/test_boxes.py::test_answers_are_those_of_brute_force",
)


def pytest_configure():
    """Idle threads of OpenBLAS sleep: they would spin for a while after each product, on cores that other tests need.

    It is read where OpenBLAS starts, so this is for the processes of ``-n`` and those that tests start.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")  # 2^16 ticks, where 2^26 are usual


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """The collector of garbage need not look at thousands of tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Mark as quick what `QUICK` names."""
    for item in items:
        if (
            item.nodeid.startswith(QUICK)
            and not item.nodeid.startswith(NOT_QUICK)
            and not item.get_closest_marker("slow")
        ):
            item.add_marker("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbouring tests stay in one process, which shares what they make; who is done first takes of what is left."""
    if config.getoption("dist") == "load":  # what -n means unless --dist says otherwise
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
    return None


def pytest_addoption(parser):
    add_backend_option(parser)


def _backend_names(config):
    names = config.getoption("--backend")
    if not names:
        # Those that have no tree search take part where they are named.
        return [info.name for info in cx.list_backends(load=True) if info.status == "ok" and "L1" in info.levels]
    for name in names:
        try:
            cx.get_backend(name)
        except cx.BackendError as error:
            raise pytest.UsageError(str(error)) from None
    return names


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _backend_names(metafunc.config))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """Tests see no COVERTREEX_* variable but those that they set."""
    for name in [name for name in os.environ if name.startswith("COVERTREEX_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _threads_for_few_queries(monkeypatch):
    """What tests do on two threads is done by two, however small it is."""
    monkeypatch.setattr(tuning, "BRIEF", 0)


@pytest.fixture(params=ARD_KERNELS.values(), ids=ARD_KERNELS)
def ard_kernel(request):
    """A kernel with five lengthscales."""
    return request.param


@pytest.fixture(params=EVERY_KERNEL.values(), ids=EVERY_KERNEL)
def every_kernel(request):
    """A kernel in five dimensions, by a closed form or by tables."""
    return request.param


@pytest.fixture
def rng():
    """A generator of random numbers, the same for every test."""
    return np.random.default_rng(7)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def install(monkeypatch):
    """A function that makes the registry find one more backend, instead of any of the same name."""

    def add(info, backend=None):
        entry = metadata.EntryPoint(info.name, info.target, offers.GROUP)
        offer = offers.Offer(info.name, info.distribution, info.version, entry)
        others = [other for other in offers.backends() if other.name != info.name]
        monkeypatch.setattr(offers, "backends", lambda: [*others, offer])
        monkeypatch.setattr(offers, "SHIPPED", {name: at for name, at in offers.SHIPPED.items() if name != info.name})
        monkeypatch.setitem(registry._loaded, info.name, (info, backend))

    return add


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt here, whatever the shell that started the tests did to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Liar:
    """The cython backend under another name, but for what `spoil(out)` does to its answers."""

    protocol_version = PROTOCOL_VERSION

    def __init__(self, name, spoil):
        self.name, self.spoil, self.honest = name, spoil, cx.get_backend("cython")
        self.capabilities = Capabilities(self.honest.capabilities.mechanisms, "not to be trusted")

    def search(self, tree, payload, queries, k, settings, out):
        self.honest.search(tree, payload, queries, k, settings, out)
        self.spoil(out)

    def scan(self, payload, plan, k, settings, out):
        self.honest.scan(payload, plan, k, settings, out)
        self.spoil(out)


@pytest.fixture
def install_liar(install):
    """A function that installs a backend whose answers `spoil(out)` spoils."""

    def add(spoil, name="liar"):
        backend = Liar(name, spoil)
        claims = backend.capabilities
        made = registry.BackendInfo(name, "lies", "0.1", "l:b", "ok", capabilities=claims, levels=claims.claimed)
        install(made, backend)
        return backend

    return add
