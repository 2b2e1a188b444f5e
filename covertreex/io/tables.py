"""People's files: reading points, with every rejected row counted by reason, and writing neighbours."""

import csv
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import LARGEST_COORDINATE, LARGEST_INTEGER, as_float64
from covertreex.errors import InvalidInputError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
INPUT_SUFFIXES = (*TEXT_SUFFIXES, ".npy", ".npz")
OUTPUT_SUFFIXES = (".npz", ".csv")

#: Cells that stand for a value that is not there, in lower case.
MISSING_WORDS = frozenset({"", "na", "n/a", "null", "none", "-"})

#: Names of columns that have none; pandas makes up the second when it reads a file with the first.
_UNNAMED = re.compile(r"|Unnamed: [0-9]+")

#: Reasons for rejecting a row, in the order in which they are looked for.
MISSING, NOT_A_NUMBER, TOO_MANY, NAN, INFINITE, TOO_LARGE, BAD_LATITUDE, BAD_LONGITUDE = (
    "missing value",
    "not a number",
    "more cells than columns",
    "NaN",
    "infinite",
    f"beyond {LARGEST_COORDINATE:g}",
    "latitude outside -90 to 90",
    "longitude outside -180 to 360",
)


@dataclass(frozen=True)
class Rejection:
    """Rows that were rejected for one reason: how many, and the first of them with the cell at fault."""

    reason: str
    count: int
    first_row: int
    example: str


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points read from a file.

    Attributes
    ----------
    X : ndarray, shape (n, d), float64
        The accepted rows.
    rows : ndarray, shape (n,), int64
        Their row numbers in the file, counted from 0, a CSV file's header not counted.
    read : int
        Rows in the file.
    rejections : tuple of Rejection
    columns : tuple of str
        The columns that were used.
    header : str
        What a text file's first row was taken for, for people to read.
    index : str
        Which column was left out as row numbers, for people to read; mostly empty.
    """

    X: FloatArray
    rows: IntArray
    read: int
    rejections: tuple[Rejection, ...]
    columns: tuple[str, ...]
    header: str = ""
    index: str = ""

    @property
    def rejected(self) -> int:
        """int: rows rejected, for whatever reason."""
        return self.read - len(self.rows)


def read_points(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    latitude: str | None = None,
    longitude: str | None = None,
    lonlat: bool = False,
    array: str | None = None,
    header: bool | None = None,
) -> PointTable:
    """Read points from a CSV, ``.npy`` or ``.npz`` file.

    Parameters
    ----------
    path : str or Path
        Text (``.csv``, ``.tsv``, ``.txt``; commas, semicolons or tabs; UTF-8; with or without a header), or an array.
    columns : sequence of str, optional
        Columns to use, by name, or counted from 0 where there are no names; all by default.
    latitude, longitude : str, optional
        Two columns in degrees instead of `columns`; the points are longitude and latitude, in this order.
    lonlat : bool
        Whether the first two columns are longitude and latitude in degrees.
    array : str, optional
        Which array of an ``.npz`` file; needed if there are several.
    header : bool, optional
        Whether the first row of a text file names the columns. By default it does unless all its cells are numbers; if
        these could be names all the same, the file is refused. Where there is a header, a first column without a name
        that counts the rows, as pandas and R write it, is left out.

    Returns
    -------
    PointTable

    Raises
    ------
    InvalidInputError
        If the file cannot be read, a column is not there, it is not clear whether the first row is a header, float64
        cannot hold an integer, or no row can be used.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if (latitude is None) != (longitude is None):
        raise InvalidInputError("latitude and longitude go together; give both or neither.")
    if latitude is not None and columns is not None:
        raise InvalidInputError("give either columns, or latitude and longitude, not both.")
    if array is not None and suffix != ".npz":
        raise InvalidInputError(f"an array can be named in an .npz file only, not in {path}.")
    if header is not None and suffix not in TEXT_SUFFIXES:
        raise InvalidInputError(f"only a text file ({', '.join(TEXT_SUFFIXES)}) may have a header, and {path} is none.")
    wanted = columns if latitude is None or longitude is None else (longitude, latitude)
    said: dict[str, Any] = {}
    if suffix in TEXT_SUFFIXES:
        values, reason, cell, names, said = _read_text(path, wanted, header)
    elif suffix in (".npy", ".npz"):
        values, names = _read_array(path, wanted, array)
        reason, cell = np.zeros(len(values), dtype=np.int64), {}
    else:
        raise InvalidInputError(f"{path} must end in one of {', '.join(INPUT_SUFFIXES)}; convert it to CSV.")
    lonlat = lonlat or latitude is not None
    if lonlat and len(names) < 2:
        raise InvalidInputError(f"with lonlat, {path} needs two columns, longitude and latitude; it has one.")
    return replace(_accepted(path, values, reason, cell, names, on_sphere=lonlat), **said)


_REASONS = ("", MISSING, NOT_A_NUMBER, TOO_MANY, NAN, INFINITE, TOO_LARGE, BAD_LATITUDE, BAD_LONGITUDE)


def unit_vectors(latitude: ArrayLike, longitude: ArrayLike) -> FloatArray:
    """Points on the unit sphere; distances between them are in Earth radii (6,371 km).

    Parameters
    ----------
    latitude, longitude : array_like, shape (n,)
        Degrees.

    Returns
    -------
    ndarray, shape (n, 3), float64

    Examples
    --------
    >>> unit_vectors([0.0], [0.0]).tolist()
    [[1.0, 0.0, 0.0]]
    """
    latitude, longitude = np.radians(latitude), np.radians(longitude)
    across = np.cos(latitude)
    return np.column_stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)])


def _accepted(
    path: Path,
    values: FloatArray,
    reason: IntArray,
    cell: dict[str, tuple[int, str]],
    names: list[str],
    on_sphere: bool,
) -> PointTable:
    """The table of rows that have no `reason` (an index into `_REASONS`) and get none here."""
    tests = [(NAN, np.isnan(values)), (INFINITE, np.isinf(values)), (TOO_LARGE, np.abs(values) > LARGEST_COORDINATE)]
    if on_sphere:
        outside = np.zeros(values.shape, dtype=bool)
        outside[:, 1] = np.abs(values[:, 1]) > 90.0
        tests.append((BAD_LATITUDE, outside))
        outside = np.zeros(values.shape, dtype=bool)
        outside[:, 0] = (values[:, 0] < -180.0) | (values[:, 0] > 360.0)
        tests.append((BAD_LONGITUDE, outside))
    for name, bad in tests:
        for row in np.flatnonzero(bad.any(axis=1) & (reason == 0)):
            reason[row] = _REASONS.index(name)
            column = int(np.argmax(bad[row]))
            cell.setdefault(name, (int(row), f"{names[column]} = {values[row, column]:.10g}"))

    counts = np.bincount(reason, minlength=len(_REASONS))
    rejections = tuple(
        Rejection(name, int(counts[code]), *cell[name]) for code, name in enumerate(_REASONS) if code and counts[code]
    )
    rows = np.flatnonzero(reason == 0)
    if not len(rows):
        why = "; ".join(f"{r.reason}: {r.count:,} (first row {r.first_row}, {r.example})" for r in rejections)
        raise InvalidInputError(
            f"none of the {len(values):,} rows of {path} can be used"
            + (f". {why}. Name the columns that hold the coordinates." if why else ": it holds no data.")
        )
    return PointTable(np.ascontiguousarray(values[rows]), rows, len(values), rejections, tuple(names))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(
    path: Path, wanted: Sequence[str] | None, header: bool | None
) -> tuple[FloatArray, IntArray, dict[str, tuple[int, str]], list[str], dict[str, str]]:
    """Values, reason codes, first cell at fault by reason, names of the columns used, and what to say of the header."""
    try:
        # Names in an old encoding must not stand in the way of numbers, which are ASCII in all of them.
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in iter(file.readline, "") if line.strip()), None)
            if first is None:
                raise InvalidInputError(f"{path} is empty.")
            tab = path.suffix.lower() == ".tsv" and "\t" in first
            file.seek(0)
            lines: Any = csv.reader(file, delimiter="\t" if tab else max(",;\t", key=first.count))
            names = [
                name.strip() for name in next(line for line in lines if any(map(str.strip, line)) or len(line) > 1)
            ]
            numbers = all(_is_number(name) or name.lower() in MISSING_WORDS for name in names)
            unnamed = header is not False and len(names) > 1 and _UNNAMED.fullmatch(names[0]) is not None
            unclear = header is None and numbers and _could_be_names(names[unnamed:])
            if unclear and not unnamed:
                raise InvalidInputError(_unclear(path, names))
            has_header = (unclear or not numbers) if header is None else header
            nameless = [column for column, name in enumerate(names) if has_header and _UNNAMED.fullmatch(name)]
            if has_header:
                rows, said = lines, {"header": "the first row, which names the columns"}
            else:
                rows, said = _chain(names, lines), {"header": "none, the first row is a point"}
                names = [str(column) for column in range(len(names))]
            if wanted is None:
                at = [column for column in range(len(names)) if column not in nameless]
            else:
                at = _columns(path, names, wanted)
            firsts: list[str] | None = [] if 0 in nameless else None
            values, reasons, cells = _parse(path, rows, at, names, firsts)
            counts = firsts is not None and _count_rows(firsts)
            if unclear and not counts:
                raise InvalidInputError(_unclear(path, names))
            if wanted is None and nameless:
                if nameless != [0] or not counts or not at:
                    # Most likely row numbers that another program put there, and no coordinate.
                    raise InvalidInputError(
                        f"column {nameless[0]} of {path} has no name; name the columns that hold the coordinates, "
                        f"out of: {', '.join(filter(None, names))}."
                    )
                said["index"] = "the first column, which has no name and counts the rows"
            return values, reasons, cells, [names[column] for column in at], said
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}.") from None
    except csv.Error as error:
        raise InvalidInputError(f"{path} is not a CSV file, line {lines.line_num}: {error}.") from None


def _unclear(path: Path, names: list[str]) -> str:
    shown = ",".join(names[:6]) + ",..." * (len(names) > 6)
    return (
        f"the first row of {path}, {shown}, may be a point or the names of the columns. Say which: --no-header "
        "(header=False) for a point, --header (header=True) for names; and name the coordinates with --columns "
        "(columns=[...]) if a column is none."
    )


def _could_be_names(cells: list[str]) -> bool:
    """Whether a row of numbers may be a header, such as pandas makes of columns without names, or of years."""
    if not all(re.fullmatch(r"[0-9]+", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers == [0] or (len(numbers) > 1 and all(np.diff(numbers) > 0))


def _count_rows(cells: list[str]) -> bool:
    """Whether these count from 0 or 1, as the row numbers that pandas and R write."""
    return len(cells) > 0 and any(cells == [str(i + start) for i in range(len(cells))] for start in (0, 1))


def _chain(first: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _parse(
    path: Path, lines: Iterable[list[str]], at: list[int], names: list[str], firsts: list[str] | None
) -> tuple[FloatArray, IntArray, dict[str, tuple[int, str]]]:
    """Values, reason codes, and the first cell at fault by reason; the first cell of each row goes to `firsts`."""
    values: list[list[float]] = []
    reasons: list[int] = []
    cells: dict[str, tuple[int, str]] = {}
    width = len(names)
    for line in lines:
        if not line and width > 1:
            continue
        if firsts is not None:
            firsts.append(line[0].strip())
        try:
            if _has_more(line, width):
                raise ValueError
            numbers = [float(line[column]) for column in at]
            if any("_" in line[column] for column in at):
                raise ValueError
            if max(map(abs, numbers), default=0.0) >= LARGEST_INTEGER:
                _check_integers(path, len(values), line, at, names)
            reasons.append(0)
        except (ValueError, IndexError) as error:
            if isinstance(error, InvalidInputError):
                raise
            name, example = _fault(line, at, names)
            cells.setdefault(name, (len(values), example))
            reasons.append(_REASONS.index(name))
            numbers = [0.0] * len(at)
        values.append(numbers)
    array = np.array(values, dtype=np.float64).reshape(len(values), len(at))
    return array, np.array(reasons, dtype=np.int64), cells


def _check_integers(path: Path, row: int, line: list[str], at: list[int], names: list[str]) -> None:
    for column in at:
        text = line[column].strip()
        if re.fullmatch(r"[+-]?[0-9]{1,300}", text) and int(float(text)) != int(text):
            raise InvalidInputError(
                f"{path} has an integer beyond 2**53 that float64, which is used here, would round: {text} at row "
                f"{row}, column {names[column]!r}. Subtract an offset, such as the smallest, or take a larger unit, "
                "such as seconds for nanoseconds."
            )


def _has_more(line: list[str], width: int) -> bool:
    """Whether a line has more cells than columns; empty ones, after a trailing comma, do not count."""
    return len(line) > width and any(map(str.strip, line[width:]))


def _fault(line: list[str], at: list[int], names: list[str]) -> tuple[str, str]:
    """Why a line cannot be used, and the cell that shows it."""
    if _has_more(line, len(names)):
        return TOO_MANY, f"{len(line)} cells"
    for column in at:
        text = line[column].strip() if column < len(line) else ""
        if text.lower() in MISSING_WORDS:
            return MISSING, f"{names[column]} is {text!r}"
        if "_" in text or not _is_number(text):
            shown = text if len(text) <= 40 else text[:37] + "..."
            return NOT_A_NUMBER, f"{names[column]} = {shown!r}"
    raise AssertionError("every cell is a number")


def _columns(path: Path, names: list[str], wanted: Sequence[str] | None) -> list[int]:
    """Positions of the `wanted` columns among `names`."""
    if wanted is None:
        return list(range(len(names)))
    positions = []
    for name in wanted:
        if names.count(name) != 1:
            trouble = "has no column" if name not in names else "has more than one column"
            listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise InvalidInputError(f"{path} {trouble} {name!r}; its columns are: {listed}.")
        positions.append(names.index(name))
    if len(set(positions)) != len(positions):
        raise InvalidInputError(f"a column is named twice: {', '.join(wanted)}.")
    return positions


def _read_array(path: Path, wanted: Sequence[str] | None, array: str | None) -> tuple[FloatArray, list[str]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                values = loaded[_array_name(path, loaded.files, array)]
        else:
            values = loaded
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path} is not a readable NumPy file of numbers: {error}") from None
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        raise InvalidInputError(
            f"{path} must hold an array of real numbers, shape (n, d), got {values.dtype} of shape {values.shape}."
        )
    values = values.reshape(len(values), -1) if values.size else values.reshape(0, 1)
    names = [str(column) for column in range(values.shape[1])]
    at = _columns(path, names, wanted)
    return as_float64(values[:, at], str(path)), [names[column] for column in at]


def _array_name(path: Path, files: list[str], array: str | None) -> str:
    if array is None and len(files) == 1:
        return files[0]
    if array in files:
        return array
    trouble = "holds several arrays; name one" if array is None else f"has no array {array!r}"
    raise InvalidInputError(f"{path} {trouble}; its arrays are: {', '.join(files) or 'none'}.")


def check_output(path: str | Path, suffixes: Sequence[str] | None = None) -> Path:
    """`path` as a Path that can be written, found out before hours of work.

    Parameters
    ----------
    path : str or Path
    suffixes : sequence of str, optional
        Allowed endings; any by default.

    Returns
    -------
    Path

    Raises
    ------
    InvalidInputError
        If its ending is not allowed, or its folder is missing or not writable.
    """
    path = Path(path)
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise InvalidInputError(f"output must end in {' or '.join(suffixes)}, got {path}.")
    if path.is_dir():
        raise InvalidInputError(f"cannot write {path}: it is a folder; name a file.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"cannot write {path}: there is no folder {path.parent}; make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInputError(f"cannot write {path}: permission denied.")
    return path


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write that takes the place of `path` when all of it is written, and leaves no trace otherwise.

    Raises
    ------
    InvalidInputError
        If it cannot be written.
    """
    path = Path(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    # A device or a pipe is written to, never replaced.
    special = path.exists() and not path.is_file()
    part = path if special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, mode, **text) as file:
            yield file
        if not special:
            os.replace(part, path)
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror or error}.") from None
    finally:
        if not special:
            part.unlink(missing_ok=True)


def write_neighbors(
    path: str | Path, rows: IntArray, position: IntArray | None, indices: IntArray, distances: FloatArray
) -> None:
    """Write neighbours as ``.npz`` (arrays of these names) or as CSV (one line per row).

    Parameters
    ----------
    path : str or Path
    rows : ndarray, shape (n,), int64
        Row number in the file of each line.
    position : ndarray, shape (n,), int64
        Its place in the order that decides who is a predecessor.
    indices : ndarray, shape (n, k), int64
        Row numbers of the neighbours; -1 past the last.
    distances : ndarray, shape (n, k), float64
        inf past the last.

    Raises
    ------
    InvalidInputError
        If `path` cannot be written.
    """
    path = check_output(path, OUTPUT_SUFFIXES)
    if path.suffix.lower() == ".npz":
        with replacing(path, "wb") as file:
            np.savez(file, rows=rows, position=position, indices=indices, distances=distances)
        return
    k = indices.shape[1]
    with replacing(path) as file:
        lines = csv.writer(file, lineterminator="\n")
        header = ["row", "position"]
        lines.writerow(header + [f"neighbor_{i + 1}" for i in range(k)] + [f"distance_{i + 1}" for i in range(k)])
        for row, place, found, distance in zip(rows, position, indices, distances, strict=True):
            lines.writerow([row, place, *found.tolist(), *distance.tolist()])
