"""`forecast compare`: trains networks on the same days and compares them."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import CityOption, HorizonOption, JsonOption, names_in, option
from app.terminal import ERR, OUT, print_json
from data.city import load_city
from data.errors import FlowcastError
from forecasting.networks import DEFAULT, NETWORKS

FAMILIES = ", ".join((*NETWORKS, f"{DEFAULT}+trees", "trees"))


def compare(
    city: CityOption,
    networks: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Compare all, ablation, or some of {FAMILIES}.")
    ] = "all",
    horizon: HorizonOption = 4,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Train each network with this many random seeds.")
    ] = 1,
    inputs: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Give networks raw-flow, covariates, or each in turn."),
    ] = "raw-flow,covariates",
    minutes: Annotated[
        float,
        typer.Option(min=0.01, metavar="MINUTES", help="Limit each training's processor time."),
    ] = 15.0,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Run this many trainings at once.", show_default="as cores and memory allow"
        ),
    ] = None,
    output: Annotated[
        Path | None, option("DIR", "Also write table.json, table.md and charts.")
    ] = None,
    as_json: JsonOption = False,
    contexts: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Train networks on the same days and compare their errors on the test days.

    Baselines always take part. Runs are kept: after Ctrl-C the same command continues, and more seeds are
    added to the runs that exist.
    """
    place = load_city(city)
    from app.report.comparison import show_comparison, write_comparison
    from data.store.store import Store
    from pipelines.compare.comparison import Comparison
    from pipelines.compare.contestants import INPUTS, chosen
    from pipelines.compare.standings import compare_runs
    from pipelines.compare.table import facts, sentences, summary
    from pipelines.forecast.notes import unknown_years

    if contexts:  # what --inputs was called
        former = {old: new for new, old in INPUTS.items()}
        inputs = ",".join(former.get(name, name) for name in names_in(contexts))
    runs = chosen(names_in(networks), seeds, names_in(inputs))
    comparison = Comparison.of(Store(), place, horizon, minutes)
    result = show_comparison(compare_runs(comparison, runs, jobs))
    for note in unknown_years(comparison.flow, comparison.flow["time"].values):
        ERR.print(f"note: {note}", markup=False)
    words = ["forecast", "compare", "--city", city, "--networks", networks, "--seeds", f"{seeds}"]
    words += ["--inputs", inputs, "--horizon", f"{horizon}", "--minutes", f"{minutes:g}"]
    content = facts(result, shlex.join(words))
    for path in write_comparison(output, result, content) if output else ():
        ERR.print(f"wrote {path}", markup=False)
    if as_json:
        print_json(content)
    else:
        OUT.print("\n\n".join([summary(content).rstrip(), *sentences(content)]), markup=False)
    if failed := content["failed"]:
        raise FlowcastError(
            f"{len(failed)} of the runs failed, see above; the same command retries"
        )
