"""`forecast benchmark`: networks on datasets, tables, costs, speed and experiments."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import (
    CompileOption,
    DeviceOption,
    PrecisionOption,
    RecomputeOption,
    names_in,
    option,
)
from app.terminal import ERR, OUT
from data.errors import FlowcastError, check_known
from forecasting.benchmarks import DATASETS
from forecasting.networks import networks_help

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Compare networks on the benchmarks of the field: runs, tables, costs, speed, experiments.",
)


ScaleOption = Annotated[
    str,
    typer.Option(help="One of quick (minutes on two cores), paper (published sizes, for a GPU)."),
]
SetOption = Annotated[
    list[str] | None,
    option(
        "KEY=VALUE",
        "Set a size of the network (patch=4), training.FIELD or data.FIELD. Repeatable.",
        "none",
        "--set",
    ),
]


@app.command()
def run(
    network: Annotated[str, typer.Option(help=f"Train this network. {networks_help()}.")],
    dataset: Annotated[
        str, option("NAME", f"Train on one of {', '.join(DATASETS)}.", "array, a file by --data")
    ] = "",
    scale: ScaleOption = "quick",
    settings: SetOption = None,
    data: Annotated[
        Path | None,
        option(
            "PATH",
            "Read the dataset from this folder, or an own one from FILE.npz, .npy or .h5.",
            "datasets/NAME of the home",
        ),
    ] = None,
    out: Annotated[
        Path | None, option("DIR", "Write the results here.", "benchmarks/... of the home")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Random seed of weights, batch order and data.")
    ] = 0,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its checkpoint.")
    ] = False,
    precision: PrecisionOption = "float32",
    compiled: CompileOption = False,
    recompute: RecomputeOption = False,
) -> None:
    """Train a network on a dataset, select the epoch on validation, test it, write a folder.

    It holds result.json, samples.png, samples.gif, learning-curve.png and the chosen weights. Ctrl-C
    stops after the batch at hand; --resume continues, with the same result.

    An own dataset is an array (frame, channel, y, x), or (sequence, frame, channel, y, x), in the order
    of time: the only array of its file, or the one named "data".
    """
    from app.cli.progress import show_benchmark, stopping_on_interrupt
    from app.report.benchmark import result_lines, write_pictures
    from forecasting.training.hardware import PRECISIONS, Computing
    from pipelines.benchmark import run
    from pipelines.benchmark.plan import plan

    if not dataset and data is None:
        raise typer.BadParameter("name a dataset by --dataset, or an own file by --data FILE")
    check_known("precision", [precision], PRECISIONS)
    planned = plan(dataset or "array", network, scale, _pairs(settings), seed)
    computing = Computing(device, precision, compiled, recompute)
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
    csv: Annotated[Path | None, option("FILE", "Write the table as CSV.")] = None,
    markdown: Annotated[Path | None, option("FILE", "Write the table as Markdown.")] = None,
) -> None:
    """Join the results of runs into one table, with the published figures, marked as such."""
    from data.files import write_text
    from pipelines.benchmark.table import as_csv, as_markdown
    from pipelines.benchmark.table import table as join

    joined = join(folders)
    for path, text in ((csv, as_csv(joined)), (markdown, as_markdown(joined))):
        if path is not None:
            write_text(path, text)
            _wrote([path])
    OUT.print(as_markdown(joined), markup=False, end="")


@app.command()
def cost(
    networks: Annotated[str, option("NAMES", "Measure these networks.", "all")] = "",
    along: Annotated[str, option("NAMES", "Vary grid, history, horizon or cities.", "all")] = "",
    grids: Annotated[
        str, typer.Option(metavar="SIDES", help="Vary the grid over square frames of these sides.")
    ] = "16,32,64,128",
    scale: ScaleOption = "quick",
    history: Annotated[int, typer.Option(min=1, help="Frames seen where not varied.")] = 10,
    horizon: Annotated[int, typer.Option(min=1, help="Frames forecast where not varied.")] = 10,
    precision: PrecisionOption = "float32",
    device: DeviceOption = "auto",
    out: Annotated[Path | None, option("DIR", "Write JSON, table and plot to this folder.")] = None,
) -> None:
    """Measure how time and memory grow with the grid, the frames seen and forecast, the cities.

    All networks are measured over grids, the default one along the other axes, on 32x32 cells. A round
    of cities is what the scheduler does: each archive is read, its forecast made and stored.
    """
    from app.report.benchmark import write_cost
    from forecasting.networks import NETWORKS
    from pipelines.benchmark.cost import AXES, cost_markdown, costs

    sides = [int(side) if side.strip().isdecimal() else 0 for side in grids.split(",")]
    if min(sides) < 4:
        raise typer.BadParameter(f"--grids {grids!r} is no list like 32,64,128, each 4 or more")
    fixed: dict[str, Any] = {"scale": scale, "history": history, "horizon": horizon}
    fixed |= {"device": device, "precision": precision}
    rows = []
    for row in costs(names_in(along) or [*AXES], names_in(networks) or [*NETWORKS], sides, **fixed):
        rows.append(row)
        ERR.print(f"{row.label} measured", markup=False)
    OUT.print(cost_markdown(rows), markup=False, end="", soft_wrap=True)
    if out is not None:
        _wrote(write_cost(out, rows))
    _refuse([f"{row.label}: {row.failed}" for row in rows if row.failed])


@app.command()
def speed(
    parts: Annotated[
        str,
        option("NAMES", "Measure forecast, training, start, feed, prepare or evaluate.", "all"),
    ] = "",
    cases: Annotated[
        str,
        option("NAMES", "Measure p4w8 (the paper's for TaxiBJ) or p2w4 (as for images).", "both"),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds.")] = 5,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of a process that has the machine for itself.")
    ] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make everything tiny: no figures to quote.")
    ] = False,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        option("DIR", "Write speed.json and its table here.", "benchmarks/speed of the home"),
    ] = None,
) -> None:
    """Measure speed and memory as ratios to references, in turns on this machine.

    The reference for SwinLSTM is the same network in straightforward float32 PyTorch, as the paper draws it.
    """
    from data.paths import benchmarks_folder
    from forecasting.profiling.machine import machine
    from forecasting.training.hardware import pick_device
    from pipelines.benchmark.speed.cases import SpeedPlan
    from pipelines.benchmark.speed.harness import Figure, measure_case
    from pipelines.benchmark.speed.table import missed, write_speed

    named, place = (tuple(names_in(parts)), tuple(names_in(cases))), pick_device(device).type
    seconds, threads = (0.05, 1) if quick else (0.5, threads)
    plan = SpeedPlan(*named, rounds, seconds, place, threads, quick)
    found = machine(plan.device, plan.threads)
    figures: list[Figure] = []
    for case in plan.works():
        figures += measure_case(case, plan.rounds, plan.seconds)
        ERR.print(f"{case.part}, {case.case}: measured", markup=False)
    paths = write_speed(out or benchmarks_folder() / "speed", plan, found, figures)
    OUT.print(paths[-1].read_text(encoding="utf-8"), markup=False, end="", soft_wrap=True)
    for line in missed(figures):
        ERR.print(f"not reached: {line}", markup=False)
    _wrote(paths)
    _refuse([f"{one.name}: {one.failed}" for one in figures if one.failed])


@app.command()
def experiment(
    name: Annotated[
        str, typer.Argument(help="One of cell, patch, reconstruction, gate, robustness.")
    ],
    scale: ScaleOption = "quick",
    data: Annotated[
        list[str] | None,
        option(
            "DATASET=DIR",
            "Read a dataset from this folder. Repeatable.",
            "datasets/NAME of the home",
        ),
    ] = None,
    settings: SetOption = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Make each run with the seeds 0, 1 ...")
    ] = 1,
    out: Annotated[
        Path | None,
        option("DIR", "Write the outcome here.", "benchmarks/experiments/... of the home"),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Run an experiment: its runs, a table and a plot. Finished runs are taken as they are.

    A setting may be for the runs on one dataset: --set kth:data.size=64.
    """
    if name == "cost":  # its name before `benchmark cost` had all axes
        ERR.print("experiment cost is now: forecast benchmark cost")
        cost(along="grid", scale=scale, grids="32,64,128,256", device=device, out=out)
        return
    from app.cli.progress import show_experiment, stopping_on_interrupt
    from app.report.benchmark import drawn, write_experiment
    from pipelines.benchmark.experiments import experiment as start

    folders = {key: Path(value) for key, value in _pairs(data).items()}
    run: dict[str, Any] = {"data": folders, "settings": _pairs(settings), "seeds": seeds}
    with stopping_on_interrupt() as stop:
        events = start(name, scale, **run, out=out, device=device, stop=stop)
        outcome = show_experiment(drawn(events))
    _wrote(write_experiment(outcome))
    OUT.print((outcome.folder / "table.md").read_text(encoding="utf-8"), markup=False, end="")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A file of torch.save: a bare state dict.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    grid: Annotated[str, option("ROWSxCOLUMNS", "Cells of a frame.", "as the file says")] = "",
) -> None:
    """Convert weights that the authors of SwinLSTM publish to safetensors.

    The only place that opens a file of torch.save: with weights_only=True, which takes tensors and
    simple containers and refuses every other object. Open only files that you trust all the same.
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
        f"{target}: {done.network}, {done.parameters:,} parameters; left out {done.unused:,} that the "
        f"authors' network never uses",
        markup=False,
    )
    OUT.print(write_network(done.network, done.config), markup=False)


def _wrote(paths: Sequence[Path]) -> None:
    for path in paths:
        ERR.print(f"wrote {path}", markup=False)


def _refuse(failed: Sequence[str]) -> None:
    """Ends with a sentence where something could not be measured."""
    if failed:
        raise FlowcastError(
            f"{len(failed)} of the figures could not be measured, first {failed[0]}"
        )


def _pairs(texts: Iterable[str] | None) -> dict[str, str]:
    """Returns `key=value` texts as a mapping."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not of the form KEY=VALUE")
        if key in pairs:
            raise typer.BadParameter(f"{key} is set twice")
        pairs[key] = value
    return pairs
