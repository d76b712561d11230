"""Conversion of weights as the authors of SwinLSTM publish them, files of `torch.save`."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from data.errors import FlowcastError
from data.files import atomic_write
from forecasting.networks import write_network
from forecasting.networks.authors_weights.load import (
    CONFIG_KEY,
    Config,
    bare_names,
    begins_like_torch,
    is_unused,
    load_authors_weights,
    own_name,
)
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMDConfig

NESTED = ("state_dict", "model")
"""Under which keys files of a whole training hold their weights."""


@dataclass(frozen=True)
class Conversion:
    """What was read out of a file and written to another.

    Attributes:
        network: key in `NETWORKS`.
        config: of the network, read off the weights.
        parameters: numbers that are trained in our network.
        unused: numbers in the file that the authors' network never uses, without its tables.
    """

    network: str
    config: Config
    parameters: int
    unused: int


def convert_authors_weights(
    source: Path, target: Path, grid: tuple[int, int] | None = None
) -> Conversion:
    """Writes the authors' weights as a safetensors file with its configuration.

    The tensors keep the authors' names; nothing in `source` is run. Whether they make a network is
    tried before anything is written, and the file is written whole or not at all.

    Args:
        source: a state dict by `torch.save`, bare or under `state_dict` or `model`.
        target: the safetensors file, for `load_authors_weights` without a configuration.
        grid: rows and columns of the frames; needed where the weights hold no shift masks, from
            which that of square frames follows.

    Raises:
        FlowcastError: `source` is not such a file or holds other weights, the grid is unknown or
            another, or `target` cannot be written.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise FlowcastError(f"{source} would replace itself; name another file to write")
    weights = bare_names(_tensors(source))
    try:
        config = read_config(weights, grid)
        network = load_authors_weights(weights, config)
    except (FlowcastError, ValueError) as error:
        raise FlowcastError(f"{source}: {error}") from error
    if not _masks_fit(network, weights):
        raise FlowcastError(
            f"{source}: the shift masks are not those of a grid of {config.grid[0]}x{config.grid[1]}; "
            f"name that of the frames it was trained on by --grid, or leave it out"
        )
    name = "swinlstm-b" if isinstance(config, SwinLSTMConfig) else "swinlstm-d"
    content = {key: value.detach().clone().contiguous() for key, value in weights.items()}
    with atomic_write(target) as temporary:
        temporary.write_bytes(save(content, {CONFIG_KEY: write_network(name, config)}))
    return Conversion(
        name,
        config,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        unused=sum(weights[key].numel() for key in weights if is_unused(key)),
    )


def read_config(weights: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> Config:
    """Returns the configuration of the network to which weights under the authors' names belong.

    Raises:
        FlowcastError: they are neither SwinLSTM-B nor -D, or `grid` is needed.
        ValueError: no network can have these sizes.
    """
    kind = next((kind for kind in ("ST", "Downsample") if f"{kind}.{EMBEDDING}" in weights), "")
    down, up = _cells(weights, kind), _cells(weights, "Upsample")
    if not (kind and down) or weights[f"{kind}.{EMBEDDING}"].ndim != 4:
        raise FlowcastError(
            f"these are no weights of SwinLSTM-B or -D by its authors, among which "
            f"ST.{EMBEDDING} or Downsample.{EMBEDDING} would be, but "
            f"{', '.join(list(weights)[:3]) or 'none'}"
        )
    width, channels, patch, _ = weights[f"{kind}.{EMBEDDING}"].shape
    common: dict[str, Any] = {
        "channels": channels,
        "grid": grid or _square(weights, patch),
        "patch": patch,
        "width": width,
        "window": max(cell.window for cell in down + up),
    }
    if kind == "ST":
        depths, heads, _ = zip(*down, strict=True)
        return SwinLSTMConfig(**common, depths=depths, heads=heads)
    return SwinLSTMDConfig(
        **common,
        down_depths=tuple(cell.depth for cell in down),
        down_heads=tuple(cell.heads for cell in down),
        up_depths=tuple(cell.depth for cell in up),
        up_heads=tuple(cell.heads for cell in up),
    )


EMBEDDING = "patch_embed.proj.weight"


class CellSize(NamedTuple):
    """Size of a cell, as its tables of relative positions tell it."""

    depth: int
    heads: int
    window: int


def _cells(weights: Mapping[str, Tensor], part: str) -> list[CellSize]:
    """Returns the cells of a part of the authors' network, in the order in which they run."""
    name = re.compile(
        rf"{part}\.layers\.(\d+)\.Swin\.layers\.\d+\.attn\.relative_position_bias_table"
    )
    tables: dict[int, list[torch.Size]] = {}
    for key, value in weights.items():
        if (match := name.fullmatch(key)) and value.ndim == 2:
            tables.setdefault(int(match[1]), []).append(value.shape)
    # A window of w x w tokens has (2w - 1)^2 relative positions.
    return [
        CellSize(len(shapes), heads=shapes[0][1], window=(isqrt(shapes[0][0]) + 1) // 2)
        for _, shapes in sorted(tables.items())
    ]


def _square(weights: Mapping[str, Tensor], patch: int) -> tuple[int, int]:
    """Returns the grid of square frames, from the number of windows in a shift mask."""
    levels = len(_cells(weights, "Upsample"))
    for name, mask in weights.items():
        match = re.fullmatch(r"(ST|Downsample|Upsample)\.layers\.(\d+)\..*\.attn_mask", name)
        if match and mask.ndim == 3:
            windows, window = isqrt(len(mask)), isqrt(mask.shape[-1])
            if windows**2 != len(mask):
                break
            cell = int(match[2])
            level = {"ST": 0, "Downsample": cell, "Upsample": levels - cell}[match[1]]
            side = (windows * window * patch) << level
            return side, side
    raise FlowcastError(
        "the weights hold no shift mask of square frames from which the grid follows; "
        "name the rows and columns of the frames they were trained on: --grid 64x64"
    )


def _masks_fit(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Returns whether the shift masks, as far as there are any, are those of the network."""
    masks = {own_name(name): mask for name, mask in weights.items() if name.endswith("attn_mask")}
    own = dict(network.named_buffers())
    return all(name in own and own[name].equal(mask.float()) for name, mask in masks.items())


def _tensors(source: Path) -> dict[str, Tensor]:
    """Returns the state dict in a file of `torch.save`."""
    content = _load(source)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise FlowcastError(
            f"{source} holds no state dict, neither bare nor under {' or '.join(NESTED)}; "
            f"in Python, torch.save(network.state_dict(), PATH) writes one"
        )
    return dict(content)


def _load(source: Path) -> Any:
    """Returns what `torch.load` reads without running anything."""
    try:
        if begins_like_torch(source):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*TorchScript")
                return torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FlowcastError(f"{source} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise FlowcastError(
            f"{source} is damaged or holds more than tensors, and nothing in it is run; in Python, "
            f"torch.save(network.state_dict(), PATH) writes the weights alone"
        ) from error
    except Exception as error:  # a damaged file leads torch into errors of any kind
        if "TorchScript" in str(error):
            raise FlowcastError(
                f"{source} is a TorchScript program; in Python, "
                f"torch.save(torch.jit.load({str(source)!r}).state_dict(), PATH) writes its weights"
            ) from error
        raise FlowcastError(
            f"{source} is no file of torch.save, or damaged; get it again"
        ) from error
    raise FlowcastError(f"{source} is no file of torch.save; name the authors' weights")
