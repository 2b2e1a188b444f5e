"""On a cluster of two processes: the same bits, whatever happens to a worker; and what is refused."""

import os
import signal
import subprocess
import sys
import time

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.base import key_split
from distributed import Client, LocalCluster, wait

import covertreex as cx
import covertreex.dask as cxd
from covertreex.dask import planning
from covertreex.dask.planning import workers
from covertreex.errors import InvalidInputError

METRIC = {"kernel": cx.Matern32(lengthscale=0.6), "inducing": 40}


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit="2GiB") as cluster,
        Client(cluster) as client,
    ):
        yield client


def points(n=4000, d=3):
    return np.random.default_rng(0).uniform(size=(n, d))


def lazy(X, rows=500):
    return da.from_array(X, chunks=(rows, -1))


@pytest.fixture(scope="module")
def truth():
    return cx.cover_tree(points(), **METRIC).search(6, predecessor_mode=True, settings="exact")


def search(X, **more):
    return cxd.search(lazy(X), 6, **METRIC, predecessor_mode=True, partitions=4, **{"settings": "exact"} | more)


def test_the_bits_of_one_process(client, truth, tmp_path):
    pytest.importorskip("zarr")
    result = search(points(), audit=200)
    result.to_zarr(tmp_path / "found.zarr")
    written = [da.from_zarr(str(tmp_path / "found.zarr"), component=name) for name in ("indices", "distances")]
    np.testing.assert_array_equal(written[0].compute(), truth.indices)
    np.testing.assert_array_equal(written[1].compute(), truth.distances)
    assert result.recall_of(*written) == (1.0, pytest.approx((1.0, 1.0), abs=0.05))
    kept = result.persist()
    wait([kept.indices, kept.distances])
    assert kept.recall == 1.0
    kept.to_parquet(tmp_path / "found.parquet")
    table = pd.read_parquet(tmp_path / "found.parquet").sort_values("row")
    np.testing.assert_array_equal(table[[f"i{j}" for j in range(6)]], truth.indices)
    np.testing.assert_array_equal(table[[f"d{j}" for j in range(6)]], truth.distances)


def test_a_worker_that_is_killed_changes_no_bit(client, truth):
    result = search(points())
    futures = client.compute([result.indices, result.distances])
    killed = 0
    while not all(future.done() for future in futures) and killed < 2:
        time.sleep(0.4)
        pids = list(client.run(os.getpid).values())
        os.kill(pids[killed % len(pids)], signal.SIGKILL)
        killed += 1
    assert killed, "all was done before a worker could be killed"
    indices, distances = client.gather(futures)
    np.testing.assert_array_equal(indices, truth.indices)
    np.testing.assert_array_equal(distances, truth.distances)
    client.wait_for_workers(2)


def test_levels_are_asked_again_on_workers(client, truth, monkeypatch):
    """The probe sees nothing, so halos have no width: a second shuffle brings wider ones."""
    monkeypatch.setattr(planning, "PROBES", 0)
    result = search(points(), settings="fast", audit=300)
    assert {level.width for level in result.plan.partition.levels} == {0.0}
    indices = result.indices.compute()
    assert np.mean([len(set(a) & set(b)) for a, b in zip(indices[6:], truth.indices[6:], strict=True)]) / 6 >= 0.999


def left(client):
    """Tasks that the scheduler knows, once they are none or ten seconds are over."""
    for _ in range(100):
        names = client.run_on_scheduler(lambda dask_scheduler: [key_split(key) for key in dask_scheduler.tasks])
        if not names:
            break
        time.sleep(0.1)
    return names


def test_a_search_that_is_cancelled_leaves_nothing_behind(client, truth):
    future = client.compute(search(points()).indices)
    time.sleep(0.3)
    future.cancel()
    del future
    assert left(client) == []
    np.testing.assert_array_equal(search(points()).indices.compute(), truth.indices)


LOST = """
import sys, time
import dask.array as da, numpy as np
from distributed import Client
import covertreex as cx, covertreex.dask as cxd
client = Client(sys.argv[1])
X = da.from_array(np.random.default_rng(0).uniform(size=(60_000, 3)), chunks=(5000, -1))
futures = client.compute(cxd.search(X, 6, kernel=cx.Matern32(lengthscale=0.6), inducing=40, partitions=12).indices)
print("computing", flush=True)
time.sleep(60)
"""


def test_a_client_that_is_lost_leaves_nothing_behind(client, truth):
    """A process that is killed while its search runs: nobody says goodbye to the scheduler."""
    lost = subprocess.Popen([sys.executable, "-c", LOST, client.scheduler.address], stdout=subprocess.PIPE, text=True)
    try:
        assert lost.stdout.readline() == "computing\n"
        for _ in range(100):
            known = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
            if known > 12:
                break
            time.sleep(0.1)
        assert known > 12, "it was not computing"
    finally:
        lost.kill()
        lost.wait()
        lost.stdout.close()
    assert left(client) == []
    np.testing.assert_array_equal(search(points()).indices.compute(), truth.indices)


def test_tasks_have_names_and_their_number_is_linear(client):
    def graph(partitions, settings="fast"):
        result = cxd.search(lazy(points(), 250), 6, **METRIC, partitions=partitions, settings=settings)
        return dict(result.indices.__dask_graph__())

    few, many = graph(8), graph(32)
    exact = graph(32, "exact")
    assert len(exact) < len(many) + 5 * 32 * 2  # of 32 partitions, in one group, and not 32 x 32
    names = {key_split(key) for key in many}
    assert {"near", "collect"} <= names
    assert any(name.startswith("deal") for name in names)
    assert any(name.startswith("answers") for name in names)
    assert len(many) < 4.2 * len(few)


def _pretend(version):
    from covertreex.dask import model

    model.__version__ = version


def test_another_version_is_refused_by_name(client):
    address = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
    client.run(_pretend, "0.0.1", workers=[address])
    try:
        with pytest.raises(InvalidInputError, match=f"worker {address} has covertreex 0.0.1, but this process has "):
            search(points())
    finally:
        client.run(_pretend, cx.__version__, workers=[address])
    result = search(points(600))
    client.run(_pretend, "0.0.2")  # as if these workers had come later
    try:
        with pytest.raises(InvalidInputError, match=r"a worker \(process \d+\) has covertreex 0\.0\.2, but the search"):
            result.indices.compute()
    finally:
        client.run(_pretend, cx.__version__)


def test_memory_is_what_workers_have(client):
    found = workers(None)
    assert (found.count, found.threads) == (2, 2)
    assert 0.9e9 < found.memory < 1.2e9
    assert workers("100 MB").memory == 1e8
    with pytest.raises(InvalidInputError, match=r"memory must be what one task may take, .* such as '512 MB', got 'x'"):
        workers("x")


def test_partitions_follow_from_memory(client):
    X = points(20_000, 2)
    result = cxd.search(lazy(X, 5000), 5, **METRIC, memory="4 MB", settings="fast").persist()
    assert len(result.plan.partition) > 4
    assert result.plan.estimate <= 4e6
    assert result.recall_of(result.indices, result.distances, 1000)[0] >= 0.999
    assert "a task takes about " in str(result.plan)
    with pytest.raises(InvalidInputError, match="no partition fits into memory: a task and its halo would take about"):
        cxd.search(lazy(X[:1500]), 5, **METRIC, memory="100 kB", settings="fast")


def test_nan_names_chunk_and_row(client):
    X = points()
    X[1004, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"chunk 2 of X must be finite .* got nan at row 4, column 1"):
        search(X)
    with pytest.raises(InvalidInputError, match=r"chunk 0 of queries must be finite .* at row 1004, column 1"):
        cxd.search(lazy(points()), 3, lazy(X, 4000))


def test_columns_that_differ_between_partitions(client):
    frames = [pd.DataFrame(points(50, 2), columns=list(names)) for names in ("ab", "ab", "ba")]
    frame = dd.from_map(lambda i: frames[i], range(3), meta=frames[0].iloc[:0], enforce_metadata=False)
    with pytest.raises(InvalidInputError, match=r"chunk 2 of X has columns \['b', 'a'\], but the data frame says"):
        cxd.search(frame, 3)
