"""`forecast train`: trains the networks and trees of a city."""

from typing import Annotated

import typer

from app.cli.options import (
    ERR,
    OUT,
    CityOption,
    CompileOption,
    DeviceOption,
    PrecisionOption,
    RecomputeOption,
    names_in,
)
from data.city import load_city
from forecasting.networks import networks_help


def train(
    city: CityOption,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Passes over the data; a third more on frames alone."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Time to train in, all fits together.")
    ] = None,
    members: Annotated[
        int | None, typer.Option(min=1, max=20, help="Networks of each kind; 1 to 3.")
    ] = None,
    final: Annotated[
        bool | None,
        typer.Option(
            "--final/--no-final",
            help="Train at last on the validation days too; if windows are below 10,000.",
        ),
    ] = None,
    trees: Annotated[
        bool | None,
        typer.Option(
            "--trees/--no-trees", help="Trees with a share in the forecast; if not below 5 minutes."
        ),
    ] = None,
    plain: Annotated[
        bool | None,
        typer.Option(
            "--plain/--no-plain",
            help="Networks on frames alone with a share in the forecast; if windows are 10,000 or more.",
        ),
    ] = None,
    without: Annotated[
        str,
        typer.Option(
            metavar="PARTS",
            help="Parts of the context to switch off: anomaly, expected, last_week, yesterday, hour, "
            "holiday, weather, place.",
        ),
    ] = "",
    also: Annotated[
        str, typer.Option("--with", metavar="PARTS", help="Parts to switch on: last_week.")
    ] = "",
    network: Annotated[
        str | None,
        typer.Option(help=networks_help() + "."),
    ] = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from where the last training was kept.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31, help="Of weights, order and dropout; 0.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-7, max=1, help="The highest; 0.002.")
    ] = None,
    precision: PrecisionOption = "float32",
    compiled: CompileOption = False,
    recompute: RecomputeOption = False,
    serve: Annotated[
        str,
        typer.Option(
            help="float32, or int8 where it changes the validation RMSE by less than 0.5 %."
        ),
    ] = "float32",
) -> None:
    """Trains networks on the days before the test days; Ctrl-C keeps the best epoch so far.

    Epochs are chosen by the validation days. With few windows the networks are then trained on these
    days too; with many a second kind of networks has a share in the forecast.
    """
    place = load_city(city)
    from app.cli.progress import show_training, stopping_on_interrupt
    from data.store.store import Store
    from forecasting.city.recipe import Recipe
    from forecasting.training.hardware import Computing
    from pipelines.train import city as run

    beginnings = {
        **{"network": network, "members": members, "final": final, "trees": trees, "plain": plain},
        **{
            "without": without or None,
            "with": also or None,
            "seed": seed,
            "learning-rate": learning_rate,
        },
    }
    if resume and (named := [f"--{key}" for key, value in beginnings.items() if value is not None]):
        raise typer.BadParameter(f"{named[0]} cannot change while a training goes on by --resume")
    store = Store()
    with stopping_on_interrupt() as stop:
        try:
            computing = Computing(device, precision, compiled, recompute)
            options = run.RunOptions(computing, serve, stop=stop)
            recipe = Recipe.from_options(
                network=network,
                without=names_in(without),
                also=names_in(also),
                ensemble_size=members,
                refit=final,
                trees=trees,
                raw_ensemble=plain,
                epochs=epochs,
                minutes=minutes,
                seed=seed,
                learning_rate=learning_rate,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if resume:
            events = run.resume(store, place, epochs=epochs, minutes=minutes, options=options)
        else:
            events = run.train(store, place, recipe, options=options)
        trained = show_training(events)
    if trained.stopped:
        ERR.print(f"stopped early; to go on: forecast train --city {city} --resume", markup=False)
    for note in trained.notes:
        ERR.print(f"note: {note}", markup=False)
    OUT.print(trained.verdict, markup=False)
