"""Forecasting and training a SwinLSTM-B in every way there is, as work of a contest.

All ways have the same weights, drawn from one seed, and see the same frames.
"""

import dataclasses
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from forecasting.onnx_export.export import export
from forecasting.profiling import cost
from forecasting.profiling.cost import profile
from forecasting.rollout.onnx_rollout import OnnxRollout
from forecasting.training.batches import cut_windows
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Batch, fit
from forecasting.training.state import TrainingConfig, TrainingState
from pipelines.benchmark.speed.harness import Work
from pipelines.benchmark.speed.reference import Reference, Sizes

HISTORY, HORIZON = 4, 4
STEPS = HISTORY - 1 + HORIZON
"""Frames that a recurrent network makes for one forecast."""

ENDLESS = 10_000
"""Steps of the epoch that a contest of trainings lasts at most."""

CASES = {"p4w8": Sizes(patch=4, window=8), "p2w4": Sizes(patch=2, window=4)}
"""TaxiBJ's shape as the paper has it, in one window; and with shifted windows, as for images."""

TINY = {"side": 16, "width": 16, "heads": 2, "depth": 2}
"""What `--quick` makes of a case."""


class Setting(NamedTuple):
    """What is computed, and on what.

    Attributes:
        sizes: of the network.
        batch: sequences at once.
        device: `cpu` or `cuda`.
        threads: of the CPU.
    """

    sizes: Sizes
    batch: int
    device: str = "cpu"
    threads: int = 1

    @property
    def place(self) -> torch.device:
        """Returns the device, and sets the threads."""
        torch.set_num_threads(self.threads)
        return pick_device(self.device)


def config_of(sizes: Sizes) -> SwinLSTMConfig:
    """Returns the package's configuration of the same network."""
    return SwinLSTMConfig(
        channels=sizes.channels,
        grid=(sizes.side, sizes.side),
        history=HISTORY,
        patch=sizes.patch,
        width=sizes.width,
        window=sizes.window,
        drop_path=sizes.drop_path,
        depths=(sizes.depth,),
        heads=(sizes.heads,),
    )


def ours(sizes: Sizes) -> SwinLSTM:
    """Returns the package's network with the weights of the contest."""
    torch.manual_seed(0)
    network = SwinLSTM(config_of(sizes))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.dim() < 2 or name.endswith("attention.bias"):
                value.add_(0.1 * torch.randn_like(value))  # else they begin as 0 or 1 and hide
    return network


def theirs(sizes: Sizes) -> Reference:
    """Returns the reference with the same weights."""
    network = Reference(sizes)
    network.load_state_dict(ours(sizes).state_dict())
    return network


def frames_of(setting: Setting, length: int) -> Tensor:
    """Returns the frames of the contest, `(b, length, c, y, x)` in [0, 1], on the CPU."""
    sizes = setting.sizes
    shape = (setting.batch, length, sizes.channels, sizes.side, sizes.side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


# Forecasting


def forecast_by_reference(setting: Setting) -> Work:
    """Returns forecasts by the reference."""
    return _forecast(theirs(setting.sizes), setting)


def forecast_by_torch(setting: Setting) -> Work:
    """Returns forecasts by the package's network."""
    return _forecast(ours(setting.sizes), setting)


def forecast_by_onnx(setting: Setting, precision: str) -> Work:
    """Returns forecasts by the package's network as it is exported, without torch."""
    torch.set_num_threads(setting.threads)
    made = export("swinlstm-b", ours(setting.sizes), config_of(setting.sizes), precision)
    rollout = OnnxRollout.open(made.model, HISTORY, threads=setting.threads)
    past = frames_of(setting, HISTORY).numpy()
    facts = _facts(setting.sizes, precision, trained=False)
    output = rollout(past, HORIZON)
    return Work(lambda: rollout(past, HORIZON), setting.batch, output, None, facts)


def _forecast(network: nn.Module, setting: Setting) -> Work:
    place = setting.place
    network = network.to(place).eval()
    past = frames_of(setting, HISTORY).to(place)

    def run() -> np.ndarray:
        with torch.inference_mode():
            forecast: np.ndarray = network(past, HORIZON)[:, -HORIZON:].cpu().numpy()
            return forecast

    facts = _facts(setting.sizes, "float32", trained=False)
    return Work(run, setting.batch, run(), _memory(place), facts, lambda: profile(run, place))


# Training


def train_reference(setting: Setting) -> Work:
    """Returns training steps of the reference: Adam, float32, eager."""
    place = setting.place
    network = theirs(setting.sizes).to(place).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    frames = frames_of(setting, HISTORY + HORIZON).to(place)

    def step() -> None:
        outputs = network(frames[:, :HISTORY], HORIZON)
        loss = F.mse_loss(outputs, frames[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    facts = _facts(setting.sizes, "float32", trained=True)
    return Work(step, setting.batch, None, _memory(place), facts, lambda: profile(step, place))


def train_ours(setting: Setting, computing: Computing) -> Work:
    """Returns training steps of the package's network, made by the package's training itself.

    Args:
        setting: its device is the one that counts.
        computing: precision, compilation and recomputation.
    """
    place = setting.place
    config = TrainingConfig(1, None, HISTORY, HORIZON, setting.batch, learning_rate=1e-4)
    state = TrainingState.start(lambda: ours(setting.sizes), config, place)
    frames = frames_of(setting, HISTORY + HORIZON).flatten(0, 1).numpy()
    starts = np.tile(np.arange(setting.batch) * (HISTORY + HORIZON), ENDLESS)
    feed = cut_windows(frames, starts, HISTORY, HORIZON, place)
    computing = dataclasses.replace(computing, device=place.type)
    events = fit(state, feed, lambda _: 0.0, computing)

    def step() -> None:
        next(event for event in events if isinstance(event, Batch))
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    facts = _facts(setting.sizes, computing.precision, trained=True)
    return Work(step, setting.batch, None, _memory(place), facts, lambda: profile(step, place))


def _memory(place: torch.device) -> Any:
    """Returns what tells the peak of a GPU; None for the process's own on the CPU."""
    return (lambda: cost.peak_memory(place)) if place.type == "cuda" else None


@cache
def _work_of(sizes: Sizes, trained: bool) -> int:
    """Returns the multiply-adds of one sequence by the reference."""
    network = Reference(sizes)
    past = torch.rand(1, HISTORY, sizes.channels, sizes.side, sizes.side)
    count = cost.training_multiply_adds if trained else cost.multiply_adds
    return count(network, past, HORIZON)


def _facts(sizes: Sizes, precision: str, trained: bool) -> dict[str, Any]:
    return {"precision": precision, "multiply_adds": _work_of(sizes, trained)}
