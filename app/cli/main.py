"""`forecast`: the main job as the main verb, the other verbs beside it.

Results go to stdout, progress and logs to stderr; exit code 0 means done, 1 failed with one sentence
that says what to do, 2 wrong usage.
"""

import dataclasses
import gc
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from app.cli import benchmark, dashboard, models, operate
from app.cli.options import (
    ERR,
    OUT,
    CityOption,
    HorizonOption,
    JsonOption,
    names_in,
    parse_time,
    print_json,
    print_table,
)
from app.cli.train import train
from data.city import City, load_city, parse_grid, parse_step
from data.errors import FlowcastError

if TYPE_CHECKING:  # It loads what other verbs can do without.
    from app.report.comparison import Asked

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BOTH = "plain,context"

app.add_typer(benchmark.app, name="benchmark")
app.add_typer(models.app, name="models")


def main() -> None:
    """Runs the command line; the console script `forecast`."""
    try:
        app()
    except FlowcastError as error:
        ERR.print(f"error: {error}", markup=False)
        sys.exit(1)
    finally:
        gc.freeze()  # a last search for garbage took a third of a second


@app.callback(invoke_without_command=True)
def forecast(
    context: typer.Context,
    city: Annotated[str, typer.Option(help="bj, nyc, demo, or one of your own.")] = "",
    horizon: HorizonOption = 4,
    at: Annotated[
        str,
        typer.Option(metavar="TIME", help="The slot to take as the newest, in the city's time."),
    ] = "",
    model: Annotated[str, typer.Option(metavar="VERSION", help="In place of the champion.")] = "",
    output: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write FILE.nc, .csv or .png; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Forecasts a city's in- and outflow: forecast --city bj --horizon 4.

    The next intervals after the newest slot, by the city's champion, stored with model version and
    data cut-off. Without a model the historical average serves, and is named.
    """
    if context.invoked_subcommand is not None:
        if city or at or model or output or as_json or horizon != 4:
            raise typer.BadParameter(
                f"options come after the verb: forecast {context.invoked_subcommand} ..."
            )
        return
    if not city:
        raise typer.BadParameter("name the city: forecast --city bj --horizon 4")
    from app.report.export import check_suffix

    try:
        files = [check_suffix(path) for path in output or []]
    except FlowcastError as error:
        raise typer.BadParameter(str(error)) from error
    _forecast(load_city(city), horizon, at, model, files, as_json)


def _forecast(
    city: City, horizon: int, at: str, model: str, files: Sequence[Path], as_json: bool
) -> None:
    init_time = parse_time(at, city) if at else None
    from app.report.export import export_forecast
    from app.text import forecast_object, forecast_table, notes
    from data.store.store import Store
    from pipelines.forecast.live import forecast as run

    store = Store()
    result = run(store, city, horizon, at=init_time, model=model or None)
    for note in notes(result):
        ERR.print(f"note: {note}", markup=False)
    seen = store.flow(city, first=result["init_time"].values[0], last=result["init_time"].values[0])
    for path in files:
        export_forecast(path, result, city, seen[0] if len(seen) else None)
        ERR.print(f"wrote {path}", markup=False)
    if as_json:
        print_json(forecast_object(result, city))
    else:
        print_table(forecast_table(result, city))


@app.command()
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


@app.command()
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


@app.command()
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


app.command()(train)


@app.command()
def evaluate(
    city: CityOption,
    horizon: HorizonOption = 4,
    model: Annotated[str, typer.Option(metavar="VERSION", help="In place of the champion.")] = "",
    begin: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="First slot to forecast, in the city's time; test days."
        ),
    ] = "",
    end: Annotated[
        str,
        typer.Option("--to", metavar="TIME", help="End of the last one; that of the archive."),
    ] = "",
    stride: Annotated[int, typer.Option(min=1, help="Slots from one forecast to the next.")] = 1,
    networks: Annotated[
        str,
        typer.Option(
            help="Train and compare on the test days: all, ablation, or names with commas between."
        ),
    ] = "",
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
    """Prints the errors of the model and all baselines, by lead time: on the test days, or a span.

    With --networks it trains them first, each on the same days, and compares all.
    """
    place = load_city(city)
    if networks:
        if model or begin or end or stride != 1:
            raise typer.BadParameter(
                "--networks compares on the test days; leave out --model, --from, --to and --stride"
            )
        from app.report.comparison import Asked
        from pipelines.compare.contestants import Plan

        plan = Plan(horizon, minutes or Plan.minutes)
        if not names_in(networks):
            raise typer.BadParameter(
                "--networks names none; write all, or names with commas between"
            )
        asked = Asked(names_in(networks), seeds, names_in(contexts), plan, jobs, output)
        _contest(place, asked, as_json)
        return
    if output or jobs or minutes or seeds != 1 or contexts != BOTH:
        raise typer.BadParameter(
            "--seeds, --contexts, --minutes, --jobs and --output go with --networks, such as "
            "--networks all"
        )
    span = [parse_time(text, place) if text else None for text in (begin, end)]
    from app.report.evaluation import evaluation_object, evaluation_table, show_evaluation
    from app.report.intervals import coverage_table
    from data.store.store import Store
    from pipelines.evaluate.backtest import evaluate_in_pieces

    events = evaluate_in_pieces(
        Store(),
        place,
        horizon=horizon,
        model=model or None,
        begin=span[0],
        end=span[1],
        stride=stride,
    )
    result = show_evaluation(events)
    if not result.version:
        ERR.print(f"note: {city} has no champion; to train a model: forecast train --city {city}")
    for name in result.left_out:
        ERR.print(f"note: {name} is left out: no window of the span has all its input")
    for note in result.notes:
        ERR.print(f"note: {note}", markup=False)
    if as_json:
        print_json(evaluation_object(result, place))
    else:
        print_table(evaluation_table(result, place))
        if result.coverage is not None:
            print_table(coverage_table(result))


def _contest(city: City, asked: "Asked", as_json: bool) -> None:
    from app.report.comparison import contest, contest_table
    from data.store.store import Store
    from pipelines.compare.table import sentences

    content = contest(Store(), city, asked)
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


@app.command()
def demo(
    minutes: Annotated[float, typer.Option(min=0.05, help="Time to train in.")] = 2.5,
) -> None:
    """Does the main job on a simulated city: simulate, ingest, train, forecast, evaluate."""
    from data.paths import demo_folder

    folder = demo_folder()
    ERR.print("[bold]1/5 simulating the city `demo`[/bold]")
    simulate(folder)
    ERR.print("[bold]2/5 ingesting its files[/bold]")
    ingest([folder], "demo")
    ERR.print(f"[bold]3/5 training SwinLSTM[/bold] for about {minutes:g} minutes")
    train("demo", minutes=minutes)
    ERR.print("[bold]4/5 forecast --city demo --horizon 4[/bold]")
    picture = folder / "forecast.png"
    _forecast(load_city("demo"), 4, "", "", [picture, folder / "forecast.nc"], False)
    ERR.print("[bold]5/5 forecast evaluate --city demo[/bold]")
    evaluate("demo")
    OUT.print(
        f"maps: {picture}\n"
        "what to type next:\n"
        "  forecast --city demo --horizon 8 --output demo.png\n"
        "  forecast check --city demo\n"
        "  forecast ingest --city bj PATH_TO_TAXIBJ && forecast train --city bj\n"
        "  forecast --help",
        markup=False,
    )


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


for verb in (
    operate.schedule,
    operate.step,
    operate.nightly,
    operate.replay,
    operate.doctor,
    dashboard.dashboard,
):
    app.command()(verb)

if __name__ == "__main__":
    main()
