"""People's files: reading points, with every rejected row counted by reason, and writing neighbours."""

import csv
import gzip
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from covertreex.base.progress import Progress
from covertreex.base.types import FloatArray, IntArray
from covertreex.base.validation import LARGEST_COORDINATE, LARGEST_INTEGER, as_float64
from covertreex.errors import InvalidInputError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
ARROW_SUFFIXES = (".parquet", ".feather", ".arrow")
INPUT_SUFFIXES = (*TEXT_SUFFIXES, ".npy", ".npz", *ARROW_SUFFIXES)
OUTPUT_SUFFIXES = (".npz", ".csv", ".parquet", ".feather")

Item = TypeVar("Item")

#: Cells that stand for a value that is not there, in lower case.
MISSING_WORDS = frozenset({"", "na", "n/a", "null", "none", "-"})

#: Names of columns that have none; pandas makes up the second when it reads a file with the first.
_UNNAMED = re.compile(r"|Unnamed: [0-9]+")

#: Lines that are comments; a spreadsheet's word for a missing value or a mistake is none.
_COMMENT = re.compile(r"\s*#(?!(N/A|NA|NULL!|DIV/0!|VALUE!|REF!|NAME\?|NUM!))")

#: A number with a decimal comma.
_COMMA = re.compile(r"\s*[+-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?\s*")

#: Names under which pandas keeps an index in a table.
_PANDAS_INDEX = re.compile(r"__index_level_[0-9]+__")

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
        What a text file's first row was taken for, and what else was found in it, for people to read.
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
    """Read points from a file.

    Parameters
    ----------
    path : str or Path
        Text (``.csv``, ``.tsv``, ``.txt``, and these with ``.gz``; commas, semicolons or tabs; UTF-8; with or without a
        header), an array (``.npy``, ``.npz``), or a table (``.parquet``, ``.feather``, ``.arrow``; needs pyarrow).
        Empty lines and lines that begin with ``#`` are no rows. Beside semicolons and tabs numbers may have decimal
        commas.
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
        If the file cannot be read, a column is not there or there twice, it is not clear whether the first row is a
        header, float64 cannot hold an integer, or no row can be used.
    """
    path = Path(path)
    suffix = _suffix(path)
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
    elif suffix in ARROW_SUFFIXES:
        values, reason, cell, names = _read_arrow(path, wanted)
    else:
        raise InvalidInputError(
            f"{path} must end in one of {', '.join(INPUT_SUFFIXES)}, text also in .gz after that; convert it to CSV."
        )
    if not names:
        raise InvalidInputError(f"{path} has no columns.")
    lonlat = lonlat or latitude is not None
    if lonlat and len(names) < 2:
        raise InvalidInputError(f"with lonlat, {path} needs two columns, longitude and latitude; it has one.")
    return replace(_accepted(path, values, reason, cell, names, on_sphere=lonlat), **said)


def _suffix(path: Path) -> str:
    """The ending that says what is in a file, without .gz where the rest is text."""
    inner = Path(path.stem).suffix.lower()
    return inner if path.suffix.lower() == ".gz" and inner in TEXT_SUFFIXES else path.suffix.lower()


def stem(path: str | Path) -> str:
    """The name of a file of points without what says what is in it.

    Examples
    --------
    >>> stem("data/cities.csv.gz"), stem("v1.2.npy")
    ('cities', 'v1.2')
    """
    name = Path(path).name
    return (
        name[: -len(".gz")].rpartition(".")[0] if _suffix(Path(path)) != Path(path).suffix.lower() else Path(path).stem
    )


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
    left_out: list[str] = []
    try:
        # Names in an old encoding must not stand in the way of numbers, which are ASCII in all of them.
        text: dict[str, Any] = {"newline": "", "encoding": "utf-8-sig", "errors": "replace"}
        with gzip.open(path, "rt", **text) if path.suffix.lower() == ".gz" else open(path, **text) as file:
            total = 0 if path.suffix.lower() == ".gz" else os.path.getsize(path)
            physical = _without_comments(_told(f"reading {path.name}", iter(file.readline, ""), total), left_out)
            first = next((line for line in physical if line.strip(" \t\r\n")), None)
            if first is None:
                raise InvalidInputError(f"{path} is empty." if not left_out else f"{path} has nothing but comments.")
            delimiter = _delimiter(first, _suffix(path))
            lines: Any = csv.reader(_chain(first, physical), delimiter=delimiter)
            names = [
                name.strip() for name in next(line for line in lines if any(map(str.strip, line)) or len(line) > 1)
            ]
            commas: dict[str, str] | None = None if delimiter == "," else {}
            numbers = all(
                _is_number(name) or name.lower() in MISSING_WORDS or (commas is not None and _COMMA.fullmatch(name))
                for name in names
            )
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
                _check_twice(path, [name for name in names if not _UNNAMED.fullmatch(name)])
                at = [column for column in range(len(names)) if column not in nameless]
            else:
                at = _columns(path, names, wanted)
            firsts: list[str] | None = [] if 0 in nameless else None
            values, reasons, cells = _parse(path, rows, at, names, firsts, commas)
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
            if commas and "," in commas:
                said["header"] += "; numbers have decimal commas"
            if left_out:
                said["header"] += f"; {len(left_out)} comment lines are no rows (the last: {_short(left_out[-1])!r})"
            return values, reasons, cells, [names[column] for column in at], said
    except (OSError, EOFError, zlib.error) as error:  # the second and third are gzip's
        raise InvalidInputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None
    except csv.Error as error:
        raise InvalidInputError(f"{path} is not a CSV file, line {lines.line_num}: {error}.") from None


def _told(label: str, lines: Iterable[str], total: int) -> Iterator[str]:
    """Lines as they are, with a progress bar where it is known how many characters there are, about `total`."""
    with Progress(label, total) as progress:
        size = 0
        for line in lines:
            size += len(line)
            if size > 2**20 and total:
                progress.advance(size)
                size = 0
            yield line


def _without_comments(lines: Iterable[str], left_out: list[str]) -> Iterator[str]:
    """Lines but for comments, which go to `left_out`."""
    for line in lines:
        if _COMMENT.match(line):
            left_out.append(line.strip())
        else:
            yield line


def _delimiter(first: str, suffix: str) -> str:
    """What stands between the cells of a text file with this first line."""
    if suffix == ".tsv" and "\t" in first:
        return "\t"
    for mark in ";\t":
        cells = first.split(mark)
        if (
            len(cells) > 1
            and any(map(_COMMA.fullmatch, cells))
            and all(_COMMA.fullmatch(c) or "," not in c for c in cells)
        ):
            return mark
    return max(",;\t", key=first.count)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _check_twice(path: Path, names: list[str]) -> None:
    """Refuse columns of one name, of which it is not clear that both are coordinates."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInputError(
            f"{path} has {names.count(twice[0])} columns called {twice[0]!r}. Rename one of them in its first "
            "row; or, if neither is a coordinate, name the columns that are with --columns (columns=[...])."
        )


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


def _chain(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


def _parse(
    path: Path,
    lines: Iterable[list[str]],
    at: list[int],
    names: list[str],
    firsts: list[str] | None,
    commas: dict[str, str] | None,
) -> tuple[FloatArray, IntArray, dict[str, tuple[int, str]]]:
    """Values, reason codes, and the first cell at fault by reason; the first cell of each row goes to `firsts`, and the
    first numbers with a comma and with a point to `commas`, unless it is None and numbers have points."""
    values: list[list[float]] = []
    reasons: list[int] = []
    cells: dict[str, tuple[int, str]] = {}
    width = len(names)
    for line in lines:
        if not line and width > 1:
            continue
        if firsts is not None:
            firsts.append(line[0].strip())
        if commas is not None:
            line = _with_points(line, at, commas)
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
    if commas and len(commas) == 2:
        raise InvalidInputError(
            f"{path} has numbers with a decimal point, such as {commas['.']!r}, and with a comma, such as "
            f"{commas[',']!r}, which may stand between thousands. Write all in one way."
        )
    array = np.array(values, dtype=np.float64).reshape(len(values), len(at))
    return array, np.array(reasons, dtype=np.int64), cells


def _with_points(line: list[str], at: list[int], seen: dict[str, str]) -> list[str]:
    """A line with points for decimal commas in the columns `at`; the first of either kind goes to `seen`."""
    changed = line
    for column in at:
        cell = line[column] if column < len(line) else ""
        if "." in cell and _is_number(cell):
            seen.setdefault(".", cell)
        elif "," in cell and _COMMA.fullmatch(cell):
            seen.setdefault(",", cell)
            changed = list(changed)
            changed[column] = cell.replace(",", ".")
    return changed


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
            return NOT_A_NUMBER, f"{names[column]} = {_short(text)!r}"
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


def _read_arrow(
    path: Path, wanted: Sequence[str] | None
) -> tuple[FloatArray, IntArray, dict[str, tuple[int, str]], list[str]]:
    """Values, reason codes, first cell at fault by reason, and names of the columns used."""
    pyarrow = _pyarrow(path)
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet

            table = parquet.ParquetFile(path).read()  # this file, whatever its name or folder say of partitions
        else:
            import pyarrow.feather as feather

            table = feather.read_table(path)
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}.") from None
    except pyarrow.ArrowException as error:
        raise InvalidInputError(f"{path} is not a readable {path.suffix[1:]} file: {error}") from None
    names = [name for name in table.column_names if wanted is not None or not _PANDAS_INDEX.fullmatch(name)]
    if wanted is None:
        _check_twice(path, names)
    at = _columns(path, names, wanted)
    columns, reason = [], np.zeros(table.num_rows, dtype=np.int64)
    cells: dict[str, tuple[int, str]] = {}
    for name in (names[column] for column in at):
        column = table.column(name)
        if not (pyarrow.types.is_floating(column.type) or pyarrow.types.is_integer(column.type)
                or pyarrow.types.is_boolean(column.type)):  # fmt: skip
            raise InvalidInputError(
                f"column {name!r} of {path} holds {column.type}, no real numbers; name the columns that hold the "
                f"coordinates, out of: {', '.join(names)}."
            )
        missing = np.asarray(column.is_null())
        if missing.any():
            row = int(np.argmax(missing))
            if MISSING not in cells or row < cells[MISSING][0]:
                cells[MISSING] = row, f"{name} is null"
            reason[missing] = _REASONS.index(MISSING)
            column = column.fill_null(False if pyarrow.types.is_boolean(column.type) else 0)
        columns.append(as_float64(np.asarray(column), str(path), name))
    values = np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
    return values, reason, cells, [names[column] for column in at]


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise InvalidInputError(
            f"{path} needs pyarrow, the extra arrow: python -m pip install pyarrow; or take a CSV file."
        ) from None
    return pyarrow


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
    """Write neighbours as ``.npz`` (arrays of these names) or as a table, one line per row: CSV, parquet or feather.

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
    names = ["row", "position", *(f"{what}_{i + 1}" for what in ("neighbor", "distance") for i in range(k))]
    if path.suffix.lower() in ARROW_SUFFIXES:
        table = _pyarrow(path).table(dict(zip(names, [rows, position, *indices.T, *distances.T], strict=True)))
        with replacing(path, "wb") as file:
            if path.suffix.lower() == ".parquet":
                import pyarrow.parquet as parquet

                parquet.write_table(table, file)
            else:
                import pyarrow.feather as feather

                feather.write_feather(table, file)
        return
    with replacing(path) as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(names)
        for row, place, found, distance in zip(rows, position, indices, distances, strict=True):
            lines.writerow([row, place, *found.tolist(), *distance.tolist()])
