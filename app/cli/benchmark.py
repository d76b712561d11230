"""`forecast benchmark`: networks on datasets, tables, costs and experiments."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ERR, OUT
from data.errors import FlowcastError
from forecasting.networks import networks_help

app = typer.Typer(
    no_args_is_help=True,
    help="Networks on the benchmarks of the field: runs, tables, costs, experiments.",
)

NetworkOption = Annotated[
    str,
    typer.Option(help=networks_help() + "."),
]
ScaleOption = Annotated[
    str,
    typer.Option(help="quick: minutes on two cores; paper: the published sizes, for a GPU."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A size of the network (patch=4), training.FIELD or data.FIELD; repeatable.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@app.command()
def run(
    dataset: Annotated[
        str, typer.Option(help="moving-mnist, kth, human36m, taxibj or simulated-city.")
    ],
    network: NetworkOption,
    scale: ScaleOption = "quick",
    settings: SetOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the dataset's files; datasets/NAME of the home by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; benchmarks/... by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of all chance.")] = 0,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from where the run was last kept.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="Of matrix products in training: float32 or bfloat16.")
    ] = "float32",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Let torch compile the network first, which takes minutes."),
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Less memory for about a third more time.")
    ] = False,
) -> None:
    """Trains a network on a dataset, selects on validation, tests, and writes a folder.

    In it: result.json, samples.png, samples.gif, learning-curve.png and the chosen weights. Ctrl-C
    stops after the batch at hand; --resume goes on, with the same result.
    """
    from app.cli.progress import show_benchmark, stopping_on_interrupt
    from app.report.benchmark import result_lines, write_pictures
    from forecasting.training.hardware import Computing
    from pipelines.benchmark import run
    from pipelines.benchmark.plan import plan

    planned = plan(dataset, network, scale, _pairs(settings or []), seed)
    try:
        computing = Computing(device, precision, compiled, recompute)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with stopping_on_interrupt() as stop:
        finished = show_benchmark(
            run.run(planned, data, out, computing=computing, resume=resume, stop=stop)
        )
    write_pictures(finished)
    for line in result_lines(finished):
        OUT.print(line, markup=False)


@app.command()
def table(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
) -> None:
    """Joins the results of runs into one table, the published figures beside them, marked so."""
    from data.files import atomic_write
    from pipelines.benchmark.table import as_csv, as_markdown
    from pipelines.benchmark.table import table as join

    joined = join(folders)
    for path, text in ((csv, as_csv(joined)), (markdown, as_markdown(joined))):
        if path is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            ERR.print(f"wrote {path}", markup=False)
    OUT.print(as_markdown(joined), markup=False, end="")


@app.command()
def cost(
    networks: Annotated[str, typer.Option(help="Names with commas between; all by default.")] = "",
    along: Annotated[
        str, typer.Option(help="What is varied: grid,history,horizon,cities; all by default.")
    ] = "",
    grids: Annotated[str, typer.Option(help="Sides of square frames.")] = "16,32,64,128",
    scale: ScaleOption = "quick",
    history: Annotated[int, typer.Option(min=1, help="Frames seen where not varied.")] = 10,
    horizon: Annotated[int, typer.Option(min=1, help="Frames forecast where not varied.")] = 10,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for JSON, table and plot.")] = None,
) -> None:
    """Measures how time and memory grow: with the grid, the frames seen and forecast, the cities.

    Networks stand side by side over grids; all else is for swinlstm-b on 32x32 cells. A round of
    cities is what the scheduler does: each city's archive is read, its forecast made and stored.
    """
    from app.report.benchmark import write_cost
    from forecasting.networks import NETWORKS
    from pipelines.benchmark.growth import AXES, growth_markdown, growths

    try:
        sides = [int(side) for side in grids.split(",")]
        if min(sides) < 4:
            raise ValueError
    except ValueError as error:
        raise typer.BadParameter(
            f"--grids {grids!r} is no list like 32,64,128, each 4 or more"
        ) from error
    rows = []
    for row in growths(
        _names(along) or tuple(AXES),
        _names(networks) or tuple(NETWORKS),
        sides,
        scale=scale,
        history=history,
        horizon=horizon,
        device=device,
        precision=precision,
    ):
        rows.append(row)
        ERR.print(f"{row.label} measured", markup=False)
    OUT.print(growth_markdown(rows), markup=False, end="", soft_wrap=True)
    if out is not None:
        for path in write_cost(out, rows):
            ERR.print(f"wrote {path}", markup=False)
    _refuse([f"{row.label}: {row.failed}" for row in rows if row.failed])


@app.command()
def speed(
    parts: Annotated[
        str, typer.Option(help="forecast,training,start,feed,prepare,evaluate; all by default.")
    ] = "",
    cases: Annotated[
        str,
        typer.Option(help="p4w8 (the paper's for TaxiBJ), p2w4 (as for images); both by default."),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds.")] = 5,
    threads: Annotated[
        int, typer.Option(min=1, help="Of a process that has the machine for itself.")
    ] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="Everything tiny: a first look, no figures to quote.")
    ] = False,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for speed.json and its table; benchmarks/speed ...")
    ] = None,
) -> None:
    """Measures speed and memory as ratios against plain references, side by side on this machine.

    The reference for SwinLSTM is the same network in plain float32 PyTorch, as the paper draws it.
    """
    from forecasting.training.hardware import pick_device
    from pipelines.benchmark.speed.suite import (
        SpeedPlan,
        default_folder,
        measure,
        missed,
        write_speed,
    )

    plan = SpeedPlan(
        _names(parts),
        _names(cases),
        rounds,
        0.05 if quick else 0.5,
        pick_device(device).type,
        1 if quick else threads,
        quick,
    )
    machine, contests = measure(plan)
    figures = []
    for found in contests:
        figures += found
        ERR.print(f"{found[0].part}, {found[0].case}: measured", markup=False)
    *paths, table = write_speed(out or default_folder(), plan, machine, figures)
    OUT.print(table.read_text(encoding="utf-8"), markup=False, end="", soft_wrap=True)
    for line in missed(figures):
        ERR.print(f"not reached: {line}", markup=False)
    for path in (*paths, table):
        ERR.print(f"wrote {path}", markup=False)
    _refuse(
        [f"{one.part}, {one.case}, {one.contender}: {one.failed}" for one in figures if one.failed]
    )


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(help="cell, patch, reconstruction, gate, robustness or cost."),
    ],
    scale: ScaleOption = "quick",
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET=DIR", help="Where a dataset's files are; repeatable."),
    ] = None,
    settings: SetOption = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each, seeds 0, 1 ...")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the outcome; benchmarks/experiments/... by default."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Runs an experiment: its runs, a table and a plot. Runs that are finished are taken as they are.

    A setting may be meant for the runs on one dataset: --set kth:data.size=64.
    """
    from app.cli.progress import show_experiment, stopping_on_interrupt
    from app.report.benchmark import drawn, write_experiment
    from pipelines.benchmark.experiments import experiment as start

    folders = {key: Path(value) for key, value in _pairs(data or []).items()}
    with stopping_on_interrupt() as stop:
        outcome = show_experiment(
            drawn(
                start(
                    name,
                    scale,
                    data=folders,
                    settings=_pairs(settings or []),
                    seeds=seeds,
                    out=out,
                    device=device,
                    stop=stop,
                )
            )
        )
    for path in write_experiment(outcome):
        ERR.print(f"wrote {path}", markup=False)
    OUT.print((outcome.folder / "table.md").read_text(encoding="utf-8"), markup=False, end="")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A file of torch.save: a bare state dict.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    grid: Annotated[
        str, typer.Option(help="Rows x columns of a frame, where the file does not tell.")
    ] = "",
) -> None:
    """Converts weights as the authors of SwinLSTM publish them to safetensors, to be loaded here.

    The only place that opens a file of torch.save: with weights_only=True, which takes tensors and
    plain containers and refuses every other object. Open none that you do not trust all the same.
    """
    from data.city import parse_grid
    from forecasting.networks import write_network
    from forecasting.networks.authors_weights.convert import convert_authors_weights

    try:
        cells = parse_grid(grid) if grid else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    done = convert_authors_weights(source, target, cells)
    OUT.print(
        f"{target}: {done.network}, {done.parameters:,} parameters; the file also held "
        f"{done.unused:,} that the authors' network never uses",
        markup=False,
    )
    OUT.print(write_network(done.network, done.config), markup=False)


def _names(text: str) -> tuple[str, ...]:
    """Returns the names in a list with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _refuse(failed: Sequence[str]) -> None:
    """Ends with a sentence where something could not be measured."""
    if failed:
        raise FlowcastError(
            f"{len(failed)} of the figures could not be measured, first {failed[0]}"
        )


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """Returns `key=value` texts as a mapping."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE")
        if key in pairs:
            raise typer.BadParameter(f"{key} is set twice")
        pairs[key] = value
    return pairs
