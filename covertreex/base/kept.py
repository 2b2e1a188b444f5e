"""Things that are made once, under a lock, and shared."""

import os
import threading


class Kept:
    """What is made of a payload once and shared by all its searches, such as screens; what is made stays as it is.

    Searches on several threads may ask for the same at once: one makes it, under a lock, and the others wait.
    """

    def __init__(self):
        self._lock, self._process, self._made = threading.RLock(), os.getpid(), {}

    def __reduce__(self):
        return Kept, ()  # it can be made again

    def _locked(self):
        """The lock; a new one in a forked process, whose copy may have been held by a thread that is not there."""
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock

    def get(self, name, make):
        """What is kept under a name; `make`, which takes nothing, makes it at first."""
        with self._locked():
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def held(self, name):
        """What is kept under a name, or None."""
        with self._locked():
            return self._made.get(name)

    def put(self, name, made):
        """Keep `made` under a name, in place of what was there."""
        with self._locked():
            self._made[name] = made

    def forget(self, *names):
        """Make it anew when it is next wanted."""
        with self._locked():
            for name in names:
                self._made.pop(name, None)
