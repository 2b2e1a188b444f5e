"""What a search over partitions takes: workload `vif` from a memory map to Zarr, on workers with little memory.

    python bench/dask_cluster.py 2_000_000 --workers 2 --threads 1 --memory 1GiB

Prints the plan, seconds of the clock and of CPU, the largest memory of each worker, and the recall of a sample; with
`--single` also what `tree.search` takes in a process of its own, which writes its answer to Zarr as well, and whether
the answers are the same. Needs the extra ``dask``, and disk space for points and answers.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
from dask.utils import format_bytes
from distributed import Client, LocalCluster

import covertreex.dask as cxd
from covertreex_bench.workloads import make_workload

DIMENSIONS, K = 5, 30

SINGLE = """
import sys, time
import dask, dask.array as da, numpy as np
import covertreex as cx
from dask_cluster import K, metric
file, threads, settings, out, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
clock, cpu = time.perf_counter(), time.process_time()
tree = cx.cover_tree(np.load(file), **metric(), n_threads=threads)
found = tree.search(K, predecessor_mode=True, settings=settings, n_threads=threads)
searched = time.process_time() - cpu
with dask.config.set(scheduler="sync"):
    for name in ("indices", "distances"):
        da.from_array(getattr(found, name), chunks=(rows, K)).to_zarr(out, component=name)
print(time.perf_counter() - clock, time.process_time() - cpu, searched)
"""


def metric():
    """That of the workload."""
    return make_workload("vif", n=1000).metric


def points(n, file):
    """Uniform points of the workload, written in pieces."""
    mapped = np.lib.format.open_memmap(file, mode="w+", dtype=np.float64, shape=(n, DIMENSIONS))
    random = np.random.default_rng(0)
    for start in range(0, n, 2**18):
        mapped[start : start + 2**18] = random.uniform(size=mapped[start : start + 2**18].shape)
    mapped.flush()


def used():
    """The process, its seconds of CPU so far, and its largest memory."""
    return os.getpid(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--settings", default="fast")
    parser.add_argument("--partitions", type=int, help="at least so many, with halos")
    parser.add_argument("--audit", type=int, default=1000)
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--plan", action="store_true", help="nothing but the plan")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=given.workers, threads_per_worker=given.threads, memory_limit=given.memory,
            dashboard_address=None, local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        file, out = Path(folder) / "points.npy", Path(folder) / "found.zarr"
        points(given.n, file)
        X, before = np.load(file, mmap_mode="r"), client.run(used)
        clock = time.perf_counter()
        how = {"settings": given.settings, "partitions": given.partitions}
        result = cxd.search(X, K, **metric(), predecessor_mode=True, **how)
        print(result.plan, flush=True)
        planned, after = time.perf_counter() - clock, client.run(used)
        cpu = sum(after[one][1] - before[one][1] for one in before)
        print(f"planned in {planned:.1f} s, {cpu:.1f} s of CPU", flush=True)
        if given.plan:
            return
        result.to_zarr(out)
        took, after = time.perf_counter() - clock, client.run(used)
        assert {one: after[one][0] for one in after} == {one: before[one][0] for one in before}, "a worker was killed"
        cpu = sum(after[one][1] - before[one][1] for one in before)
        print(f"{given.n:,} rows: {took:.1f} s, {cpu:.1f} s of CPU, {1e6 * cpu / given.n:.1f} us of CPU a row")
        print("largest memory:", ", ".join(format_bytes(int(memory)) for _, _, memory in after.values()), flush=True)
        found = [da.from_zarr(str(out), component=name) for name in ("indices", "distances")]
        if given.audit:
            recall, (low, high) = result.recall_of(*found, given.audit)
            print(f"recall of {given.audit} queries: {recall:.5f} ({low:.5f} to {high:.5f})", flush=True)
        if given.single:
            threads, alone, rows = given.workers * given.threads, Path(folder) / "alone.zarr", found[0].chunks[0][0]
            command = [sys.executable, "-c", SINGLE, file, str(threads), given.settings, alone, str(rows)]
            done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
            clock, cpu, searched = map(float, done.stdout.split())
            same = np.all([
                da.all(array == da.from_zarr(str(alone), component=name)).compute()
                for array, name in zip(found, ("indices", "distances"), strict=True)
            ])  # fmt: skip
            print(
                f"tree.search: {clock:.1f} s, {cpu:.1f} s of CPU, {1e6 * cpu / given.n:.1f} us of CPU a row, ", end=""
            )
            print(f"{1e6 * searched / given.n:.1f} without writing; {'the same bits' if same else 'other bits'}")


if __name__ == "__main__":
    main()
