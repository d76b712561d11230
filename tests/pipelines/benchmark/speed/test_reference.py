"""The reference of the benchmark of speed: it must be the authors' network, on their weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from forecasting.networks.authors_weights.load import is_unused, own_name
from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from pipelines.benchmark.speed.reference import Reference


@pytest.mark.parametrize(
    "config",
    [
        SwinLSTMConfig(grid=(16, 16), patch=2, window=4, width=16, heads=(2,), depths=(4,)),
        SwinLSTMConfig(grid=(16, 16), patch=4, window=8, width=16, heads=(4,), depths=(3,)),
        SwinLSTMConfig(1, (24, 24), patch=2, window=3, width=8, heads=(1,), depths=(2,)),
    ],
    ids=["shifted", "one window", "odd window"],
)
def test_it_gives_what_the_network_gives_and_the_same_gradients(config: SwinLSTMConfig) -> None:
    torch.manual_seed(0)
    config = replace(config, drop_path=0.0)
    network, reference = SwinLSTM(config), Reference(config)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.2 * torch.randn_like(value))  # the bias begins so small that it hides
    reference.load_state_dict(network.state_dict())
    frames = torch.rand(2, 3, config.channels, *config.grid)
    expected, found = network(frames, 3), reference(frames, 3)
    assert found.shape == (2, 5, config.channels, *config.grid)
    assert (found - expected).abs().max() < 1e-5
    expected.square().mean().backward()
    found.square().mean().backward()
    gradients = dict(network.named_parameters())
    for name, value in reference.named_parameters():
        torch.testing.assert_close(value.grad, gradients[name].grad, rtol=1e-3, atol=1e-6)


def test_it_gives_what_the_authors_network_gives(real_data: Path) -> None:
    path = real_data.parent / "golden" / "b_small.safetensors"
    if not path.is_file():
        pytest.skip(f"no outputs of the authors' network in {path}")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["config"])
    frames, output = tensors.pop("input"), tensors.pop("output")
    config = SwinLSTMConfig(
        told["ch"],
        (told["img"], told["img"]),
        patch=told["patch"],
        window=told["window"],
        width=told["embed"],
        heads=(told["heads"][0],),
        depths=(told["depths"][0],),
    )
    reference = Reference(config).eval()
    names = {name: name.removeprefix("weights.") for name in tensors}
    own = {own_name(bare): tensors[name] for name, bare in names.items() if not is_unused(bare)}
    own = {name: value for name, value in own.items() if name in reference.state_dict()}
    reference.load_state_dict(own)
    with torch.inference_mode():
        assert (
            reference(frames, output.shape[1] - frames.shape[1] + 1) - output
        ).abs().max() < 1e-5
