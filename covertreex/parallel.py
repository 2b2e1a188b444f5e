"""Running kernels on threads, so that Ctrl-C is heard."""

import os
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

from covertreex.errors import InvalidInputError


def thread_count(n_threads):
    """`n_threads`, or the cores this process may use for None.

    Raises
    ------
    InvalidInputError
        If it is not a positive integer.
    """
    if n_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(n_threads, bool) or not isinstance(n_threads, Integral) or n_threads < 1:
        raise InvalidInputError(f"n_threads must be a positive integer or None for all cores, got {n_threads!r}.")
    return int(n_threads)


def run(tasks, n_threads, cancel=None, on_done=None):
    """Run callables on a pool, started in order; return their results in order.

    The first exception cancels what has not started and is raised when all threads are done. The calling thread only
    waits, with one thread too: so it hears Ctrl-C, sets ``cancel[0] = 1`` for the kernels, waits for them, and raises.

    Parameters
    ----------
    tasks : list of callable
    n_threads : int
    cancel : ndarray, shape (1,), int32, optional
    on_done : callable, optional
        Called in the calling thread with each result, in order.
    """
    results = []
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            futures = [pool.submit(task) for task in tasks]  # an interrupt may come while thousands are submitted
            for future in futures:
                results.append(future.result())
                if on_done is not None:
                    on_done(results[-1])
        except BaseException:
            if cancel is not None:
                cancel[0] = 1
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def spans(total, size):
    """Consecutive (start, stop) of at most `size` that cover ``range(total)``."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]
