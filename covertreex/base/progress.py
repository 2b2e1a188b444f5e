"""A progress bar for work that takes more than two seconds at a terminal; silence everywhere else."""

import sys
import time
from typing import Any

#: Seconds of silence before a bar appears.
PATIENCE = 2.0


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
        self._wanted = sys.stderr is not None and sys.stderr.isatty()
        self._begin = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, units: int) -> None:
        """Count `units` more of the work as done."""
        self.done += units
        if not self._wanted or time.monotonic() - self._begin < PATIENCE:
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
