"""`forecast compare`: trains networks on the same days and compares them."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import (
    OUT,
    CityOption,
    HorizonOption,
    JsonOption,
    names_in,
    print_json,
    print_table,
)
from data.city import load_city
from data.errors import FlowcastError

BOTH = "plain,context"


def compare(
    city: CityOption,
    networks: Annotated[
        str, typer.Option(help="all, ablation, or names with commas between.")
    ] = "all",
    horizon: HorizonOption = 4,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Of each network, from 0 on.")] = 1,
    contexts: Annotated[
        str, typer.Option(help="What networks see: plain, context or both.")
    ] = BOTH,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="For each training, at most; 15.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time; as cores and memory allow.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the comparison and its plots.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Trains networks on the same days and compares their errors on the test days."""
    place = load_city(city)
    from app.report.comparison import Asked, contest, contest_table
    from data.store.store import Store
    from pipelines.compare.contestants import Plan
    from pipelines.compare.table import sentences

    plan = Plan(horizon, minutes or Plan.minutes)
    if not names_in(networks):
        raise typer.BadParameter("--networks names none; write all, or names with commas between")
    asked = Asked(names_in(networks), seeds, names_in(contexts), plan, jobs, output)
    content = contest(Store(), place, asked)
    if as_json:
        print_json(content)
    else:
        print_table(contest_table(content))
        for line in sentences(content):
            OUT.print(line, markup=False)
    if failed := content["failed"]:
        raise FlowcastError(
            f"{len(failed)} of the runs failed, as told above; the same command makes them again"
        )
