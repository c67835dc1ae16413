"""Checkpoints of SegGPT and Painter: the released ones, and those of transformers.

A released file holds its tensors under "model", without a prefix; the network of our model bears
the same names. transformers renamed all of them, and changed none.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ..utils.files import AnyPath
from .official import Shapes, fitting

NET = "net."  # before each released name stands in ours
MARK = "segment_token_x"
TYPES = "type_token_"  # a tensor that Painter lacks begins so
RENAMED = {  # released → transformers', beginnings of names
    "patch_embed.proj.": "model.embeddings.patch_embeddings.projection.",
    "pos_embed": "model.embeddings.position_embeddings",
    "mask_token": "model.embeddings.mask_token",
    "segment_token_x": "model.embeddings.segment_token_input",
    "segment_token_y": "model.embeddings.segment_token_prompt",
    "type_token_cls": "model.embeddings.type_token_semantic",
    "type_token_ins": "model.embeddings.type_token_instance",
    "blocks.": "model.encoder.layers.",
    "norm.": "model.encoder.layernorm.",
    "decoder_embed.": "decoder.decoder_embed.",
    "decoder_pred.0.": "decoder.decoder_pred.conv.",
    "decoder_pred.1.": "decoder.decoder_pred.layernorm.",
    "decoder_pred.3.": "decoder.decoder_pred.head.",
}
IN_BLOCK = {
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.": ".attention.",
    ".mlp.fc1.": ".mlp.lin1.",
    ".mlp.fc2.": ".mlp.lin2.",
}


def seggpt_shapes(needed: Mapping[str, torch.Tensor]) -> Shapes:
    """The shapes of a model's tensors by released name; {}: it is no SegGPT."""
    if NET + MARK not in needed:
        return {}
    return {k.removeprefix(NET): tuple(v.shape) for k, v in needed.items()}


def seggpt_names(shapes: Shapes) -> dict[str, str]:
    """{name in a file: released name}, of the files of both sources."""
    return {k: k for k in shapes} | {_renamed(k): k for k in shapes}


def from_seggpt(
    state: Mapping[str, Any], shapes: Shapes, source: AnyPath, complete: bool = True
) -> dict[str, torch.Tensor] | None:
    """The tensors of a released file or of one of transformers under our names; None: the file
    bears ours already. A SegGPT may start from Painter's, unless it must be ``complete``: its type
    tokens then stay as they are. ValueError: as of ``fitting``."""
    if any(k.startswith(NET) for k in state):
        return None
    names = seggpt_names(shapes)
    known = {names.get(k, k): v for k, v in state.items()}
    if not complete and not any(k.startswith(TYPES) for k in known):
        shapes = {k: v for k, v in shapes.items() if not k.startswith(TYPES)}
    return {NET + k: v for k, v in fitting(known, shapes, source, "a SegGPT").items()}


def _renamed(name: str) -> str:
    start = max((k for k in RENAMED if name.startswith(k)), key=len)
    name = RENAMED[start] + name.removeprefix(start)
    if start == "blocks.":
        for ours, theirs in IN_BLOCK.items():
            name = name.replace(ours, theirs)
    return name
