"""How a tree gets into a file and out of it, into a pickle, and to other processes of the machine.

A state that was mapped from a file knows the file (`Origin`), and goes to other processes by its name. What comes out
is a `TreeState`; whoever calls makes a tree of it.
"""

import os
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from covertreex.base import parallel
from covertreex.base.types import AnyArray
from covertreex.base.validation import check_flag
from covertreex.data.payload import empty_factors
from covertreex.data.state import TreeState
from covertreex.errors import FileFormatError
from covertreex.io import container
from covertreex.io.description import Arrays, assemble, assemble_tree, check_old_units, describe, tree_arrays

#: Root and arrays of a cover tree that is not in its file.
Cover: TypeAlias = tuple[int, dict[str, AnyArray]]


def save(state: TreeState, path: str | os.PathLike[str]) -> None:
    """See `CoverTree.save`."""
    container.write(path, *describe(state), state.threads)


def load(
    path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = True, n_threads: int | None = None
) -> TreeState:
    """See `covertreex.load`.

    Returns
    -------
    TreeState
    """
    path = os.path.abspath(os.fsdecode(path))
    n_threads = parallel.given_threads(n_threads)
    verify = check_flag(verify, "verify")
    try:
        found = container.read(path, mmap=mmap, verify=verify, n_threads=parallel.thread_count(n_threads))
        if found.version == 1:
            check_old_units(found.document)
        state = assemble(found.document, found.arrays, n_threads, verify)
    except FileFormatError as error:
        raise FileFormatError(f"cannot load {path!r}: {error}") from None
    return replace(state, origin=Origin.of(path, found.status, state)) if mmap else state


class Origin:
    """The mapped file that a tree came from: how to know it again, and whether it has the cover tree."""

    def __init__(self, path: str, identity: tuple[int, int, int, int], has_tree: bool) -> None:
        self.path, self.identity, self.has_tree = path, identity, has_tree

    @classmethod
    def of(cls, path: str, status: os.stat_result, state: TreeState) -> "Origin":
        """From what `os.fstat` said of the open file."""
        return cls(path, _identity(status), state.built is not None)

    def is_there(self) -> bool:
        """Whether the path still leads to the very file that was mapped."""
        try:
            return _identity(os.stat(self.path)) == self.identity
        except OSError:
            return False


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class LostTree:
    """In place of a tree whose file was replaced on the way to another process: all of its attributes raise.

    It cannot raise while it is unpickled: a `multiprocessing.Pool` would lose the task and wait for it for ever.
    """

    def __init__(self, path: str) -> None:
        self.__dict__["path"] = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise FileFormatError(
            f"the file {self.path!r} was replaced or removed while a tree mapped from it was on its way to this "
            "process. Load the file in the process itself, or save to a new name."
        )


def pickled(state: TreeState) -> tuple[dict[str, Any], dict[str, AnyArray], int | None, Origin | None]:
    """What `restore` needs: the bytes of the file, in a pickle."""
    return (*describe(state), state.n_threads, state.origin)


def restore(
    document: dict[str, Any], arrays: dict[str, AnyArray], n_threads: int | None, origin: Origin | None
) -> TreeState | LostTree:
    """The state in a pickle. Arrays may come as maps of the original file (joblib does that): then it must still be
    that file; otherwise a `LostTree` comes back."""
    if origin is not None:
        maps = [array for array in arrays.values() if getattr(array, "filename", None) == origin.path]
        if maps and not origin.is_there():
            return LostTree(origin.path)
        origin = origin if maps else None
    factors = arrays.get("factors")
    if factors is not None and factors.ctypes.data % container.ALIGN and not isinstance(factors, np.memmap):
        arrays = {**arrays, "factors": empty_factors(*factors.shape)}
        arrays["factors"][:] = factors
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        state = assemble(document, arrays, n_threads)
    except FileFormatError as error:
        raise FileFormatError(f"cannot unpickle a tree: {error}") from None
    return replace(state, origin=origin)


def name_of(state: TreeState) -> tuple[Origin, int | None, Cover | None] | None:
    """What `reopen` needs to have a mapped state in another process of this machine: the name of its file. None where
    that does not lead to it."""
    origin, tree = state.origin, state.built
    if origin is None or not origin.is_there():
        return None
    cover = None
    if tree is not None and not origin.has_tree:
        cover = tree.root, {name: array for name, array in tree_arrays(tree).items() if array.size}
    return origin, state.n_threads, cover


def reopen(origin: Origin, n_threads: int | None, cover: Cover | None) -> TreeState | LostTree:
    """The state that `name_of` named, or a `LostTree`."""
    if not origin.is_there():
        return LostTree(origin.path)
    state = load(origin.path, verify=False, n_threads=n_threads)  # the sender has verified it, or chose not to
    if state.origin.identity != origin.identity:
        return LostTree(origin.path)
    if cover is not None:
        root, arrays = cover
        state.kept.put("tree", assemble_tree({"root": root}, Arrays(arrays), state.payload.index))
    return state
