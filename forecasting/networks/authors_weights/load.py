"""The weights of the authors' implementation of SwinLSTM, under our names."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import overload

from safetensors import SafetensorError, safe_open
from torch import Tensor

from data.errors import FlowcastError
from forecasting.networks import config_of
from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMD, SwinLSTMDConfig

Config = SwinLSTMConfig | SwinLSTMDConfig
CONFIG_KEY = "network"
"""Where in a file's metadata name and configuration of the network stand, as `write_network` gives."""

TORCH_FILE = (b"PK\x03\x04", b"\x80")
"""How files of `torch.save` begin: zip archives, and bare pickles before torch 1.6."""


@overload
def load_authors_weights(
    source: Path | Mapping[str, Tensor], config: SwinLSTMConfig
) -> SwinLSTM: ...
@overload
def load_authors_weights(
    source: Path | Mapping[str, Tensor], config: SwinLSTMDConfig
) -> SwinLSTMD: ...
@overload
def load_authors_weights(source: Path, config: None = None) -> SwinLSTM | SwinLSTMD: ...
def load_authors_weights(
    source: Path | Mapping[str, Tensor], config: Config | None = None
) -> SwinLSTM | SwinLSTMD:
    """Returns a SwinLSTM-B or -D with the weights of the authors' implementation.

    Tables that follow from the configuration, and the parameters that the authors' network builds
    but never uses (the `red` of odd blocks, a second patch embedding), are left out.

    Args:
        source: a safetensors file, or a mapping; names as in the authors' code, with or without
            the prefixes `weights.` and `module.`.
        config: of the network that the weights belong to; a file that `convert_authors_weights`
            wrote states it.

    Raises:
        FlowcastError: the file cannot be read or states no configuration, or weights are missing,
            unknown or of another shape than `config` says.
    """
    if isinstance(source, Path):
        source, stated = _read(source)
        config = config or stated
    if config is None:
        raise FlowcastError(
            "the weights tell no configuration; name it, or take a file that "
            '"forecast benchmark convert" wrote'
        )
    network = SwinLSTM(config) if isinstance(config, SwinLSTMConfig) else SwinLSTMD(config)
    own = {
        own_name(name): value
        for name, value in bare_names(source).items()
        if not is_unused(name) and not TABLES.fullmatch(name)
    }
    if differences := _differences(network.state_dict(), own):
        raise FlowcastError(f"the weights do not fit the configuration {config}: {differences}")
    network.load_state_dict(own)
    return network


def bare_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights under the authors' names, without `weights.` and `module.` before them."""
    bare = dict(weights)
    for prefix in ("weights.", "module."):
        if any(name.startswith(prefix) for name in bare):
            bare = {
                name.removeprefix(prefix): value
                for name, value in bare.items()
                if name.startswith(prefix)
            }
    return bare


OWN_NAMES = (
    (r"^(ST|Downsample)\.patch_embed\.proj\.", "embed.project."),
    (r"^(ST|Downsample)\.patch_embed\.norm\.", "embed.norm."),
    (r"^(ST\.PatchInflated\.ConvT|Upsample\.Unembed\.Conv)\.", "reconstruct.0."),
    (r"^ST\.layers\.(\d+)\.Swin\.layers\.", r"cells.\1.blocks."),
    (r"^Downsample\.layers\.(\d+)\.Swin\.layers\.", r"down.\1.cell.blocks."),
    (r"^Upsample\.layers\.(\d+)\.Swin\.layers\.", r"up.\1.cell.blocks."),
    (r"^Downsample\.downsample\.(\d+)\.reduction\.", r"down.\1.resize.reduce."),
    (r"^Downsample\.downsample\.(\d+)\.", r"down.\1.resize."),
    (r"^Upsample\.upsample\.(\d+)\.", r"up.\1.resize."),
    (r"(blocks\.\d+\.)attn\.relative_position_bias_table$", r"\1attention.bias"),
    (r"(blocks\.\d+\.)attn_mask$", r"\1attention.mask"),
    (r"(blocks\.\d+\.)attn\.qkv\.", r"\1attention.qkv."),
    (r"(blocks\.\d+\.)attn\.proj\.", r"\1attention.project."),
    (r"(blocks\.\d+\.)red\.", r"\1reduce."),
    (r"(blocks\.\d+\.)mlp\.fc1\.", r"\1mlp.0."),
    (r"(blocks\.\d+\.)mlp\.fc2\.", r"\1mlp.2."),
)
"""What in the authors' parameter names is called otherwise here, one after the other."""


TABLES = re.compile(r".*\.(relative_position_index|attn_mask)")
UNUSED = re.compile(r".*\.layers\.\d*[13579]\.red\.(weight|bias)|Upsample\.patch_embed\..*")


def is_unused(name: str) -> bool:
    """Returns whether the authors' network builds the parameter `name` and never uses it."""
    return UNUSED.fullmatch(name) is not None


def own_name(name: str) -> str:
    """Returns our name for the authors' parameter `name`, the same where we know none."""
    for pattern, own in OWN_NAMES:
        name = re.sub(pattern, own, name)
    return name


def _read(path: Path) -> tuple[dict[str, Tensor], Config | None]:
    """Returns the tensors of a safetensors file, and the configuration where it states one."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            stated = (file.metadata() or {}).get(CONFIG_KEY)
    except (OSError, SafetensorError) as error:
        if isinstance(error, SafetensorError) and begins_like_torch(path):
            raise FlowcastError(
                f"{path} is a file of torch, which may hold code; "
                f'run "forecast benchmark convert {path} {path.with_suffix(".safetensors")}" first'
            ) from error
        raise FlowcastError(f"{path} cannot be read: {error}") from error
    return tensors, None if stated is None else _config(path, stated)


def begins_like_torch(path: Path) -> bool:
    """Returns whether a file begins as those of `torch.save` do."""
    with path.open("rb") as file:
        return file.read(4).startswith(TORCH_FILE)


def _config(path: Path, text: str) -> Config:
    """Returns the configuration that `write_network` wrote."""
    try:
        name, fields = json.loads(text)
        config = config_of(name, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FlowcastError(f"{path} tells a configuration that cannot be: {error}") from error
    if not isinstance(config, Config):
        raise FlowcastError(f"{path} holds a {name}, and no SwinLSTM of its authors")
    return config


def _differences(expected: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Returns what keeps `own` from being the weights expected, "" where nothing does."""
    shapes = {
        f"{name} {list(own[name].shape)} instead of {list(value.shape)}": None
        for name, value in expected.items()
        if name in own and own[name].shape != value.shape
    }
    parts = {
        "missing": expected.keys() - own.keys(),
        "unknown": own.keys() - expected.keys(),
        "of another shape": shapes.keys(),
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(islice(sorted(names), 3))}{', ...' * (len(names) > 3)})"
        for what, names in parts.items()
        if names
    )
