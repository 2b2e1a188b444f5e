"""``covertreex neighbors`` of a Zarr array or Parquet files: read and answered in parts, which fit into memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covertreex.base.limits import available_memory
from covertreex.cli import display
from covertreex.errors import InvalidInputError
from covertreex.settings import TraversalSettings

#: What is read in parts, and written so.
SUFFIXES = (".zarr", ".parquet")


#: A Parquet file of up to this share of the available memory is read at once; its columns are packed.
SHARE = 0.05


def wanted(file: Path) -> bool:
    """Whether a file is read in parts unless people say otherwise."""
    if file.suffix != ".parquet" or not file.exists():
        return file.suffix == ".zarr"
    return file.is_dir() or file.stat().st_size > SHARE * available_memory()


@dataclass(frozen=True, eq=False)
class Parts:
    """Points that stay where they are.

    Attributes
    ----------
    X : dask.array.Array or dask.dataframe.DataFrame
    columns : list of str
    """

    X: Any
    columns: list[str]

    def __len__(self) -> int:
        return len(self.X)

    def spreads(self) -> list[float]:
        """The standard deviation of each column."""
        spreads: list[float] = np.asarray(self.X.std(axis=0)).tolist()
        return spreads


def read(file: Path, columns: list[str] | None, **others: object) -> Parts:
    """Open points; nothing is read but how many there are and what columns are called.

    Raises
    ------
    InvalidInputError
        If there is nothing, it is no table of points, or options of other files are given.
    """
    _need_dask()
    import dask.array as da
    import dask.dataframe as dd

    beside = [name for name, value in others.items() if value is not None]
    if beside:
        raise InvalidInputError(f"--{beside[0]} has no meaning for {file.suffix}; choose columns by --columns.")
    if not file.exists():
        raise InvalidInputError(f"{file} is not there.")
    try:
        table = dd.read_parquet(file) if file.suffix == ".parquet" else da.from_zarr(str(file))
    except Exception as error:  # whatever the readers of either kind raise
        raise InvalidInputError(f"{file} cannot be read: {error}") from error
    if table.ndim != 2:
        raise InvalidInputError(f"{file} must hold an array of shape (n, d), got shape {table.shape}.")
    names = [str(name) for name in (table.columns if file.suffix == ".parquet" else range(table.shape[1]))]
    chosen = names if columns is None else columns
    missing = [name for name in chosen if name not in names]
    if missing:
        raise InvalidInputError(f"--columns has {missing[0]!r}, but {file} has {', '.join(names)}.")
    if chosen != names:
        table = table[chosen] if file.suffix == ".parquet" else table[:, [names.index(name) for name in chosen]]
    return Parts(table, chosen)


def search(
    parts: Parts,
    k: int,
    metric: dict[str, Any],
    order: Any,
    output: Path,
    steps: display.Steps,
    *,
    predecessors: bool,
    max_per_site: int | None,
    settings: TraversalSettings,
    backend: str | None,
    threads: int | None,
    audit: int,
) -> list[tuple[str, object]]:
    """Say what will be done, do it, and return what there is to tell of it."""
    import dask
    from dask.diagnostics.progress import ProgressBar

    import covertreex.dask as cxd

    with dask.config.set({} if threads is None else {"num_workers": threads}):
        with steps.timed("planning", f"planning a search of {len(parts):,} points in parts"):
            result = cxd.search(
                parts.X, k, **metric, predecessor_mode=predecessors, order=order, max_per_site=max_per_site,
                settings=settings, backend=backend, audit=audit,
            )  # fmt: skip
        for line in str(result.plan).splitlines():
            steps(f"  {line}")
        write = result.to_zarr if output.suffix == ".zarr" else result.to_parquet
        with steps.timed("search", f"searching {k} neighbours of each, and writing {output}"), ProgressBar(minimum=2.0):
            write(output)
        found: list[tuple[str, object]] = [("rows", f"{len(parts):,}"), ("columns", ", ".join(parts.columns))]
        found.append(("partitions", len(result.plan.partition)))
        if audit:
            with steps.timed("audit", f"checking {min(audit, len(parts)):,} points against all parts"):
                recall, (low, high) = result.recall_of(*_written(output, k))
            interval = f"95 % interval {display.share(low)} to {display.share(high)}"
            checked = f"{min(audit, len(parts)):,} points against exact searches of all parts"
            found.append(("recall", f"{display.share(recall)} of {checked} ({interval})"))
    found.append(("seconds", ", ".join(f"{name} {display.duration(took)}" for name, took in steps.took.items())))
    found.append(("written", f"{output}: indices and distances ({len(parts):,} x {k})"))
    return found


def _written(output: Path, k: int) -> list[Any]:
    """Indices and distances that were written, as Dask arrays."""
    import dask.array as da
    import dask.dataframe as dd

    if output.suffix == ".zarr":
        return [da.from_zarr(str(output), component=name) for name in ("indices", "distances")]
    table = dd.read_parquet(output)
    return [table[[f"{name}{j}" for j in range(k)]].to_dask_array(lengths=True) for name in "id"]


def _need_dask() -> None:
    try:
        import covertreex.dask  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(f"Zarr and Parquet are read by Dask. {error}") from error
