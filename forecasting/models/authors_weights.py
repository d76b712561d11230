"""The weights of the authors' implementation of SwinLSTM, under our names."""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data.errors import FlowcastError
from forecasting.models.swinlstm import SwinLSTM, SwinLSTMConfig


def load_authors_weights(source: Path | Mapping[str, Tensor], config: SwinLSTMConfig) -> SwinLSTM:
    """Returns a SwinLSTM-B with the weights of the authors' implementation.

    Tables that follow from the configuration, and the parameters that the authors' network builds
    but never uses (the `red` of odd blocks), are left out.

    Args:
        source: a safetensors file, or a mapping; names as in the authors' code, with or without
            the prefix `weights.`.
        config: of the network that the weights belong to.

    Raises:
        FlowcastError: the file cannot be read, or weights are missing, unknown or of another shape
            than `config` says.
    """
    if isinstance(source, Path):
        try:
            source = load_file(source)
        except (OSError, SafetensorError) as error:
            raise FlowcastError(f"{source} cannot be read: {error}") from error
    network = SwinLSTM(config)
    named = (
        (_own_name(name.removeprefix("weights.")), value)
        for name, value in source.items()
        if name.startswith("weights.") or "weights.ST.patch_embed.proj.weight" not in source
    )
    own = {name: value for name, value in named if name is not None}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise FlowcastError(
            f"the weights do not fit the configuration {config}: {' '.join(str(error).split())}"
        ) from error
    return network


AUTHORS_NAMES = (
    (r"ST\.patch_embed\.proj\.(.*)", r"embed.project.\1"),
    (r"ST\.patch_embed\.norm\.(.*)", r"embed.norm.\1"),
    (r"ST\.PatchInflated\.ConvT\.(.*)", r"reconstruct.0.\1"),
    (
        r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.attn\.relative_position_bias_table",
        r"cells.\1.blocks.\2.attention.bias",
    ),
    (
        r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.attn\.qkv\.(.*)",
        r"cells.\1.blocks.\2.attention.qkv.\3",
    ),
    (
        r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.attn\.proj\.(.*)",
        r"cells.\1.blocks.\2.attention.project.\3",
    ),
    (r"ST\.layers\.(\d+)\.Swin\.layers\.(\d*[02468])\.red\.(.*)", r"cells.\1.blocks.\2.reduce.\3"),
    (r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.(norm[12])\.(.*)", r"cells.\1.blocks.\2.\3.\4"),
    (r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.mlp\.fc1\.(.*)", r"cells.\1.blocks.\2.mlp.0.\3"),
    (r"ST\.layers\.(\d+)\.Swin\.layers\.(\d+)\.mlp\.fc2\.(.*)", r"cells.\1.blocks.\2.mlp.2.\3"),
)
"""The authors' parameter names and ours."""

DERIVED = re.compile(
    r".*(relative_position_index|attn_mask|layers\.\d*[13579]\.red\.(weight|bias))"
)


def _own_name(name: str) -> str | None:
    """Returns our name for the authors' parameter `name`, None where we need none of it."""
    if DERIVED.fullmatch(name):
        return None
    for pattern, own in AUTHORS_NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(own)
    return name
