"""The cases of the benchmark of speed: the work of each, in which ways, and what is required of them.

All ways of a case have the same weights, drawn from one seed, and see the same frames.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import count, cycle, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from data import windows
from data.city import City
from data.errors import FlowcastError, check_known
from data.flow import label, split
from data.paths import models_root
from data.store.store import Store
from forecasting.history import History
from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from forecasting.onnx_export.export import export
from forecasting.profiling import cost
from forecasting.registry.versions import load_version
from forecasting.rollout.onnx_rollout import OnnxRollout
from forecasting.training.batches import FrameWindows, cut_windows
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Batch, fit
from forecasting.training.state import TrainingConfig, TrainingState
from pipelines.benchmark.speed.city import temporary_home
from pipelines.benchmark.speed.harness import Case, Variant, Work, memory_from_now
from pipelines.benchmark.speed.reference import Reference
from pipelines.evaluate.evaluation import evaluate
from pipelines.forecast.live import forecast

HISTORY, HORIZON = 4, 4
LENGTH = HISTORY + HORIZON
MAX_STEPS = 10_000
"""Steps of the epoch that a training lasts at most."""
BATCHES = 20
"""Batches of one run of a feed."""
CITY_WEEKS, STACK = 8, 64
HALF_HOUR = np.timedelta64(30, "m")
CASES = {
    "p4w8": SwinLSTMConfig(),
    "p2w4": SwinLSTMConfig(patch=2, window=4),
}
"""TaxiBJ's shape as the paper has it, in one window; and with shifted windows, as for images."""
TINY: dict[str, Any] = {"grid": (16, 16), "width": 16, "heads": (2,), "depths": (2,)}
"""Sizes of a case with `--quick`."""
REFERENCE = "reference, float32"
PAIR, IN_PAIRS = 2, " (2 workers of 1 thread)"
FORECASTS: dict[tuple[str, int, str, int], float] = {
    ("p4w8", 1, "float32", 1): 2.2,
    ("p4w8", 1, "int8", 1): 3.2,
    ("p2w4", 1, "float32", 1): 1.5,
    ("p2w4", 1, "int8", 1): 2.5,
    ("p2w4", 16, "float32", 2): 1.8,
    ("p2w4", 16, "int8", 2): 2.5,
}
"""Required speed of a forecast, in times the reference's: by case, batch, precision and workers."""


class Setting(NamedTuple):
    """A network's configuration, sequences at once, `cpu` or `cuda`, threads of the CPU."""

    config: SwinLSTMConfig
    batch: int
    device: str = "cpu"
    threads: int = 1

    def place(self) -> torch.device:
        """Returns the device, and sets the threads."""
        torch.set_num_threads(self.threads)
        return pick_device(self.device)


@dataclass(frozen=True)
class SpeedPlan:
    """What is measured: keys in `PARTS` and `CASES`, all where none is named."""

    parts: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    rounds: int = 7  # that count
    seconds: float = 0.5  # for which each way works at least in a round
    device: str = "cpu"  # or `cuda`: of forecasting and training by torch
    threads: int = 2
    quick: bool = False  # whether everything is tiny: a first look, and no figure to quote

    def __post_init__(self) -> None:
        check_known("part", self.parts, PARTS)
        check_known("case", self.cases, CASES)

    def works(self) -> Iterator[Case]:
        """Yields the cases of all parts; of tiny work nothing is required."""
        for part in self.parts or PARTS:
            for case in PARTS[part](self):
                free = [replace(one, speed=None, memory=None) for one in case.variants]
                yield case._replace(variants=free) if self.quick else case

    def settings(self, *batches: int) -> Iterator[tuple[str, Setting]]:
        """Yields each case with each batch; where all is tiny, the last case with the first."""
        cases = self.cases or tuple(CASES)
        if self.quick:
            cases, batches = cases[-1:], batches[:1]
        for case, batch in product(cases, batches):
            config = replace(CASES[case], **TINY) if self.quick else CASES[case]
            yield case, Setting(config, batch, self.device, self.threads)

    @property
    def archive(self) -> "NoiseArchive":
        """What windows are made of."""
        return NoiseArchive(600, 8, 100) if self.quick else NoiseArchive()


# Networks


def ours(config: SwinLSTMConfig) -> SwinLSTM:
    """Returns the package's network with the weights of all cases."""
    torch.manual_seed(0)
    network = SwinLSTM(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.dim() < 2 or name.endswith("attention.bias"):
                value.add_(0.1 * torch.randn_like(value))  # else they start as 0 or 1 and hide
    return network


def reference(config: SwinLSTMConfig) -> Reference:
    """Returns the reference with the same weights."""
    network = Reference(config)
    network.load_state_dict(ours(config).state_dict())
    return network


def frames_of(setting: Setting, length: int) -> Tensor:
    """Returns random frames `(b, length, c, y, x)` in [0, 1], the same in all ways, on the CPU."""
    shape = (setting.batch, length, setting.config.channels, *setting.config.grid)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@cache
def _multiply_adds(config: SwinLSTMConfig, trained: bool) -> int:
    """Returns the multiply-adds of one sequence by the reference."""
    past = torch.rand(1, HISTORY, config.channels, *config.grid)
    counted = cost.training_multiply_adds if trained else cost.multiply_adds
    return counted(Reference(config), past, HORIZON)


def _work(
    setting: Setting,
    run: Callable[[], Any],
    precision: str,
    trained: bool,
    place: torch.device | None = None,
) -> Work:
    """Returns work on a network, profiled where torch computes on `place`."""
    facts = {"precision": precision, "multiply_adds": _multiply_adds(setting.config, trained)}
    output = None if trained else run()
    if place is None:
        return Work(run, setting.batch, output, None, facts)
    memory = (lambda: cost.peak_memory(place)) if place.type == "cuda" else None
    return Work(run, setting.batch, output, memory, facts, lambda: cost.profile(run, place))


def forecast_by_torch(setting: Setting, build: Callable[[SwinLSTMConfig], nn.Module]) -> Work:
    """Returns forecasts by a network of torch."""
    place = setting.place()
    network = build(setting.config).to(place).eval()
    past = frames_of(setting, HISTORY).to(place)

    def run() -> np.ndarray:
        with torch.inference_mode():
            forecast: np.ndarray = network(past, HORIZON)[:, -HORIZON:].cpu().numpy()
            return forecast

    return _work(setting, run, "float32", False, place)


def forecast_by_onnx(setting: Setting, precision: str) -> Work:
    """Returns forecasts by the package's network as it is exported, without torch."""
    torch.set_num_threads(setting.threads)
    exported = export("swinlstm-b", ours(setting.config), setting.config, precision)
    rollout = OnnxRollout.open(exported.model, HISTORY, threads=setting.threads)
    past = frames_of(setting, HISTORY).numpy()
    return _work(setting, lambda: rollout(past, HORIZON), precision, False)


def train_reference(setting: Setting) -> Work:
    """Returns training steps of the reference: Adam, float32, eager."""
    place = setting.place()
    network = reference(setting.config).to(place).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    frames = frames_of(setting, LENGTH).to(place)

    def step() -> None:
        loss = F.mse_loss(network(frames[:, :HISTORY], HORIZON), frames[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return _work(setting, step, "float32", True, place)


def train_ours(setting: Setting, computing: Computing) -> Work:
    """Returns steps of the package's training; the device is the setting's."""
    place = setting.place()
    config = TrainingConfig(1, None, HISTORY, HORIZON, setting.batch, learning_rate=1e-4)
    state = TrainingState.start(lambda: ours(setting.config), config, place)
    frames = frames_of(setting, LENGTH).flatten(0, 1).numpy()
    starts = np.tile(np.arange(setting.batch) * LENGTH, MAX_STEPS)
    source = cut_windows(frames, starts, HISTORY, HORIZON, place)
    events = fit(state, source, lambda _: 0.0, replace(computing, device=place.type))

    def step() -> None:
        next(event for event in events if isinstance(event, Batch))
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return _work(setting, step, computing.precision, True, place)


def forecasts(plan: SpeedPlan) -> Iterator[Case]:
    """Yields cases of forecasting, 4 frames from 4."""
    for case, setting in plan.settings(1, 16):
        variants = [
            Variant(REFERENCE, partial(forecast_by_torch, setting, reference)),
            Variant("torch, float32", partial(forecast_by_torch, setting, ours)),
        ]
        if plan.device == "cpu":
            variants += by_onnx(case, setting, 1)
        if plan.device == "cpu" and (setting.batch > 1 or plan.quick):
            one = setting._replace(threads=1)
            prepare = partial(forecast_by_torch, one, reference)
            variants.append(Variant(REFERENCE + IN_PAIRS, prepare, PAIR))
            variants += by_onnx(case, one, PAIR)
        yield Case("forecast", f"{case}, batch {setting.batch}", "sequences", variants)


def by_onnx(case: str, setting: Setting, workers: int) -> Iterator[Variant]:
    """Yields the forecasts of a case by ONNX Runtime."""
    for precision in ("float32", "int8"):
        name = f"ONNX Runtime, {precision}{IN_PAIRS * (workers == PAIR)}"
        required = FORECASTS.get((case, setting.batch, precision, workers))
        yield Variant(name, partial(forecast_by_onnx, setting, precision), workers, required)


def trainings(plan: SpeedPlan) -> Iterator[Case]:
    """Yields cases of training, 4 frames from 4: a step with its update of the weights."""
    low, on_cpu = Computing(precision="bfloat16"), plan.device == "cpu"
    ways = {
        "ours, float32": Computing(),
        "ours, bfloat16": low,
        "ours, bfloat16, recomputed": replace(low, recompute=True),
        "ours, bfloat16, compiled": replace(low, compiled=True),
    }
    if plan.quick:
        ways.popitem()  # a minute to compile
    judged = "ours, bfloat16" if on_cpu else "ours, bfloat16, compiled"
    for case, setting in plan.settings(*((16,) if on_cpu else (16, 64))):
        variants = [Variant(REFERENCE, partial(train_reference, setting))]
        for name, computing in ways.items():
            required = case == "p2w4" and name == judged
            speed, memory = (1.5 if on_cpu else 8.0, 0.6) if required else (None, None)
            prepare = partial(train_ours, setting, computing)
            variants.append(Variant(name, prepare, speed=speed, memory=memory))
        yield Case("training", f"{case}, batch {setting.batch}", "sequences", variants)


# The start of a process: from its command to the first forecast

SCRIPT = """
import json, sys
folder, fields = sys.argv[1], json.load(open(sys.argv[1] + "/config.json"))
{body}
from forecasting.profiling.memory import peak_memory_of_process
print(peak_memory_of_process())
"""
BY_REFERENCE = """
import torch
from safetensors.torch import load_file
from forecasting.networks import config_of
from pipelines.benchmark.speed.reference import Reference
network = Reference(config_of("swinlstm-b", fields)).eval()
network.load_state_dict(load_file(folder + "/weights.safetensors"))
past = torch.rand(1, 4, fields["channels"], *fields["grid"])
with torch.inference_mode():
    forecast = network(past, 4)[:, -4:].numpy()
"""
BY_ONNX = """
import numpy as np
from forecasting.rollout.onnx_rollout import OnnxRollout
rollout = OnnxRollout.open(folder + "/network.onnx", 4)
shape = (1, 4, fields["channels"], *fields["grid"])
forecast = rollout(np.random.default_rng(0).random(shape, dtype=np.float32), 4)
"""


def start(config: SwinLSTMConfig, body: str) -> Work:
    """Returns starts of a process that forecasts by a script."""
    folder = tempfile.TemporaryDirectory(prefix="flowcast-")
    here = Path(folder.name)
    (here / "config.json").write_text(json.dumps(asdict(config)))
    (here / "network.onnx").write_bytes(export("swinlstm-b", ours(config), config).model)
    save_file(reference(config).state_dict(), here / "weights.safetensors")
    peaks: list[int] = []

    def run() -> None:
        command = [sys.executable, "-c", SCRIPT.format(body=body), folder.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FlowcastError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        peaks.append(int(done.stdout))

    return Work(run, memory=lambda: max(peaks))


def starts(plan: SpeedPlan) -> Iterator[Case]:
    """Yields the cases of cold processes."""
    for case, setting in plan.settings(1):
        variants = (
            Variant(REFERENCE, partial(start, setting.config, BY_REFERENCE)),
            Variant("ONNX Runtime, float32", partial(start, setting.config, BY_ONNX)),
        )
        yield Case("start", f"{case}, from command to forecast", "starts", variants)


# Windows of a long archive: prepared, and fed in random order


class NoiseArchive(NamedTuple):
    """Noise in half-hour slots of 2 channels; TaxiBJ's four parts hold 22,484 slots."""

    slots: int = 22_000  # without those that are missing
    side: int = 32
    gap: int = 500  # one slot is missing after every so many

    def flow(self) -> xr.DataArray:
        """Returns the archive as the store gives it."""
        shape = (self.slots, 2, self.side, self.side)
        vehicles = np.random.default_rng(0).random(shape, dtype=np.float32)
        number = np.arange(self.slots) + np.arange(self.slots) // self.gap
        time = np.datetime64("2015-01-01", "s") + number * HALF_HOUR
        city = City("noise", "Noise", "UTC", HALF_HOUR, (self.side, self.side))
        return label(vehicles, time, city)

    def __str__(self) -> str:
        return f"{self.slots:,} slots of 2x{self.side}x{self.side}"


def windows_by_position(flow: xr.DataArray) -> FrameWindows:
    """Returns all whole windows of a flow, the package's way: where each window's slots are."""
    lags = np.arange(HISTORY - 1, -1, -1)
    init_times = windows.whole(flow, lags.tolist(), HORIZON)
    offsets = -lags, np.arange(1, HORIZON + 1)
    past, future = (torch.from_numpy(windows.positions(flow, init_times, one)) for one in offsets)
    return FrameWindows(torch.from_numpy(flow.values), past, future, torch.device("cpu"))


def windows_one_by_one(flow: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same in the field's way: each window is checked and copied, then all are stacked."""
    vehicles, time = flow.values, flow["time"].values
    past, future = [], []
    for start in range(len(time) - LENGTH + 1):
        if (np.diff(time[start : start + LENGTH]) == HALF_HOUR).all():
            past.append(vehicles[start : start + HISTORY].copy())
            future.append(vehicles[start + HISTORY : start + LENGTH].copy())
    return np.stack(past), np.stack(future)


def preparation(archive: NoiseArchive, prepare: Callable[[xr.DataArray], object]) -> Work:
    """Returns preparations of all windows."""
    flow = archive.flow()
    return Work(lambda: prepare(flow), archive.slots, memory=memory_from_now())


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """The same windows as the field feeds them: one item a window, made of an array of vehicles."""

    def __init__(self, flow: xr.DataArray) -> None:
        self.vehicles, self.starts = flow.values, windows_by_position(flow).past[:, 0].tolist()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        window = self.vehicles[self.starts[at] :][:LENGTH]
        return torch.tensor(window[:HISTORY]).float(), torch.tensor(window[HISTORY:]).float()


def feed(archive: NoiseArchive, batch: int, workers: int | None) -> Work:
    """Returns batches by torch's DataLoader with so many worker processes, or by index if None."""
    torch.set_num_threads(1)
    fed: Iterator[Any]
    if workers is None:
        source, size = windows_by_position(archive.flow()), BATCHES * batch
        orders = (torch.randperm(len(source))[:size].split(batch) for _ in count())
        fed = (source.take(index) for order in orders for index in order)
    else:
        options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
        dataset = WindowDataset(archive.flow())
        loader = DataLoader(dataset, batch, shuffle=True, drop_last=True, **options)
        fed = (one for _ in count() for one in loader)

    def run() -> None:
        for _ in range(BATCHES):
            next(fed)

    return Work(run, BATCHES * batch)


def feeds(plan: SpeedPlan) -> Iterator[Case]:
    """Yields cases of feeding windows of 4 + 4 frames in random order."""
    for batch in (16,) if plan.quick else (16, 64):
        variants = (
            Variant("DataLoader, 2 worker processes", partial(feed, plan.archive, batch, 2)),
            Variant("DataLoader, none", partial(feed, plan.archive, batch, 0)),
            Variant("ours", partial(feed, plan.archive, batch, None), speed=15.0),
        )
        yield Case("feed", f"{plan.archive}, batch {batch}", "windows", variants)


def preparations(plan: SpeedPlan) -> Iterator[Case]:
    """Yields the case of making windows of an archive."""
    position = partial(preparation, plan.archive, windows_by_position)
    variants = (
        Variant("window by window", partial(preparation, plan.archive, windows_one_by_one)),
        Variant("ours", position, speed=20.0, memory=0.1),
    )
    yield Case("prepare", str(plan.archive), "slots", variants)


# Evaluating a city's champion


def evaluation(side: int, way: str) -> Work:
    """Returns work on the windows of a city's test span, in a temporary home, this process's own.

    The way is `pipeline`, a live forecast a window; `window` or `stack`, forecasts of one or many windows
    with archive and model at hand; or `evaluate`, all of `forecast evaluate`.
    """
    torch.set_num_threads(1)
    (city,) = temporary_home(1, side, CITY_WEEKS)
    store = Store()
    flow, version = store.flow.read(city), store.promotions.champion(city)
    assert version is not None
    forecaster = load_version(models_root(), city, version)
    init_times = windows.whole(flow, forecaster.lags(HORIZON), HORIZON)
    init_times = init_times[init_times >= split(flow, city).test["time"].values[0]]
    turns = cycle(init_times)
    size = STACK if way == "stack" else 1

    def run() -> Any:
        if way == "evaluate":
            return evaluate(store, city, horizon=HORIZON)
        if way == "pipeline":
            return forecast(store, city, HORIZON, at=next(turns))
        stack = np.asarray([next(turns)]) if way == "window" else init_times[:size]
        return forecaster(History.of(flow, stack), HORIZON)

    units = run().windows if way == "evaluate" else min(size, len(init_times))
    return Work(run, units, memory=memory_from_now())


def evaluations(plan: SpeedPlan) -> Iterator[Case]:
    """Yields the case of judging a city's champion."""
    side = 8 if plan.quick else 32
    ways = {
        "pipeline": "one forecast of the pipeline after the other",
        "window": "one window after the other",
        "stack": "stacks of windows",
        "evaluate": "forecast evaluate",
    }
    variants = [
        Variant(name, partial(evaluation, side, way), speed=10.0 if way == "evaluate" else None)
        for way, name in ways.items()
    ]
    yield Case("evaluate", f"a city of {side}x{side} cells", "windows", variants)


PARTS: dict[str, Callable[[SpeedPlan], Iterator[Case]]] = {
    "forecast": forecasts,
    "training": trainings,
    "start": starts,
    "feed": feeds,
    "prepare": preparations,
    "evaluate": evaluations,
}
"""The parts by name, each as what yields its cases."""
