"""The verbs that bring data in: ingest, check, simulate."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.cli.options import ERR, OUT, CityOption, JsonOption, print_json
from data.city import City, load_city, parse_grid, parse_step
from data.errors import FlowcastError


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    city: CityOption,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let new values replace stored ones, kept as revisions."),
    ] = False,
) -> None:
    """Takes files of flow or weather into the city's archive, each whole or not at all."""
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
        raise FlowcastError(f"{refused} of {len(results)} files refused, as told above{rest}")


def check(city: CityOption, as_json: JsonOption = False) -> None:
    """Lists slots, gaps, days and range of the archive, and what ingest repaired or refused."""
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
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    grid: Annotated[str, typer.Option(help="Rows x columns.")] = "32x32",
    weeks: Annotated[int, typer.Option(min=1, help="How long.")] = 12,
    step: Annotated[str, typer.Option(help="From 5min to 1d.")] = "30min",
    seed: Annotated[int, typer.Option(min=0, help="Of all chance.")] = 0,
) -> None:
    """Writes a simulated city in the TaxiBJ layout, with its expected flow beside."""
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
