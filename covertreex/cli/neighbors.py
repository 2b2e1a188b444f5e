"""``covertreex neighbors``: the job on a person's own data."""

import enum
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from covertreex.base.types import FloatArray, IntArray
from covertreex.cli import display, parts
from covertreex.cli.display import KERNEL_LIST, PROFILE_LIST, KernelName, ProfileName
from covertreex.covertree import CoverTree, cover_tree
from covertreex.data.metrics import ResidualCorrelation
from covertreex.errors import InvalidInputError
from covertreex.io import tables
from covertreex.ordering import maximin
from covertreex.results import SearchResult, recall_interval
from covertreex.search import choose_verb
from covertreex.settings import resolve_settings, settings_from_env

#: Inducing points unless a person says how many, but no more than a quarter of the points.
INDUCING = 300

#: Lengthscale for places on Earth, in Earth radii: about 320 km.
SPHERE_LENGTHSCALE = 0.05


class Metric(str, enum.Enum):
    """What "near" means."""

    residual = "residual"
    correlation = "correlation"
    euclidean = "euclidean"


class Order(str, enum.Enum):
    """The order in which points come before one another."""

    given = "given"
    random = "random"
    maximin = "maximin"


def neighbors(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Points: .csv, .tsv, .txt (or these with .gz), .npy, .npz, .parquet or .feather; .zarr and .parquet "
            "need not fit into memory.",
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns to use, between commas: names, or numbers from 0 where there are none. Default: all.",
            rich_help_panel="Reading",
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first row of a text file names the columns. Default: if not all its cells are numbers.",
            rich_help_panel="Reading",
        ),
    ] = None,
    lat: Annotated[
        str | None,
        typer.Option(
            help="Column with the latitude in degrees. With --lon: places on Earth, and no other columns.",
            rich_help_panel="Reading",
        ),
    ] = None,
    lon: Annotated[
        str | None, typer.Option(help="Column with the longitude in degrees.", rich_help_panel="Reading")
    ] = None,
    lonlat: Annotated[
        bool,
        typer.Option(
            "--lonlat",
            help="The first two columns are longitude and latitude in degrees; others are axes.",
            rich_help_panel="Reading",
        ),
    ] = False,
    radius: Annotated[
        float | None,
        typer.Option(
            help="Of the sphere, with --lonlat or --lat and --lon: the unit of lengthscales and distances. Default: 1, "
            "an Earth radius; 6371 for kilometres.",
            rich_help_panel="Reading",
        ),
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Which array of an .npz file with several.", rich_help_panel="Reading")
    ] = None,
    metric: Annotated[
        Metric,
        typer.Option(
            metavar="METRIC",
            help="residual: most correlated once the inducing points are known; correlation: no inducing points; "
            "euclidean: nearest in space.",
            rich_help_panel="Metric",
        ),
    ] = Metric.residual,
    kernel: Annotated[
        KernelName | None,
        typer.Option(
            metavar="KERNEL", help=f"Covariance function: {KERNEL_LIST}. Default: matern32.", rich_help_panel="Metric"
        ),
    ] = None,
    lengthscale: Annotated[
        str | None,
        typer.Option(
            help="In the units of the data; one number, one per column between commas, or a matrix of rows between "
            f"semicolons. On the sphere in those of --radius, by default {SPHERE_LENGTHSCALE} of it (320 km); "
            "longitude and latitude have one between them.",
            rich_help_panel="Metric",
        ),
    ] = None,
    variance: Annotated[float | None, typer.Option(help="Of the kernel. Default: 1.", rich_help_panel="Metric")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Of the kernel rationalquadratic. Default: 1.", rich_help_panel="Metric")
    ] = None,
    nu: Annotated[
        float | None, typer.Option(help="Of a kernel with a smoothness nu.", rich_help_panel="Metric")
    ] = None,
    power: Annotated[float | None, typer.Option(help="Of a kernel with a power.", rich_help_panel="Metric")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other parameter of the kernel, such as nu=0.8; may be repeated.",
            rich_help_panel="Metric",
        ),
    ] = None,
    active_dims: Annotated[
        str | None,
        typer.Option(
            help="Columns that the kernel compares, between commas: names, or numbers from 0 among those used. "
            "Default: all.",
            rich_help_panel="Metric",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Variance of the noise (nugget) of every point, in the units of the kernel's variance. Default: none.",
            rich_help_panel="Metric",
        ),
    ] = None,
    inducing: Annotated[
        int | None,
        typer.Option(
            help=f"Inducing points, drawn at random from the data; 0 for none. Default: {INDUCING}, or a quarter of "
            "the points if that is fewer.",
            rich_help_panel="Metric",
        ),
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            help="Added to the variance of the inducing points, to keep them apart. Default: 1e-6 of the variance.",
            rich_help_panel="Metric",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Neighbours per point.", rich_help_panel="Question")] = 30,
    max_per_site: Annotated[
        int | None,
        typer.Option(
            help="At most so many neighbours of a point at one place. Default: any number.", rich_help_panel="Question"
        ),
    ] = None,
    predecessors: Annotated[
        bool,
        typer.Option(
            "--predecessors", help="Only points that come before, as Vecchia wants.", rich_help_panel="Question"
        ),
    ] = False,
    order: Annotated[
        Order,
        typer.Option(
            metavar="ORDER",
            help="Who comes before whom: given (as in the file), random, or maximin (each the farthest from all before "
            "it, in lengthscales). Row numbers in the output are always the file's.",
            rich_help_panel="Question",
        ),
    ] = Order.given,
    seed: Annotated[
        int, typer.Option(help="Of the inducing points and of the random order.", rich_help_panel="Question")
    ] = 0,
    settings: Annotated[
        ProfileName | None,
        typer.Option(
            metavar="PROFILE", help=f"Of the search: {PROFILE_LIST}. Default: exact.", rich_help_panel="Search"
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help='Who searches; see "covertreex backends". Default: the best.', rich_help_panel="Search"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads. Default: all cores.", rich_help_panel="Search")] = None,
    audit: Annotated[
        int,
        typer.Option(help="Points to check against a dense float64 oracle; 0 for none.", rich_help_panel="Search"),
    ] = 1_000,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print what the planner tried, expected and chose.", rich_help_panel="Search"),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write rows, indices and distances: .npz, .csv, .parquet or .feather. Default: "
            "FILE.neighbors.npz here. In parts: .zarr or .parquet, by default as FILE.",
        ),
    ] = None,
    in_parts: Annotated[
        bool | None,
        typer.Option(
            "--parts/--no-parts",
            help="Read, search and write in parts, which fit into memory (extra dask). Default: Zarr, folders of "
            "Parquet, and Parquet that would fill much of the memory.",
            rich_help_panel="Reading",
        ),
    ] = None,
    json_file: display.JsonFile = None,
) -> None:
    """Find the neighbours of every point in a file of your own.

    Rows that cannot be used (missing, not a number, out of range) are left out, counted and reported. Rows are numbered
    from 0, a CSV header not counted, and keep their numbers in the output. A point with fewer than k neighbours has -1,
    at distance inf, for the rest.

    The output holds "rows" (which row of the file each line is about), "position" (its place in the order that decides
    who comes before whom), "indices" and "distances".

    Example: covertreex neighbors cities.csv --lat latitude --lon longitude --predecessors --order random
    """
    if audit < 0:
        raise InvalidInputError(f"audit must be a number of points, 0 or more, got {audit}.")
    if seed < 0:
        raise InvalidInputError(f"seed must be 0 or more, got {seed}.")
    sphere = lonlat or lat is not None or lon is not None
    shape = display.parameters(param, alpha=alpha, nu=nu, power=power)
    of_kernel: dict[str, object] = {"kernel": kernel, "lengthscale": lengthscale, "variance": variance}
    of_kernel |= shape | {"active-dims": active_dims, "noise": noise}
    _check_options(metric, of_kernel, inducing, jitter)
    if lonlat and lat is not None:
        raise InvalidInputError("--lonlat is of the first two columns; leave it out beside --lat and --lon.")
    if radius is not None and not sphere:
        raise InvalidInputError("--radius has no meaning without --lonlat, or --lat and --lon.")
    out = display.console_beside(json_file)
    if in_parts is None:
        in_parts = parts.wanted(file)
    suffixes = parts.SUFFIXES if in_parts else tables.OUTPUT_SUFFIXES
    suffix = file.suffix if in_parts else ".npz"
    output = tables.check_output(f"{tables.stem(file)}.neighbors{suffix}" if output is None else output, suffixes)
    chosen = resolve_settings(None if settings is None else settings.value, settings_from_env())

    steps = display.Steps()
    options = {"lengthscale": lengthscale, "variance": variance, "active_dims": active_dims, "shape": shape}
    options |= {
        "noise": noise,
        "lonlat": sphere,
        "radius": radius,
        "inducing": inducing,
        "seed": seed,
        "jitter": jitter,
    }
    if in_parts:
        if order is Order.maximin:
            raise InvalidInputError("--order maximin needs all points in memory; give random, or --no-parts.")
        points = parts.read(file, display.names(columns), lat=lat, lon=lon, array=array, header=header)
        n = len(points)
        arguments = _arguments(points, n, metric, kernel, options)
        places = np.random.default_rng(seed).permutation(n) if order is Order.random and predecessors else None
        told = parts.search(
            points, k, arguments, places, output, steps, predecessors=predecessors, max_per_site=max_per_site,
            settings=chosen, backend=backend, threads=threads, audit=audit,
        )  # fmt: skip
        told.insert(0, ("question", _question_line(k, predecessors, order, seed, max_per_site)))
        out.print(display.fact_table(told))
        display.write_json({name: str(value) for name, value in told}, json_file)
        return
    with steps.timed("reading", f"reading {file}"):
        table = tables.read_points(
            file,
            columns=display.names(columns),
            latitude=lat,
            longitude=lon,
            lonlat=lonlat,
            array=array,
            header=header,
        )
    _report_rows(table, steps)
    n = len(table.rows)
    arguments = _arguments(table, n, metric, kernel, options)

    keeps = order.value == "given"
    with steps.timed(
        "order", "keeping the order of the file" if keeps else f"putting {n:,} points in {order.value} order"
    ):
        place = _place(order, seed, table.X, arguments)
    with steps.timed("factors", f"preparing {n:,} points"):
        tree = cover_tree(table.X[place], **arguments, n_threads=threads)
    if choose_verb(chosen, tree.payload) == "search":
        with steps.timed("tree", "building the cover tree"):
            _ = tree.tree
    with steps.timed("search", f"searching {k} neighbours of {n:,} points"):
        result = tree.search(
            k,
            predecessor_mode=predecessors,
            max_per_site=max_per_site,
            settings=chosen,
            backend=backend,
            n_threads=threads,
        )
    checked, recall, interval = 0, None, None
    if audit:
        with steps.timed("audit", f"checking {min(audit, n):,} points against the dense oracle"):
            recall, interval, checked = audit_answers(
                tree,
                result.indices,
                np.arange(n),
                predecessor_mode=predecessors,
                max_per_site=max_per_site,
                sample=audit,
            )

    with steps.timed("writing", f"writing {output}"):
        _write(output, table, place, result)
    steps("done")

    found = [
        ("rows", _rows_line(table)),
        *([("header", table.header)] if table.header else []),
        ("columns", _columns_line(table) + (f", on a sphere of radius {tree.lonlat:g}" if sphere else "")),
        *([("left out", table.index)] if table.index else []),
        ("metric", _metric_line(tree, arguments)),
        ("question", _question_line(k, predecessors, order, seed, max_per_site)),
        ("search", f"{result.settings.profile} settings, backend {result.backend} ({result.plan.verb}), "
                   f"{result.telemetry.n_threads} threads, {n / steps.took['search']:,.0f} points/s"),
    ]  # fmt: skip
    if recall is not None and interval is not None:
        low, high = interval
        found.append(
            ("recall", f"{display.share(recall)} of {checked:,} points against the dense oracle "
                       f"(95 % interval {display.share(low)} to {display.share(high)})")
        )  # fmt: skip
    if result.tied_rows or result.single_site_rows:
        found.append(
            ("ties", f"{result.tied_rows:,} points with neighbours at one distance; {result.single_site_rows:,} whose "
                     "neighbours are all at one place")
        )  # fmt: skip
    found.append(("seconds", ", ".join(f"{name} {display.duration(took)}" for name, took in steps.took.items())))
    found.append(("written", f"{output}: rows, position, indices and distances ({n:,} x {k})"))
    out.print(display.fact_table(found))
    if explain:
        out.print()
        out.print(str(result.plan))
    if recall is not None and recall < 1.0 and not result.settings.approximate:
        out.print(_recall_is_low(tree), style="bold red")
    figures = {
        "file": str(file),
        **_figures_of_rows(table),
        "metric": _metric_line(tree, arguments),
        "k": k,
        "predecessors": predecessors,
        "order": order.value,
        "seed": seed,
        "max_per_site": max_per_site,
        "settings": result.settings.profile,
        "backend": result.backend,
        "strategy": result.plan.strategy,
        "threads": result.telemetry.n_threads,
        "recall": recall,
        "recall_interval": interval,
        "checked": checked,
        "tied_rows": result.tied_rows,
        "single_site_rows": result.single_site_rows,
        "seconds": steps.took,
        "output": str(output),
    }
    display.write_json(figures, json_file)


def _place(order: Order, seed: int, X: FloatArray, arguments: dict[str, Any]) -> IntArray:
    """The row of the point that comes i-th, for all i."""
    if order is Order.random:
        return np.random.default_rng(seed).permutation(len(X))
    if order is Order.given:
        return np.arange(len(X))
    bare = {name: value for name, value in arguments.items() if name in ("kernel", "lonlat", "radius")}
    tree = cover_tree(X, **bare)
    return maximin(tree.metric.coordinates(tree.X))


def _write(output: Path, table: tables.PointTable, place: IntArray, result: SearchResult) -> None:
    """Write the answer in the order of the file, of points that were searched in the order `place`."""
    position = np.empty(len(place), dtype=np.int64)
    position[place] = np.arange(len(place))
    # A last entry stands for -1, which indexes it.
    original = np.append(table.rows[place], -1)
    tables.write_neighbors(output, table.rows, position, original[result.indices][position], result.distances[position])


def _recall_is_low(tree: CoverTree) -> str:
    """What to tell of an exact answer whose recall is below 1."""
    return (
        "The recall is below 1 although these settings are exact. Where residual variances are tiny (smallest "
        f"here: {tree.payload.p.min() if len(tree.payload.p) else 1.0:.2g}), float64 cannot tell neighbours "
        "apart; a larger jitter or fewer inducing points help. Otherwise please report it."
    )


def audit_answers(
    tree: CoverTree,
    indices: IntArray,
    rows: IntArray,
    *,
    predecessor_mode: bool = False,
    max_per_site: int | None = None,
    sample: int = 1000,
) -> tuple[float, tuple[float, float], int]:
    """Recall of a random sample of answered rows against the dense oracle.

    Parameters
    ----------
    tree : CoverTree
    indices : ndarray, shape (q, k), int64
    rows : ndarray, shape (q,), int64
        The rows of X that were asked about.
    predecessor_mode : bool
    max_per_site : int, optional
    sample : int
        How many are checked; drawn by ``default_rng(0)``.

    Returns
    -------
    recall : float
    interval : tuple of float
        95 %, as of `covertreex.results.recall_interval`.
    checked : int
        Rows in the sample.
    """
    draw = np.random.default_rng(0).permutation(len(rows))[:sample]
    hits = tree.oracle().hits(indices[draw], rows[draw], predecessor_mode=predecessor_mode, max_per_site=max_per_site)
    return *recall_interval(*hits), len(draw)


def _arguments(
    table: tables.PointTable | parts.Parts, n: int, metric: Metric, kernel: KernelName | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of `cover_tree`, from options."""
    arguments: dict[str, Any] = {}
    if metric is not Metric.euclidean:
        dims = _dims(given["active_dims"], table.columns)
        places = sorted(range(len(table.columns)) if dims is None else dims) == [0, 1]
        if given["lengthscale"] is None and not (given["lonlat"] and places):
            raise InvalidInputError(_lengthscale_wanted(table))
        name = "matern32" if kernel is None else kernel.value
        default = SPHERE_LENGTHSCALE * (1.0 if given["radius"] is None else given["radius"])
        text = given["lengthscale"]
        scale = default if text is None else display.numbers(text, "lengthscale")
        variance = 1.0 if given["variance"] is None else given["variance"]
        made = display.make_kernel(name, scale, variance, active_dims=dims, **given["shape"])
        arguments = {"kernel": made, "noise": given["noise"]}
    if given["lonlat"]:
        arguments.update(lonlat=True, radius=given["radius"])
    if metric is Metric.residual:
        m = min(INDUCING, n // 4) if given["inducing"] is None else given["inducing"]
        arguments.update(inducing=m or None, seed=given["seed"], jitter=given["jitter"])
    return arguments


def _dims(text: str | None, columns: Sequence[str]) -> list[int] | None:
    """The numbers of the columns named by an option, None for all."""
    listed = display.names(text)
    if listed is None:
        return None
    found = []
    for part in listed:
        if part not in columns and not (part.isdecimal() and int(part) < len(columns)):
            raise InvalidInputError(
                f"--active-dims has {part!r}, but the columns that are used are {', '.join(columns)}."
            )
        found.append(columns.index(part) if part in columns else int(part))
    return found


def _check_options(metric: Metric, of_kernel: dict[str, object], inducing: int | None, jitter: float | None) -> None:
    """Options that have no meaning under the metric asked for are errors, rather than ignored."""
    of_inducing: dict[str, object] = {"inducing": inducing or None, "jitter": jitter}
    excluded = {
        Metric.euclidean: of_kernel | of_inducing,
        Metric.correlation: of_inducing,
        Metric.residual: {},
    }[metric]
    beside = [f"--{name}" for name, value in excluded.items() if value is not None]
    if beside:
        raise InvalidInputError(
            f"{beside[0]} has no meaning with --metric {metric.value}; leave it out, or use --metric residual."
        )
    if inducing is not None and inducing < 0:
        raise InvalidInputError(f"inducing must be a number of points, 0 or more, got {inducing}.")


def _figures_of_rows(table: tables.PointTable) -> dict[str, Any]:
    """What was read, for a program."""
    return {
        "read": table.read,
        "used": len(table.rows),
        "rejected": [asdict(rejection) for rejection in table.rejections],
        "columns": list(table.columns),
        "header": table.header,
        "index": table.index,
    }


def _rows_line(table: tables.PointTable) -> str:
    return f"{table.read:,} read, {len(table.rows):,} used, {table.rejected:,} rejected"


def _columns_line(table: tables.PointTable) -> str:
    shown = ", ".join(table.columns[:12])
    return shown if len(table.columns) <= 12 else f"{shown}, ... ({len(table.columns)} columns)"


def _report_rows(table: tables.PointTable, steps: display.Steps) -> None:
    if table.header:
        steps(f"  header: {table.header}")
    steps(f"  coordinates: {_columns_line(table)}")
    if table.index:
        steps(f"  left out: {table.index}")
    steps(_rows_line(table))
    for rejection in table.rejections:
        where = f"first: row {rejection.first_row}, {rejection.example}"
        steps(f"  rejected {rejection.count:,}: {rejection.reason} ({where})")


def _lengthscale_wanted(table: tables.PointTable | parts.Parts) -> str:
    of_columns = table.spreads() if isinstance(table, parts.Parts) else table.X.std(axis=0)
    spreads = ", ".join(f"{name}: {spread:.3g}" for name, spread in zip(table.columns, of_columns, strict=True))
    return (
        "a kernel needs a lengthscale in the units of the data; give --lengthscale (one number, or one per column "
        f"between commas), or --metric euclidean. Standard deviations of the columns: {spreads}."
    )


def _metric_line(tree: CoverTree, arguments: dict[str, Any]) -> str:
    if "kernel" not in arguments:
        return "Euclidean distance" if tree.lonlat is None else "great circle, distances as chords"
    m = arguments.get("inducing")
    kernel = f"{arguments['kernel']}" + (f", noise {arguments['noise']:g}" if arguments["noise"] else "")
    if m is None or not isinstance(tree.metric, ResidualCorrelation):
        return f"correlation, {kernel}, no inducing points"
    floored = tree.payload.floored
    return (
        f"residual correlation, {kernel}, m = {m:,} inducing points, "
        f"jitter {tree.metric.jitter_share * tree.metric.unit:g}"
        + (f"; {floored:,} points with a residual variance at its floor" if floored else "")
    )


def _question_line(k: int, predecessors: bool, order: Order, seed: int, most: int | None) -> str:
    few = "" if most is None else f", at most {most} at one place"
    if not predecessors:
        return f"the {k} nearest of all points{few}"
    where = {
        Order.given: "in the order of the file",
        Order.random: f"in a random order (seed {seed})",
        Order.maximin: "in maximin order",
    }[order]
    return f"the {k} nearest of the points that come before, {where}{few}"
