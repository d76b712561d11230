"""The verbs for data: ingest, check, simulate."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.cli.options import CityOption, JsonOption
from app.terminal import ERR, OUT, print_json
from data.city import City, load_city, parse_grid, parse_step
from data.errors import FlowcastError


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files or folders of flow or weather.")
    ],
    city: CityOption,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace stored values that differ; keep them as revisions."
        ),
    ] = False,
) -> None:
    """Add files of flow or weather to a city's archive.

    A file is stored completely or not at all. Slots that are stored already are skipped.
    """
    place = load_city(city)
    from app.text import ingested_lines
    from data.store.store import Store
    from pipelines.ingest.files import ingest as run

    results = []
    for result in run(Store(), place, paths, replace=replace):
        results.append(result)
        for line in ingested_lines(result):
            (ERR if result.refused else OUT).print(line, markup=False)
    if refused := sum(bool(result.refused) for result in results):
        rest = "; the others are stored" if refused < len(results) else "; nothing was stored"
        raise FlowcastError(f"{refused} of {len(results)} files refused, see above{rest}")


def check(city: CityOption, as_json: JsonOption = False) -> None:
    """Check a city's archive: slots, gaps, days, range, repairs and refused files."""
    place = load_city(city)
    from app.text import check_lines, check_object
    from data.store.store import Store
    from pipelines.ingest.check import check as run

    result = run(Store(), place)
    if as_json:
        print_json(check_object(result, place))
    else:
        for line in check_lines(result, place):
            OUT.print(line, markup=False)


def simulate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write the files to this folder.")],
    grid: Annotated[
        str, typer.Option(metavar="ROWSxCOLUMNS", help="Size of the grid in cells.")
    ] = "32x32",
    weeks: Annotated[
        int, typer.Option(min=1, metavar="WEEKS", help="Simulate this many weeks.")
    ] = 12,
    step: Annotated[
        str, typer.Option(metavar="STEP", help="Length of a time step, from 5min to 1d.")
    ] = "30min",
    seed: Annotated[int, typer.Option(min=0, metavar="INT", help="Random seed.")] = 0,
) -> None:
    """Write files of a simulated city, in the layout of TaxiBJ.

    A second file holds the expected flow, which no forecast can be better than.
    """
    from data.simulation.files import write_simulation

    place = _simulated_city(grid, step, weeks, seed)
    for path in write_simulation(out, place, weeks, seed):
        OUT.print(path, markup=False)
    if place.name != "demo":
        ERR.print(
            f"to use it, copy {place.name}.toml into the folder cities of FLOWCAST_HOME",
            markup=False,
        )
    ERR.print(f"next: forecast ingest --city {place.name} {shlex.quote(str(out))}", markup=False)


def _simulated_city(grid: str, step: str, weeks: int, seed: int) -> City:
    """Returns the demo city, or another one with a name of its own."""
    try:
        rows, columns = parse_grid(grid)
        width = parse_step(step)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    base = load_city("demo")
    name = "demo"
    if ((rows, columns), width, weeks, seed) != (base.grid, base.step, 12, 0):
        name = f"sim-{rows}x{columns}-{int(width / np.timedelta64(60, 's'))}min-{weeks}w-{seed}"
    return dataclasses.replace(
        base,
        name=name,
        title=base.title if name == base.name else f"Simulated city {rows}x{columns}",
        grid=(rows, columns),
        step=width,
        test_days=min(base.test_days, max(1, 7 * weeks // 6)),
        validation_days=min(base.validation_days, max(1, 7 * weeks // 12)),
    )
