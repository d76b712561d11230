import dataclasses
import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.networks.authors_weights.convert import convert_authors_weights
from forecasting.networks.authors_weights.load import load_authors_weights
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMDConfig

KINDS = ("b", "d")
FIRST_CELL = {"b": "ST.layers.0.Swin.layers", "d": "Upsample.layers.1.Swin.layers"}
MASK = ".attn_mask"


class Golden(NamedTuple):
    """Weights of the authors' network, an input, its output, and our configuration of it."""

    kind: str
    path: Path
    weights: dict[str, Tensor]
    frames: Tensor
    output: Tensor
    config: Any


def read_golden(path: Path, kind: str) -> Golden:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        published = json.loads(file.metadata()["config"])
    sizes = {
        "channels": published["ch"],
        "grid": (published["img"], published["img"]),
        "patch": published["patch"],
        "width": published["embed"],
        "window": published["window"],
    }
    heads = tuple(published["heads"])
    config: Any
    if kind == "b":
        config = SwinLSTMConfig(**sizes, depths=tuple(published["depths"]), heads=heads)
    else:
        config = SwinLSTMDConfig(
            **sizes,
            down_depths=tuple(published["down"]),
            down_heads=heads,
            up_depths=tuple(reversed(published["up"])),
            up_heads=heads[::-1],
        )
    frames, output = tensors.pop("input"), tensors.pop("output")
    weights = {name.removeprefix("weights."): value for name, value in tensors.items()}
    return Golden(kind, path, weights, frames, output, config)


@pytest.fixture(scope="session")
def golden_b(real_data: Path) -> Golden:
    """The authors' SwinLSTM-B, or a skip that names its file."""
    return _golden(real_data, "b")


@pytest.fixture(scope="session")
def golden_d(real_data: Path) -> Golden:
    """The authors' SwinLSTM-D, or a skip that names its file."""
    return _golden(real_data, "d")


def _golden(real_data: Path, kind: str) -> Golden:
    path = real_data.parent / "golden" / f"{kind}_small.safetensors"
    if not path.is_file():
        pytest.skip(f"no outputs of the authors' network in {path}")
    return read_golden(path, kind)


@pytest.fixture(params=KINDS)
def golden(request: pytest.FixtureRequest) -> Golden:
    golden: Golden = request.getfixturevalue(f"golden_{request.param}")
    return golden


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """The outputs in evaluation mode."""
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


def distance(network: nn.Module, golden: Golden) -> float:
    """The largest difference from the output of the authors' network."""
    return (run(network, golden.frames, 4) - golden.output).abs().max().item()


# Loading


def test_the_outputs_are_those_of_the_authors(golden: Golden) -> None:
    assert distance(load_authors_weights(golden.path, golden.config), golden) < 1e-5


def test_a_batch_of_one_and_another_horizon_agree_with_the_authors(golden: Golden) -> None:
    network = load_authors_weights(golden.weights, golden.config)
    for sample, horizon in ((0, 4), (1, 2), (1, 9)):
        outputs = run(network, golden.frames[sample : sample + 1], horizon)
        assert outputs.shape[1] == 3 + horizon
        shared = min(7, 3 + horizon)
        expected = golden.output[sample, :shared]
        assert (outputs[0, :shared] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("prefix", ["", "weights.", "module.", "weights.module."])
def test_prefixes_of_the_authors_names_do_not_matter(golden: Golden, prefix: str) -> None:
    named = {prefix + name: value for name, value in golden.weights.items()}
    assert distance(load_authors_weights(named, golden.config), golden) < 1e-5


def test_the_authors_unused_parameters_are_ignored_whatever_they_are(golden: Golden) -> None:
    first = FIRST_CELL[golden.kind]
    unused = {f"{first}.1.red.weight", f"{first}.3.red.bias", "Upsample.patch_embed.proj.weight"}
    nothing = {name: torch.full((2,), torch.nan) for name in unused}
    network = load_authors_weights(golden.weights | nothing, golden.config)
    assert distance(network, golden) < 1e-5
    none = {name: value for name, value in golden.weights.items() if name not in unused}
    assert distance(load_authors_weights(none, golden.config), golden) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"0.red.weight": None}, r"1 missing \(.*0.reduce.weight\)$", id="missing"),
        pytest.param({"0.gate": torch.zeros(2)}, r"1 unknown \(.*0.gate\)$", id="unknown"),
        pytest.param({"0.red.weight": torch.zeros(3, 7)}, r"\[3, 7\] instead of \[", id="shape"),
        pytest.param({"8.red.weight": torch.zeros(1)}, "1 unknown", id="too many"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    golden: Golden, change: dict[str, Tensor | None], message: str
) -> None:
    changed = {f"{FIRST_CELL[golden.kind]}.{name}": value for name, value in change.items()}
    weights = {
        name: value for name, value in (golden.weights | changed).items() if value is not None
    }
    with pytest.raises(FlowcastError, match="do not fit the configuration") as error:
        load_authors_weights(weights, golden.config)
    with pytest.raises(FlowcastError, match=message):
        load_authors_weights(weights, golden.config)
    assert "\n" not in str(error.value)


def test_the_weights_of_the_other_network_are_refused_in_a_short_sentence(
    golden_b: Golden, golden_d: Golden
) -> None:
    for weights, config in ((golden_d, golden_b.config), (golden_b, golden_d.config)):
        with pytest.raises(FlowcastError, match="do not fit the configuration") as error:
            load_authors_weights(weights.path, config)
        assert len(str(error.value)) < 1000


def test_gates_of_which_the_authors_know_nothing_are_missing(golden: Golden) -> None:
    config = dataclasses.replace(golden.config, gate="separate")
    with pytest.raises(FlowcastError, match=r"missing .*gates"):
        load_authors_weights(golden.weights, config)


def test_a_weights_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    garbled = tmp_path / "weights.safetensors"
    garbled.write_bytes(b"not safetensors at all")
    for path in (garbled, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FlowcastError, match="cannot be read"):
            load_authors_weights(path, SwinLSTMConfig())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "best.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    command = f'"forecast benchmark convert {path} {tmp_path / "best.safetensors"}"'
    with pytest.raises(FlowcastError, match=command):
        load_authors_weights(path, SwinLSTMConfig())


def test_weights_that_tell_no_configuration_need_one(golden: Golden) -> None:
    with pytest.raises(FlowcastError, match="tell no configuration"):
        load_authors_weights(golden.path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("[", "configuration that cannot be"),
        ('["vgg", {}]', "configuration that cannot be"),
        ('["swinlstm-b", {"patch": 3}]', "patch 3 is not a power of two"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, told: str, message: str) -> None:
    save_file({"a": torch.ones(1)}, path := tmp_path / "told.safetensors", {"network": told})
    with pytest.raises(FlowcastError, match=message):
        load_authors_weights(path)


# Conversion


def nested(weights: dict[str, Tensor], key: str) -> Any:
    return {"epoch": 3, key: weights, "optimizer": {"state": {}}} if key else weights


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize(("prefix", "key"), [("", ""), ("module.", "state_dict"), ("", "model")])
def test_a_converted_file_tells_its_configuration_and_gives_the_authors_outputs(
    golden: Golden, tmp_path: Path, prefix: str, key: str, zipped: bool
) -> None:
    weights = OrderedDict((prefix + name, value) for name, value in golden.weights.items())
    source, target = tmp_path / "trained_model_state_dict", tmp_path / "out" / "authors.safetensors"
    torch.save(nested(weights, key), source, _use_new_zipfile_serialization=zipped)
    conversion = convert_authors_weights(source, target)
    assert conversion.network == f"swinlstm-{golden.kind}"
    assert conversion.config == golden.config
    network = load_authors_weights(target)
    assert network.config == golden.config
    assert distance(network, golden) < 1e-5
    with safe_open(target, "pt") as file:
        names = set(file.keys())
    assert names == golden.weights.keys()


def test_a_conversion_counts_what_is_trained_and_what_is_never_used(
    golden_b: Golden, golden_d: Golden, tmp_path: Path
) -> None:
    for golden in (golden_b, golden_d):
        torch.save(golden.weights, source := tmp_path / "weights.pth")
        conversion = convert_authors_weights(source, tmp_path / "weights.safetensors")
        tables = {n for n in golden.weights if n.endswith(("attn_mask", "position_index"))}
        total = sum(v.numel() for n, v in golden.weights.items() if n not in tables)
        assert conversion.parameters + conversion.unused == total
        # The maps from 2d to d of blocks 1 and 3; in D at widths 32 (1), 64 (2), 128 (1), 64 (2).
        widths = {"b": [32, 32], "d": [32, 64, 64, 128, 64, 64]}[golden.kind]
        embedding = {"b": 0, "d": (2 * 2 * 2 * 32 + 32) + 2 * 32}[golden.kind]
        assert conversion.unused == sum(2 * d * d + d for d in widths) + embedding


def without_masks(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith(MASK)}


def test_without_shift_masks_the_grid_must_be_named(golden: Golden, tmp_path: Path) -> None:
    torch.save(without_masks(golden.weights), source := tmp_path / "weights.pth")
    target = tmp_path / "weights.safetensors"
    with pytest.raises(FlowcastError, match="name the rows and columns"):
        convert_authors_weights(source, target)
    assert not target.exists()
    convert_authors_weights(source, target, grid=(32, 32))
    assert distance(load_authors_weights(target), golden) < 1e-5


def test_one_shift_mask_at_any_level_tells_the_grid(golden_d: Golden, tmp_path: Path) -> None:
    masks = {name for name in golden_d.weights if name.endswith(MASK)}
    levels = {name.partition(".Swin")[0] for name in masks}
    assert levels == {"Downsample.layers.0", "Downsample.layers.1", "Upsample.layers.1"}
    for mask in masks:
        weights = without_masks(golden_d.weights) | {mask: golden_d.weights[mask]}
        torch.save(weights, source := tmp_path / "weights.pth")
        conversion = convert_authors_weights(source, tmp_path / "weights.safetensors")
        assert conversion.config.grid == (32, 32)


@pytest.mark.parametrize("grid", [(64, 64), (32, 64)], ids=str)
def test_a_grid_that_the_shift_masks_contradict_is_refused(
    golden: Golden, tmp_path: Path, grid: tuple[int, int]
) -> None:
    torch.save(golden.weights, source := tmp_path / "weights.pth")
    with pytest.raises(FlowcastError, match=f"not those of a grid of {grid[0]}x{grid[1]}"):
        convert_authors_weights(source, tmp_path / "weights.safetensors", grid=grid)


class Code:
    """What a pickle may hold beside tensors: a call that leaves a trace where it is made."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": Code(trace)}, source := tmp_path / "weights.pth")
    with pytest.raises(FlowcastError, match="more than tensors, and nothing in it is run"):
        convert_authors_weights(source, tmp_path / "weights.safetensors")
    assert not trace.exists()
    torch.load(source, weights_only=False)
    assert trace.exists()  # it would have run


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_whole_network_and_torchscript_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), whole := tmp_path / "whole.pth")
    with pytest.raises(FlowcastError, match=r"torch.save\(network.state_dict\(\), PATH\)"):
        convert_authors_weights(whole, tmp_path / "out.safetensors")
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    with pytest.raises(FlowcastError, match=r"is a TorchScript program; .*torch\.jit\.load"):
        convert_authors_weights(tmp_path / "script.pt", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(2)}, r"no weights of SwinLSTM-B or -D .* but a$"),
        ({}, "would be, but none"),
        ({"ST.patch_embed.proj.weight": torch.ones(2)}, "no weights of SwinLSTM"),
        ({"ST.patch_embed.proj.weight": torch.ones(8, 2, 2, 2)}, "no weights of SwinLSTM"),
        ({"Downsample.patch_embed.proj.weight": torch.ones(8, 2, 2, 2)}, "no weights of SwinLSTM"),
        ({"state_dict": 5}, "holds no state dict, neither bare nor under state_dict or model"),
        ({"a": "text"}, "holds no state dict"),
        ([torch.ones(2)], "holds no state dict"),
        (torch.ones(2), "holds no state dict"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, source := tmp_path / "weights.pth")
    with pytest.raises(FlowcastError, match=message):
        convert_authors_weights(source, tmp_path / "out.safetensors", grid=(16, 16))
    assert not (tmp_path / "out.safetensors").exists()


def test_files_that_are_not_of_torch_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("weights")
    for name in ("arrays.npz", "a.safetensors", "empty", "text"):
        with pytest.raises(FlowcastError, match=r"no file of torch\.save"):
            convert_authors_weights(tmp_path / name, tmp_path / "out.safetensors")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FlowcastError, match="cannot be read"):
            convert_authors_weights(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_gives_a_sentence(golden_b: Golden, tmp_path: Path, zipped: bool) -> None:
    torch.save(
        golden_b.weights,
        source := tmp_path / "weights.pth",
        _use_new_zipfile_serialization=zipped,
    )
    whole = source.read_bytes()
    for length in (5, 100, 1000, len(whole) // 2, len(whole) - 30):
        source.write_bytes(whole[:length])
        with pytest.raises(FlowcastError):
            convert_authors_weights(source, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_conversion_does_not_replace_its_source(golden_b: Golden, tmp_path: Path) -> None:
    torch.save(golden_b.weights, source := tmp_path / "weights.pth")
    before = source.read_bytes()
    with pytest.raises(FlowcastError, match="would replace itself"):
        convert_authors_weights(source, source)
    assert source.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(
    golden_b: Golden,
    tmp_path: Path,
    largest_file: Callable[[int], AbstractContextManager[None]],
) -> None:
    torch.save(golden_b.weights, source := tmp_path / "weights.pth")
    target = tmp_path / "weights.safetensors"
    target.write_text("before")
    with largest_file(2**16), pytest.raises(FlowcastError, match="cannot be written"):
        convert_authors_weights(source, target)
    assert target.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]
