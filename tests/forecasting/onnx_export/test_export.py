import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from data.errors import FlowcastError
from forecasting.networks import NETWORKS
from forecasting.networks.authors_weights.load import load_authors_weights
from forecasting.networks.base import NetworkConfig
from forecasting.networks.residual import residual
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMDConfig
from forecasting.networks.with_covariates import CovariateShape
from forecasting.onnx_export.export import compare, export, write_model
from forecasting.rollout.onnx_rollout import OnnxRollout
from forecasting.rollout.torch_rollout import TorchRollout, build_network

TINY = SwinLSTMConfig(grid=(8, 8), patch=2, width=16, window=2, depths=(3,), heads=(2,))
TINY_D = SwinLSTMDConfig(
    grid=(8, 8), width=8, window=2, down_depths=(2,), down_heads=(2,), up_depths=(2,), up_heads=(4,)
)

EXPORTED = [name for name, entry in NETWORKS.items() if entry.onnx]
B = {
    "paper": SwinLSTMConfig(depths=(3,)),
    "shifted windows": dataclasses.replace(TINY, grid=(16, 16), window=4, depths=(4,)),
    "a window larger than the grid": dataclasses.replace(TINY, window=16),
    "one head": dataclasses.replace(TINY, heads=(1,)),
    "several cells": dataclasses.replace(TINY, depths=(2, 1, 3), heads=(2, 4, 1)),
    "odd grid": dataclasses.replace(TINY, grid=(7, 13)),
    "long grid": dataclasses.replace(TINY, grid=(6, 20), window=3),
    "one channel": dataclasses.replace(TINY, channels=1, patch=1),
    "patch 1": dataclasses.replace(TINY, patch=1, grid=(5, 6)),
    "patch 4": dataclasses.replace(TINY, patch=4, grid=(18, 12)),
    "patch 8": dataclasses.replace(TINY, patch=8, grid=(20, 33)),
    "without bounds": dataclasses.replace(TINY, output="identity"),
    "separate": dataclasses.replace(TINY, gate="separate"),
    "input+forget": dataclasses.replace(TINY, gate="input+forget"),
    "forget+output": dataclasses.replace(TINY, gate="forget+output"),
    "input+output": dataclasses.replace(TINY, gate="input+output"),
    "linear": dataclasses.replace(TINY, reconstruction="linear", patch=4, grid=(18, 13)),
    "bilinear": dataclasses.replace(TINY, reconstruction="bilinear", patch=4, grid=(18, 13)),
    "bilinear, patch 1": dataclasses.replace(TINY, reconstruction="bilinear", patch=1),
}
D = {
    "one level": TINY_D,
    "odd grid": dataclasses.replace(TINY_D, grid=(13, 10)),
    "two levels": dataclasses.replace(
        TINY_D,
        grid=(16, 12),
        down_depths=(2, 3),
        down_heads=(2, 4),
        up_depths=(1, 2),
        up_heads=(8, 4),
    ),
    "linear, separate": dataclasses.replace(TINY_D, reconstruction="linear", gate="separate"),
}
CASES = [
    pytest.param(name, config, id=f"{name}, {case}")
    for name, cases in (("swinlstm-b", B), ("swinlstm-d", D))
    for case, config in cases.items()
]


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """The same random weights and frames in whatever order the tests run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def trained(name: str, config: NetworkConfig) -> nn.Module:
    """A network whose weights have all left their beginnings, those that begin at 0 or 1 as well.

    They stay small: where maps enlarge what passes them, torch itself is 1e-5 off its float64.
    """
    network = NETWORKS[name].build(config)
    with torch.no_grad():
        for parameter in network.parameters():
            inputs = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.add_(torch.randn_like(parameter) * 0.7 * inputs**-0.5)
    return network.eval()


def by_torch(network: nn.Module, frames: np.ndarray, horizon: int) -> np.ndarray:
    with torch.inference_mode():
        outputs: np.ndarray = network(torch.from_numpy(frames), horizon)[:, -horizon:].numpy()
    return outputs


def frames_of(config: NetworkConfig, batch: int, seen: int) -> np.ndarray:
    return torch.randn(batch, seen, config.channels, *config.grid).numpy()


@pytest.mark.parametrize(("name", "config"), CASES)
def test_an_export_gives_the_frames_of_torch(name: str, config: Any) -> None:
    network = trained(name, config)
    rollout = OnnxRollout.open(write_model(name, network, config), config.history, threads=1)
    for batch, seen, horizon in ((1, 4, 1), (3, 2, 3)):
        frames = frames_of(config, batch, seen)
        expected = by_torch(network, frames, horizon)
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(rollout(frames, horizon), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "config"), [("swinlstm-b", TINY), ("swinlstm-d", TINY_D)])
def test_an_export_of_a_citys_network_adds_the_newest_frame(name: str, config: Any) -> None:
    config = dataclasses.replace(config, output="identity")
    network = residual(trained(name, config))
    frames = frames_of(config, 2, 3)
    rollout = OnnxRollout.open(write_model(name, network, config), 3, threads=1)
    # A gain of 0, as it begins, is persistence.
    np.testing.assert_array_equal(rollout(frames, 2), frames[:, -1:].repeat(2, axis=1))
    with torch.no_grad():
        network.gain.fill_(0.7)
    rollout = OnnxRollout.open(write_model(name, network, config), 3, threads=1)
    expected = by_torch(network, frames, 4)
    np.testing.assert_allclose(rollout(frames, 4), expected, rtol=0, atol=1e-5)


AROUND = {
    "all": CovariateShape(maps=6, numbers=8),
    "weather": CovariateShape(maps=4, numbers=11, features=12),
    "no maps": CovariateShape(maps=0, numbers=8),
    "no numbers": CovariateShape(maps=4, numbers=0),
    "places alone": CovariateShape(maps=0, numbers=0),
    "no places": CovariateShape(maps=6, numbers=8, place=False),
    "growth": CovariateShape(maps=6, numbers=8, growth=True),
    "shares": CovariateShape(maps=4, numbers=8, shares=True),
    "growth and shares": CovariateShape(maps=6, numbers=8, growth=True, shares=True),
    "no more than numbers": CovariateShape(maps=0, numbers=4, place=False),
}
IN_CONTEXT = [
    *((name, case, around) for name in EXPORTED for case in ("even", "odd") for around in ("all",)),
    *((name, "even", around) for name in EXPORTED for around in AROUND if around != "all"),
]
GRIDS = {"even": (8, 8), "odd": (13, 7)}


def in_context(name: str, case: str, around: str) -> tuple[nn.Module, NetworkConfig]:
    """A network with covariates, whose weights have all left their beginnings."""
    config = dataclasses.replace(
        {"swinlstm-b": TINY, "swinlstm-d": TINY_D}[name], grid=GRIDS[case], output="identity"
    )
    network = build_network(name, config, AROUND[around])
    with torch.no_grad():
        for parameter in network.parameters():
            inputs = parameter[0].numel() if parameter.ndim > 1 and len(parameter) else 100
            parameter.add_(torch.randn_like(parameter) * 0.3 * max(inputs, 1) ** -0.5)
    return network.eval(), config


def near(expected: np.ndarray) -> float:
    """By what float32 may differ from frames that shares have made as large as these."""
    return float(1e-5 * max(1, np.abs(expected).max()))


def told(config: NetworkConfig, around: str, batch: int, horizon: int) -> list[np.ndarray]:
    """Frames, maps and numbers of some windows."""
    seen, steps = config.history, len(config.targets(horizon))
    sizes = [
        (batch, seen, config.channels, *config.grid),
        (batch, steps, AROUND[around].maps, *config.grid),
        (batch, steps, AROUND[around].numbers),
    ]
    return [torch.randn(*size).numpy() for size in sizes]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("name", "case", "around"), IN_CONTEXT)
def test_an_export_in_context_gives_the_frames_of_torch(name: str, case: str, around: str) -> None:
    network, config = in_context(name, case, around)
    model = write_model(name, network, config)
    rollout, by_torch = (
        OnnxRollout.open(model, config.history, threads=1),
        TorchRollout(network, config),
    )
    for batch, horizon in ((1, 1), (3, 5)):
        frames, maps, numbers = told(config, around, batch, horizon)
        assert rollout.targets(horizon) == config.targets(horizon)
        expected = by_torch(frames, horizon, maps, numbers)
        ours = rollout(frames, horizon, maps, numbers)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=near(expected))
        # All that is shown counts.
        for other in (
            [frames, maps + 1, numbers],
            [frames, maps, numbers + 1],
            [frames + 1, maps, numbers],
        ):
            changed = by_torch(other[0], horizon, *other[1:])
            ours = rollout(other[0], horizon, *other[1:])
            np.testing.assert_allclose(ours, changed, rtol=0, atol=near(changed))
    made = export(name, network, config)
    assert 0 < made.difference < near(expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_show_every_window_what_is_its_own(threads: int) -> None:
    network, config = in_context("swinlstm-b", "even", "all")
    rollout = OnnxRollout.open(write_model("swinlstm-b", network, config), 4, threads=threads)
    frames, maps, numbers = told(config, "all", 11, 3)
    single = [rollout(frames[[n]], 3, maps[[n]], numbers[[n]]) for n in range(11)]
    stack = rollout(frames, 3, maps, numbers)
    np.testing.assert_allclose(stack, np.concatenate(single), rtol=0, atol=1e-5)
    assert not np.allclose(stack[0], stack[1], atol=0.01)


def test_an_export_in_context_whose_frames_are_not_those_of_torch_is_refused() -> None:
    network, config = in_context("swinlstm-b", "even", "all")
    with torch.no_grad():
        network.get_parameter("doors.keep").fill_(np.nan)
    with pytest.raises(FlowcastError, match="differs by nan from torch"):
        export("swinlstm-b", network, config)


GOLDEN = {"patch": 2, "window": 4, "width": 32}
AUTHORS = {
    "b": SwinLSTMConfig(**GOLDEN, depths=(4,), heads=(2,)),
    "d": SwinLSTMDConfig(
        **GOLDEN, down_depths=(2, 4), down_heads=(2, 4), up_depths=(2, 4), up_heads=(4, 2)
    ),
}


@pytest.mark.parametrize("kind", AUTHORS)
def test_an_export_gives_the_outputs_of_the_authors(real_data: Path, kind: str) -> None:
    path = real_data.parent / "golden" / f"{kind}_small.safetensors"
    if not path.is_file():
        pytest.skip(f"no outputs of the authors' network in {path}")
    with safe_open(path, "np") as file:
        frames, expected = file.get_tensor("input"), file.get_tensor("output")
    weights = load_file(path)
    del weights["input"], weights["output"]
    bare = {name.removeprefix("weights."): value for name, value in weights.items()}
    network = load_authors_weights(bare, AUTHORS[kind])
    model = write_model(f"swinlstm-{kind}", network, AUTHORS[kind])
    horizon = expected.shape[1] - frames.shape[1] + 1
    forecast = OnnxRollout.open(model, frames.shape[1])(frames, horizon)
    np.testing.assert_allclose(forecast, expected[:, -horizon:], rtol=0, atol=1e-5)


def test_an_export_is_checked_and_tells_its_difference() -> None:
    network = trained("swinlstm-b", TINY)
    made = export("swinlstm-b", network, TINY)
    assert made.precision == "float32"
    assert 0 < made.difference < 1e-5
    assert compare(made.model, network, TINY)[0] == made.difference


def test_an_export_whose_frames_are_not_those_of_torch_is_refused() -> None:
    network = trained("swinlstm-b", TINY)
    with torch.no_grad():
        network.reconstruct[0].bias.fill_(np.nan)
    with pytest.raises(FlowcastError, match=r"differs by nan from torch where 1\.0e-05 is allowed"):
        export("swinlstm-b", network, TINY)


def test_eight_bits_change_the_frames_a_little_and_make_the_file_smaller() -> None:
    config = dataclasses.replace(TINY, width=64, heads=(4,))
    network = trained("swinlstm-b", config)
    exact, short = (export("swinlstm-b", network, config, p) for p in ("float32", "int8"))
    assert 1e-5 < short.difference < 0.05
    assert len(short.model) < 0.5 * len(exact.model)


def test_networks_without_an_export_are_named() -> None:
    config = NETWORKS["convlstm"].config()
    with pytest.raises(
        FlowcastError, match=r"convlstm cannot be exported; .* swinlstm-b, swinlstm"
    ):
        export("convlstm", nn.Identity(), config)
