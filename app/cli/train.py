"""`forecast train`: trains the networks and trees of a city."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import (
    CityOption,
    CompileOption,
    DeviceOption,
    PrecisionOption,
    RecomputeOption,
    names_in,
    quiet,
)
from app.terminal import ERR, OUT
from data.city import City, load_city
from forecasting.covariates.config import PARTS
from forecasting.networks import networks_help

if TYPE_CHECKING:  # torch, which other verbs do without
    from forecasting.city.recipe import Recipe
    from pipelines.train.city import RunOptions
    from pipelines.train.version import Trained


def train(
    city: CityOption,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            metavar="MINUTES",
            show_default="as long as the epochs take",
            help="Train all networks and trees together for at most this long.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            show_default="by the number of windows",
            help="Passes of each network over the training windows; a third more in a raw ensemble.",
        ),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1008,
            metavar="STEPS",
            show_default="4",
            help="Time steps ahead that networks, trees and prediction intervals are trained for.",
        ),
    ] = None,
    history: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1008,
            metavar="STEPS",
            show_default="4",
            help="Past time steps that the networks see as frames.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="swinlstm-b", help=f"Network to train. {networks_help()}."
        ),
    ] = None,
    ensemble_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=20,
            metavar="N",
            show_default="1 to 3, by the number of windows",
            help="Networks whose mean is the forecast; they differ in their random seed.",
        ),
    ] = None,
    raw_ensemble: Annotated[
        bool | None,
        typer.Option(
            "--raw-ensemble/--no-raw-ensemble",
            show_default="from 10,000 windows on",
            help="Stack a second ensemble, which sees past flow without covariates.",
        ),
    ] = None,
    trees: Annotated[
        bool | None,
        typer.Option(
            "--trees/--no-trees",
            show_default="unless --minutes is below 5",
            help="Stack gradient-boosted trees on the networks; needs scikit-learn.",
        ),
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            show_default="below 10,000 windows",
            help="Train what serves on train + validation, once the validation days chose the epochs.",
        ),
    ] = None,
    without: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            show_default="none",
            help=f"Covariates to switch off, with commas between: {', '.join(PARTS)}.",
        ),
    ] = "",
    also: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="NAMES",
            show_default="none",
            help="Covariates to switch on; below 10,000 windows last_week and weather are off.",
        ),
    ] = "",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="WINDOWS",
            show_default="32",
            help="Windows of a training step, of all processes together.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-7, max=1, metavar="RATE", show_default="0.002", help="Peak learning rate."
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            show_default="0.99",
            help="Decay of the moving average of the weights, from 0 (none) to below 1.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31,
            metavar="N",
            show_default="0",
            help="Random seed of weights, order of windows and dropout.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    compiled: CompileOption = False,
    recompute: RecomputeOption = False,
    serve: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Serve in float32, or in int8 where it changes the validation RMSE by less than 0.5 %.",
        ),
    ] = "float32",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the last training from its checkpoint; --epochs is then the total, --minutes "
            "the time to add.",
        ),
    ] = False,
    # Former names.
    members: Annotated[int | None, typer.Option(min=1, max=20, hidden=True)] = None,
    plain: Annotated[bool | None, typer.Option("--plain/--no-plain", hidden=True)] = None,
    final: Annotated[bool | None, typer.Option("--final/--no-final", hidden=True)] = None,
) -> None:
    """Train a model for a city, and promote it if it is better than the champion and all baselines.

    No day from the first test day on is used. Ctrl-C ends the training and keeps the best epoch so far. On
    several GPUs: torchrun --no-python --nproc-per-node 4 forecast train --city bj
    """
    place = load_city(city)
    choices = {
        "network": network,
        "without": names_in(without) or None,
        "with": names_in(also) or None,
        "ensemble-size": members if ensemble_size is None else ensemble_size,
        "refit": final if refit is None else refit,
        "trees": trees,
        "raw-ensemble": plain if raw_ensemble is None else raw_ensemble,
        "horizon": horizon,
        "history": history,
        "batch": batch,
        "seed": seed,
        "learning-rate": learning_rate,
        "average": average,
    }
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    if resume and given:
        raise typer.BadParameter(f"--{next(iter(given))} cannot change when a training is resumed")
    from forecasting.city.recipe import Recipe
    from forecasting.training.hardware import Computing
    from pipelines.train.city import RunOptions

    try:
        options = RunOptions(Computing(device, precision, compiled, recompute), serve)
        fields = {name.replace("-", "_"): value for name, value in given.items()}
        fields["also"] = fields.pop("with", ())
        recipe = Recipe.from_options(**fields, epochs=epochs, minutes=minutes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    trained = _run(place, None if resume else recipe, epochs, minutes, options)
    if trained is None:  # one of several processes makes the version
        return
    if trained.stopped:
        ERR.print(
            f"stopped early; to continue: forecast train --city {city} --resume", markup=False
        )
    for note in trained.notes:
        ERR.print(f"note: {note}", markup=False)
    OUT.print(trained.summary, markup=False)


def _run(
    city: City,
    recipe: "Recipe | None",
    epochs: int | None,
    minutes: float | None,
    options: "RunOptions",
) -> "Trained | None":
    """Trains by a recipe, or resumes the last training where it is None, in all processes of `torchrun`.

    Returns None in all but the first one, which alone prints.
    """
    from app.cli.progress import show_training, stopping_on_interrupt
    from data.store.store import Store
    from forecasting.training.distributed import joined
    from pipelines.train.city import resume
    from pipelines.train.city import train as start

    with (
        stopping_on_interrupt() as stop,
        joined(options.computing.device) as (group, device),
        quiet(not group.first),
    ):
        computing = replace(options.computing, device=device.type)
        options = replace(options, computing=computing, group=group, stop=stop)
        if recipe is None:
            return show_training(
                resume(Store(), city, epochs=epochs, minutes=minutes, options=options)
            )
        return show_training(start(Store(), city, recipe, options=options))
