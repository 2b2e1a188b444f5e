"""Things that are made once, under a lock, and shared."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """What is made of something that does not change, once, and shared by all who use it, such as screens of a payload.

    Searches on several threads may ask for the same at once: one makes it, under a lock, and the others wait. What is
    there already is given without waiting.

    Parameters
    ----------
    **made
        What is there from the start, by name; None for what is not.
    """

    def __init__(self, **made: Any) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()
        self._made = {name: value for name, value in made.items() if value is not None}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Kept, ()  # it can be made again

    def _locked(self) -> Any:
        """The lock; a new one in a forked process, whose copy may have been held by a thread that is not there."""
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock

    def get(self, name: str, make: Callable[[], T]) -> T:
        """What is kept under a name; `make`, which takes nothing, makes it at first."""
        found: Any = self._made.get(name, self)  # None may be kept as well
        if found is self:
            with self._locked():
                if name not in self._made:
                    self._made[name] = make()
                found = self._made[name]
        made: T = found
        return made

    def put(self, name: str, value: Any) -> None:
        """Keep `value` under a name, in place of what was there."""
        with self._locked():
            self._made[name] = value

    def held(self, name: str) -> Any:
        """What is kept under a name, or None."""
        return self._made.get(name)

    def forget(self, *names: str) -> None:
        """Make it anew when it is next wanted."""
        with self._locked():
            for name in names:
                self._made.pop(name, None)
