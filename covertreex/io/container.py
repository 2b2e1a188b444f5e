"""A file of named arrays beside a JSON document: aligned, to be mapped and shared, and verified (docs/file-format.md).

The file is a valid safetensors file. What this module adds is alignment, a digest per array and one of the header. It
knows nothing of trees: what arrays and document mean, and whether they agree, is `covertreex.io.description`'s matter.
Digests find damage. They do not find a file that was made to mislead.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from covertreex._version import __version__
from covertreex.base import parallel
from covertreex.base.types import AnyArray
from covertreex.data.payload import empty_factors
from covertreex.errors import FileFormatError, InvalidInputError

FORMAT, VERSION = "covertreex", 2

#: What each version calls its list of digests.
DIGESTS = {1: "sha256", 2: "xxh3_128"}

#: Every array begins at a multiple of this many bytes: a cache line.
ALIGN = 64

#: Most bytes of a header; safetensors' own limit.
LONGEST_HEADER = 100_000_000

#: Bytes that are written or read between two looks at Ctrl-C.
CHUNK = 2**24

#: Bytes that are hashed at once, by one thread. A part of the format: the digest of an array is that of its blocks'.
BLOCK = 2**26

#: What the file calls the number types that it may hold.
DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}

HEADER_DIGEST, PAD = "header_sha256", "pad."

#: What to do about a file that is damaged or makes no sense.
REPAIR = "Restore it from a copy, or build the tree and save it again."


#: Number type, shape and position of an array in the file.
Place: TypeAlias = tuple[np.dtype[Any], tuple[int, ...], int]


class Contents(NamedTuple):
    """What was read from a file.

    Attributes
    ----------
    document : dict
    arrays : dict of str to ndarray
        float64 and int64, of 1 or 2 dimensions; maps of the file, if it is mapped.
    version : int
        Of the format.
    status : os.stat_result
        Of the open file.
    """

    document: dict[str, Any]
    arrays: dict[str, AnyArray]
    version: int
    status: os.stat_result


def require(condition: object, what: str) -> None:
    """Unless the condition holds, raise a `FileFormatError` that says what is wrong, and what to do."""
    if not condition:
        raise FileFormatError(f"{what}. {REPAIR}")


def check_keys(document: object, what: str, *wanted: str) -> None:
    """Check that a part of a document is an object with just these keys."""
    good = isinstance(document, dict) and set(document) == set(wanted)
    require(good, f"{what} must be an object with the keys {', '.join(wanted)}")


def _bytes(array: AnyArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _chunks(view: memoryview) -> Iterator[memoryview]:
    return (view[start : start + CHUNK] for start in range(0, len(view), CHUNK))


def digests(arrays: dict[str, AnyArray], n_threads: int, version: int = VERSION) -> dict[str, str]:
    """The digest of each array, by name.

    That is the XXH3-128 of the XXH3-128s of its blocks, one after the other: blocks are hashed at the speed of memory,
    on threads, and Ctrl-C is heard between them. Version 1 had the SHA-256 of the whole array.

    Parameters
    ----------
    arrays : dict of str to ndarray
    n_threads : int
    version : int
        Of the format.

    Returns
    -------
    dict of str to str
        In hexadecimal.
    """
    if version == 1:
        cancel = np.zeros(1, dtype=np.int32)
        whole = parallel.run([partial(_sha256, array, cancel) for array in arrays.values()], n_threads, cancel)
        return dict(zip(arrays, whole, strict=True))
    blocks = [
        (name, _bytes(array)[start:stop])
        for name, array in arrays.items()
        for start, stop in parallel.spans(array.nbytes, BLOCK)
    ]
    found = parallel.run([partial(xxhash.xxh3_128_digest, block) for _, block in blocks], n_threads)
    hashes = {name: xxhash.xxh3_128() for name in arrays}
    for (name, _), digest in zip(blocks, found, strict=True):
        hashes[name].update(digest)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def _sha256(array: AnyArray, cancel: NDArray[np.int32]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(_bytes(array)):
        if cancel[0]:
            break
        digest.update(chunk)
    return digest.hexdigest()


def encode(document: dict[str, Any], arrays: dict[str, AnyArray], n_threads: int = 1) -> tuple[bytes, list[AnyArray]]:
    """The head of the file (length, JSON, digest of both), and what follows it: arrays, each padded to `ALIGN`."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {}
    body: list[AnyArray] = []
    at = pads = 0

    def put(name: str, array: AnyArray) -> None:
        nonlocal at, pads
        entries[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        body.append(array)
        at += array.nbytes
        if at % ALIGN:
            put(f"{PAD}{(pads := pads + 1)}", np.zeros(-at % ALIGN, dtype=np.uint8))

    put(HEADER_DIGEST, np.zeros(32, dtype=np.uint8))
    for name, array in arrays.items():
        put(name, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "writer": f"covertreex {__version__}",
        "description": json.dumps(document, allow_nan=False),
        DIGESTS[VERSION]: json.dumps(digests(arrays, n_threads)),
    }
    text = json.dumps({"__metadata__": metadata, **entries}).encode()
    text += b" " * (-(8 + len(text)) % ALIGN)
    head = len(text).to_bytes(8, "little") + text
    body[0] = np.frombuffer(hashlib.sha256(head).digest(), dtype=np.uint8)
    return head, body


def write(
    path: str | os.PathLike[str], document: dict[str, Any], arrays: dict[str, AnyArray], n_threads: int = 1
) -> None:
    """Write a document and arrays to a file; an older file is replaced in one step.

    Parameters
    ----------
    path : str or path-like
    document : dict
        JSON can hold it.
    arrays : dict of str to ndarray
        float64 and int64, of 1 or 2 dimensions, not empty.
    n_threads : int
        Has no influence on the file.

    Raises
    ------
    InvalidInputError
        If `path` is a directory.
    OSError
        If the file cannot be written.
    """
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        raise InvalidInputError(f"path must name a file, got the directory {path!r}. Add a file name.")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory to save to", folder)
    head, body = encode(document, arrays, n_threads)
    temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for view in (memoryview(head), *map(_bytes, body)):
                for chunk in _chunks(view):
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)  # the new name, too, survives a power cut
    finally:
        os.close(descriptor)


_MAGIC = {b"PK\x03\x04": "a zip file, perhaps of NumPy", b"\x93NUM": "a NumPy array", b"\x89HDF": "an HDF5 file"}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _parse(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"it is damaged: {what} is no JSON ({error}). {REPAIR}") from None
    require(isinstance(value, dict), f"it is damaged: {what} is no JSON object")
    return value


def _read_header(file: BufferedReader, size: int) -> tuple[dict[str, Any], dict[str, Any], int, dict[str, Place]]:
    """(document, digests, version, where) of an open file of `size` bytes, all of it checked against itself."""
    head = _read_head(file, size)
    header = _parse(head[8:], "its header")
    metadata = header.pop("__metadata__", {})
    version = _version(metadata)
    where = _read_entries(header, len(head), size)
    _check_digest_and_pads(file, head, where)
    kind = DIGESTS[version]
    for key in ("description", kind, "writer"):
        require(isinstance(metadata.get(key), str), f"it is damaged: the metadata lack {key}")
    require(all(dtype != DTYPES["U8"] for dtype, _, _ in where.values()), "it is damaged: an array holds bytes")
    stored = _parse(metadata[kind], "its list of checksums")
    require(stored.keys() == where.keys(), "it is damaged: arrays and checksums do not belong together")
    return _parse(metadata["description"], "its description"), stored, version, where


def _read_head(file: BufferedReader, size: int) -> bytes:
    """The bytes before the arrays: the header, and eight that say how long it is."""
    if size == 0:
        raise FileFormatError(f"it is empty. {REPAIR}")
    start = file.read(9)
    if start[8:] not in (b"{", b""):
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "something else")
        raise FileFormatError(f"it is no file of covertreex, but {kind}. Give a path that tree.save(path) wrote.")
    length = int.from_bytes(start[:8], "little")
    if length > LONGEST_HEADER:
        raise FileFormatError(
            f"it is no file of covertreex, or damaged: its header would have {length} bytes, at most {LONGEST_HEADER} "
            f"are allowed. {REPAIR}"
        )
    if size < 9 or size < 8 + length:
        raise FileFormatError(
            f"it is truncated: the file has {size} bytes, its header alone would have {8 + length}. {REPAIR}"
        )
    head = start + file.read(length - 1)
    require(len(head) == 8 + length, "it is truncated: it became shorter while it was read")
    return head


def _version(metadata: Any) -> int:
    """The version of the format; one that can be read."""
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FileFormatError(
            "it is a safetensors file, but not of covertreex (its metadata lack format: covertreex). Give a path that "
            "tree.save(path) wrote."
        )
    version = metadata.get("version")
    good = isinstance(version, str) and version.isascii() and version.isdecimal() and 0 < len(version) <= 6
    require(good and int(version) >= 1, f"it is damaged: its version is {version!r}")
    if int(version) > VERSION:
        raise FileFormatError(
            f"it has version {version} of the format, written by {metadata.get('writer')!r}; this covertreex reads "
            f"versions up to {VERSION}. Upgrade covertreex."
        )
    return int(version)


def _check_digest_and_pads(file: BufferedReader, head: bytes, where: dict[str, Place]) -> None:
    """Check the header's own digest, and that padding is of zeros; take both out of `where`."""
    require(where.get(HEADER_DIGEST, (None,))[0] == DTYPES["U8"], f"it is damaged: {HEADER_DIGEST} is missing")
    _, shape, begin = where.pop(HEADER_DIGEST)
    file.seek(begin)
    stored, wanted = file.read(32), hashlib.sha256(head).digest()
    require(shape == (32,) and stored == wanted, "it is damaged: its header does not match the header's checksum")
    for name in [name for name in where if name.startswith(PAD)]:
        dtype, shape, begin = where.pop(name)
        file.seek(begin)
        blank = len(shape) == 1 and shape[0] < ALIGN and file.read(shape[0]) == bytes(shape[0])
        require(blank and dtype == DTYPES["U8"], f"it is damaged: {name} is not padding of zeros")


def _read_entries(header: dict[str, Any], start: int, size: int) -> dict[str, Place]:
    """{name: (dtype, shape, position)}; the arrays fill the file from `start` to `size`, in order and without a gap."""
    for name, entry in header.items():
        check_keys(entry, f"it is damaged: the entry {name!r}", "dtype", "shape", "data_offsets")
        kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(
            isinstance(numbers, list) and all(type(i) is int and low <= i <= 2**62 for i in numbers)
            for numbers, low in ((shape, 1), (offsets, 0))
        )
        known = isinstance(kind, str) and kind in DTYPES
        good = whole and known and 1 <= len(shape) <= 2 and len(offsets) == 2
        require(good, f"it is damaged: the entry {name!r} makes no sense")
    at = 0
    where: dict[str, Place] = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype = DTYPES[entry["dtype"]]
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        fits = begin == at and end - begin == math.prod(shape) * dtype.itemsize
        require(fits, f"it is damaged: the array {name!r} is not where it must be")
        aligned = name.startswith(PAD) or (start + begin) % ALIGN == 0
        require(aligned, f"it is damaged: the array {name!r} does not begin at a multiple of {ALIGN} bytes")
        where[name], at = (dtype, shape, start + begin), end
    if size < start + at:
        raise FileFormatError(f"it is truncated: it has {size} of {start + at} bytes. {REPAIR}")
    require(size == start + at, f"it is damaged: {size - start - at} bytes follow its last array")
    return where


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would be waited for


def _view(memory: AnyArray, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int) -> AnyArray:
    part = memory[begin : begin + math.prod(shape) * dtype.itemsize]
    return np.asarray(part).view(dtype).reshape(shape)


def _read(file: BufferedReader, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int) -> AnyArray:
    array = empty_factors(math.prod(shape), 1).reshape(shape).view(dtype)
    view = _bytes(array)
    file.seek(begin)
    while view:
        got = file.readinto(view[:CHUNK])
        require(got, "it is truncated: it became shorter while it was read")
        view = view[got:]
    return array


def read(path: str, *, mmap: bool = True, verify: bool = True, n_threads: int = 1) -> Contents:
    """Read a file that `write` wrote. Its header, and where arrays are, is always checked.

    Parameters
    ----------
    path : str
    mmap : bool
        Whether arrays are maps of the file, or copies in memory.
    verify : bool
        Whether to compare arrays with their digests.
    n_threads : int

    Returns
    -------
    Contents

    Raises
    ------
    FileFormatError
        If the file is damaged, truncated, of another format, or of a later version.
    OSError
        If it cannot be opened.
    """
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        require(stat.S_ISREG(status.st_mode), "it is no regular file")
        document, stored, version, where = _read_header(file, status.st_size)
        if mmap and sys.byteorder == "little":
            memory = np.memmap(file, dtype=np.uint8, mode="r", shape=(status.st_size,))
            arrays = {name: _view(memory, *place) for name, place in where.items()}
        else:
            arrays = {name: _read(file, *place) for name, place in where.items()}
    if verify:
        for name, digest in digests(arrays, n_threads, version).items():
            require(digest == stored[name], f"it is damaged: the array {name!r} does not match its checksum")
    arrays = {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}
    return Contents(document, arrays, version, status)
