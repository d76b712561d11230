"""`forecast`: the main job as the main verb, the other verbs beside it.

Results go to stdout, progress and logs to stderr; exit code 0 means done, 1 failed with one sentence
that says what to do, 2 wrong usage.
"""

import gc
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli import benchmark, compare, dashboard, data, evaluate, models, operate, train
from app.cli.options import HorizonOption, JsonOption, parse_time
from app.terminal import ERR, OUT, print_json, print_table
from data.city import City, load_city
from data.errors import FlowcastError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    city: Annotated[
        str,
        typer.Option(
            metavar="CITY",
            show_default="required without a command",
            help="Name of the city: bj, nyc, demo or one of yours.",
        ),
    ] = "",
    horizon: HorizonOption = 4,
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            show_default="the newest slot",
            help="Forecast from this slot on, in the city's time zone: 2016-03-20T08:00.",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="VERSION", show_default="the champion", help="Forecast with this version."
        ),
    ] = "",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="Write the forecast to FILE.nc, FILE.csv or FILE.png; repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Forecast a city's inflow and outflow: forecast --city bj --horizon 4.

    Forecasts the time steps after the newest slot with the city's champion, and stores the result with
    the version of the model and the data cut-off. Without a champion a baseline stands in.
    """
    if version:
        OUT.print(f"flowcast {importlib.metadata.version('flowcast')}")
        return
    if context.invoked_subcommand is not None:
        if city or at or model or output or as_json or horizon != 4:
            raise typer.BadParameter(
                f"options come after the command: forecast {context.invoked_subcommand} ..."
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
    seen = store.flow.read(
        city, first=result["init_time"].values[0], last=result["init_time"].values[0]
    )
    for path in files:
        export_forecast(path, result, city, seen[0] if len(seen) else None)
        ERR.print(f"wrote {path}", markup=False)
    if as_json:
        print_json(forecast_object(result, city))
    else:
        print_table(forecast_table(result, city))


def demo(
    minutes: Annotated[
        float, typer.Option(min=0.05, metavar="MINUTES", help="Train for this many minutes.")
    ] = 2.5,
) -> None:
    """Try everything on a simulated city: simulate, ingest, train, forecast, evaluate."""
    from data.paths import demo_folder

    folder = demo_folder()
    ERR.print("[bold]1/5 simulating the city `demo`[/bold]")
    data.simulate(folder)
    ERR.print("[bold]2/5 ingesting its files[/bold]")
    data.ingest([folder], "demo")
    ERR.print(f"[bold]3/5 training SwinLSTM[/bold] for about {minutes:g} minutes")
    train.train("demo", minutes=minutes)
    ERR.print("[bold]4/5 forecast --city demo --horizon 4[/bold]")
    picture = folder / "forecast.png"
    _forecast(load_city("demo"), 4, "", "", [picture, folder / "forecast.nc"], False)
    ERR.print("[bold]5/5 forecast evaluate --city demo[/bold]")
    evaluate.evaluate("demo")
    OUT.print(
        f"maps: {picture}\n"
        "what to type next:\n"
        "  forecast --city demo --horizon 8 --output demo.png\n"
        "  forecast check --city demo\n"
        "  forecast ingest --city bj PATH_TO_TAXIBJ && forecast train --city bj\n"
        "  forecast --help",
        markup=False,
    )


VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Data": (data.ingest, data.check, data.simulate),
    "Forecasts": (demo, evaluate.evaluate, dashboard.dashboard),
    "Models": (train.train,),
    "Operation": (
        operate.schedule,
        operate.update,
        operate.nightly,
        operate.replay,
        operate.doctor,
    ),
    "Research": (compare.compare,),
}
"""The verbs by what a user is doing, in the order of `forecast --help`."""

for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.command("step", hidden=True)(operate.update)  # its former name
app.add_typer(models.app, name="models", rich_help_panel="Models")
app.add_typer(benchmark.app, name="benchmark", rich_help_panel="Research")

if __name__ == "__main__":
    main()
