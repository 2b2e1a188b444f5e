"""Running kernels on threads, so that Ctrl-C is heard; how many threads; and BLAS held to one of them meanwhile."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from math import ceil
from numbers import Integral
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from covertreex.base.limits import allowed_cores, cpu_quota
from covertreex.errors import InvalidInputError

T = TypeVar("T")

#: Seconds after which a thread that waits for others looks up.
LOOK_UP = 0.2


def thread_count(n_threads: int | None) -> int:
    """`n_threads`, or the cores this process may use for None: those of its affinity, no more than its CPU quota.

    Raises
    ------
    InvalidInputError
        If it is not a positive integer.
    """
    if n_threads is None:
        return max(1, min(allowed_cores(), ceil(cpu_quota())))
    if isinstance(n_threads, bool) or not isinstance(n_threads, Integral) or n_threads < 1:
        raise InvalidInputError(f"n_threads must be a positive integer or None for all cores, got {n_threads!r}.")
    return int(n_threads)


def given_threads(n_threads: int | None) -> int | None:
    """`n_threads` checked, but None stays None: each process that has the tree then counts its own cores.

    Raises
    ------
    InvalidInputError
        As `thread_count`.
    """
    return None if n_threads is None else thread_count(n_threads)


def run(
    tasks: Sequence[Callable[[], T]],
    n_threads: int,
    cancel: NDArray[np.int32] | None = None,
    on_done: Callable[[T], object] | None = None,
    brief: bool = False,
) -> list[T]:
    """Run callables on threads, started in order; return their results in order.

    The first exception cancels what has not started and is raised when all threads are done. The main thread only
    waits, with one thread too: so it hears Ctrl-C, sets ``cancel[0] = 1`` for the kernels, waits for them, and raises.
    Other threads never hear it: one that asks for one thread does the work itself. So does every thread where none can
    be started, as while Python shuts down. (No `ThreadPoolExecutor`: it refuses as soon as the main thread has ended,
    though threads that go on may still start others.)

    Parameters
    ----------
    tasks : list of callable
    n_threads : int
    cancel : ndarray, shape (1,), int32, optional
    on_done : callable, optional
        Called in the calling thread with each result, in order.
    brief : bool
        Whether all of it takes no longer than starting threads does: the calling thread then does it, and hears Ctrl-C
        when it is done.
    """
    # Annotated, for `list[T]()` makes a type each time that it is run.
    waiting: deque[tuple[Callable[[], T], Future[T]]] = deque()
    threads: list[threading.Thread] = []
    futures: list[Future[T]] = []
    results: list[T] = []
    try:
        count = min(n_threads, len(tasks))
        if not brief and (count > 1 or threading.current_thread() is threading.main_thread()):
            futures += [Future() for _ in tasks]
            waiting.extend(zip(tasks, futures, strict=True))
            _start(partial(_work, waiting), count, threads)
        for place, task in enumerate(tasks):
            results.append(_result(futures[place]) if threads else task())
            if on_done is not None:
                on_done(results[-1])
    except BaseException:
        if cancel is not None:
            cancel[0] = 1
        while waiting:
            try:
                waiting.popleft()[1].cancel()
            except IndexError:  # a thread was faster
                break
        if threads:  # not joined: Ctrl-C may have come before the last of them was known to have started
            wait([one for one in futures if not one.cancelled()])
        futures.clear()  # nor may the error keep all that was found: there may be too much of it
        results.clear()
        raise
    for thread in threads:
        thread.join()
    return results


def _result(future: Future[T]) -> T:
    """What a thread has found, once it has; a signal that comes just before this one waits would not wake it."""
    while not future.done():
        wait([future], timeout=LOOK_UP)
    return future.result()


def _work(waiting: deque[tuple[Callable[[], T], Future[T]]]) -> None:
    """Do one task after the other, until none is left."""
    while True:
        try:
            task, future = waiting.popleft()
        except IndexError:
            return
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)
        del task, future  # the error knows this frame, and would keep what it knows in a ring


def _start(work: Callable[[], None], count: int, threads: list[threading.Thread]) -> None:
    """Add to `threads` up to `count` that run `work`; fewer, or none, where no more can be started."""
    for _ in range(count):
        threads.append(threading.Thread(target=work, name="covertreex"))
        try:
            threads[-1].start()
        except RuntimeError:  # too many threads, or Python shuts down
            threads.pop()
            break


class PerThread(Generic[T]):
    """One of something for each thread, made when the thread first asks for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._local = make, threading.local()

    def get(self) -> T:
        """What belongs to this thread."""
        if not hasattr(self._local, "made"):
            self._local.made = self._make()
        made: T = self._local.made
        return made


def spans(total: int, size: int) -> list[tuple[int, int]]:
    """Consecutive (start, stop) of at most `size` that cover ``range(total)``."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


# ---------------------------------------------------------------------------------------------------------------------
# BLAS


class _BlasLimit:
    """BLAS at one thread while anybody wants it so.

    `threadpool_limits` alone sets a number for the whole process and restores what it found: the second of two threads
    finds the first one's 1, and leaves it behind if it ends last. So the first in sets, and the last out restores.
    """

    def __init__(self) -> None:
        self.lock, self.holders = threading.Lock(), 0
        self.limits: Any = None
        self.libraries: Any = None
        self.modules = 0

    def _found(self) -> Any:
        """What threadpoolctl finds. To look takes longer than a small likelihood: again only after imports."""
        from threadpoolctl import ThreadpoolController

        if self.modules != len(sys.modules):
            self.libraries, self.modules = ThreadpoolController(), len(sys.modules)
        return self.libraries

    def enter(self) -> None:
        with self.lock:
            if self.holders == 0:
                self.limits = self._found().limit(limits=1, user_api="blas")
            self.holders += 1

    def leave(self) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                limits, self.limits = self.limits, None
                limits.restore_original_limits()

    def forked(self) -> None:
        """A child has none of the threads that held the limit, nor the one that may have held the lock."""
        limits = self.limits
        self.lock, self.holders, self.limits = threading.Lock(), 0, None
        if limits is not None:
            limits.restore_original_limits()


_blas = _BlasLimit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blas.forked)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which BLAS uses one thread in each of ours; for any number of contexts at a time."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()
