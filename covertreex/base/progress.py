"""What is going on: a bar with the time left, for work of more than two seconds at a terminal; elsewhere the log.

The logger is ``covertreex``. It is told at level DEBUG what was done in which time, and at level INFO, every ten
seconds, how far work has come and how long it will take. Nothing is said unless somebody configures `logging`.
"""

import logging
import sys
import time
from typing import Any

#: Seconds of silence before a bar appears.
PATIENCE = 2.0

#: Seconds between lines in the log.
BETWEEN_LINES = 10.0

logger = logging.getLogger("covertreex")


class Progress:
    """Context manager around a long loop.

    Parameters
    ----------
    label : str
        What is being done, for people.
    total : int
        Units of work.

    Examples
    --------
    >>> with Progress("thinking", total=3) as progress:
    ...     for _ in range(3):
    ...         progress.advance(1)
    """

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._bar: Any = None
        self._task: Any = None
        self._begin = self._last_line = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if logger.isEnabledFor(logging.DEBUG):
            took = time.monotonic() - self._begin
            logger.debug("%s: %s of %s in %.3f s", self.label, f"{self.done:,}", f"{self.total:,}", took)

    def advance(self, units: int) -> None:
        """Count `units` more of the work as done."""
        self.done += units
        now = time.monotonic()
        if now - self._last_line >= BETWEEN_LINES and self.done:
            self._last_line, share = now, self.done / self.total
            left = (now - self._begin) * (1.0 / share - 1.0)
            logger.info("%s: %.0f %%, about %.0f s left", self.label, 100.0 * share, left)
        if now - self._begin < PATIENCE or sys.stderr is None or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._start()
        self._bar.update(self._task, completed=self.done)

    def _start(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self.label, total=self.total)
        self._bar.start()
