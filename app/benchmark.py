"""`forecast benchmark`: networks on datasets, tables, costs and experiments."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from app.console import ERR, OUT

app = typer.Typer(
    no_args_is_help=True,
    help="Networks on the benchmarks of the field: runs, tables, costs, experiments.",
)

NetworkOption = Annotated[
    str,
    typer.Option(help="swinlstm-b, swinlstm-d, convlstm, simvp, predformer or st-resnet."),
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
        bool, typer.Option("--resume", help="Go on after the last finished epoch.")
    ] = False,
) -> None:
    """Trains a network on a dataset, selects on validation, tests, and writes a folder.

    In it: result.json, samples.png, samples.gif, learning-curve.png and the chosen weights. Ctrl-C
    stops after the batch at hand; --resume goes on, with the same result.
    """
    from app.benchmark_files import result_lines, write_pictures
    from app.progress import show_benchmark, stopping_on_interrupt
    from pipelines import benchmark
    from pipelines.benchmark_plan import plan

    planned = plan(dataset, network, scale, _pairs(settings or []), seed)
    with stopping_on_interrupt() as stop:
        finished = show_benchmark(
            benchmark.run(planned, data, out, device=device, resume=resume, stop=stop)
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
    from data.files import write_whole
    from pipelines.benchmark_table import as_csv, as_markdown
    from pipelines.benchmark_table import table as join

    joined = join(folders)
    for path, text in ((csv, as_csv(joined)), (markdown, as_markdown(joined))):
        if path is not None:
            with write_whole(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            ERR.print(f"wrote {path}", markup=False)
    OUT.print(as_markdown(joined), markup=False, end="")


@app.command()
def cost(
    networks: Annotated[str, typer.Option(help="Names with commas between; all by default.")] = "",
    grids: Annotated[str, typer.Option(help="Sides of square frames.")] = "32,64,128,256",
    scale: ScaleOption = "quick",
    history: Annotated[int, typer.Option(min=1, help="Frames that are seen.")] = 10,
    horizon: Annotated[int, typer.Option(min=1, help="Frames that are forecast.")] = 10,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for JSON, table and plot.")] = None,
) -> None:
    """Measures time and memory of networks side by side over grids, on this machine."""
    from app.benchmark_files import write_cost
    from forecasting.models import NETWORKS
    from pipelines.benchmark_cost import cost_markdown, costs

    try:
        sides = [int(side) for side in grids.split(",")]
        if min(sides) < 4:
            raise ValueError
    except ValueError as error:
        raise typer.BadParameter(
            f"--grids {grids!r} is no list like 32,64,128, each 4 or more"
        ) from error
    names = [name.strip() for name in networks.split(",")] if networks else list(NETWORKS)
    rows = []
    for row in costs(names, sides, scale=scale, history=history, horizon=horizon, device=device):
        rows.append(row)
        ERR.print(f"{row.network} {row.side}x{row.side} measured", markup=False)
    OUT.print(cost_markdown(rows), markup=False, end="")
    if out is not None:
        for path in write_cost(out, rows):
            ERR.print(f"wrote {path}", markup=False)


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
    from app.benchmark_files import drawn, write_experiment
    from app.progress import show_experiment, stopping_on_interrupt
    from pipelines.experiments import experiment as start

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
    from forecasting.models import write_network
    from forecasting.models.convert import convert_authors_weights

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
