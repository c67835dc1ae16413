"""Absolute position embeddings of a ViT at the size of its input (``MODEL.TIMM.POS_EMBED``).

A checkpoint holds one vector per cell of the grid that it was trained at, such as 37×37. timm
resamples that grid to exactly the input's. The code that DINOv2 was released with states a scale
factor instead, (new + 0.1) / old, and does not antialias, so that it reads the grid at other
places: of a DINOv2 ViT-S, the embedding on 64×64 cells differs by 3 %.

Shape shorthand: P prefix tokens (class token), G×G the grid of the checkpoint, g×h the grid of the
input, C channels.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import with_members

OFFSET = 0.1  # cells, in the released code of DINOv2

# (model, height, width of its input in px) → the model with positions of that size
Positions: TypeAlias = Callable[[nn.Module, int, int], nn.Module]


def resample_position_embedding(
    embedding: Tensor,
    old: Sequence[int],
    new: Sequence[int],
    prefix: int = 1,
    registers: bool = False,
) -> Tensor:
    """The position embedding of a checkpoint on another grid, as DINOv2's released code has it.

    (1, P + G·G, C) → (1, P + g·h, C) of the same dtype, computed in float32; the embedding itself
    if the grids, (rows, columns), are equal. The P vectors in front belong to no cell and stay.

    Bicubic without antialiasing; cell i of the new grid reads the old one at
    (i + 0.5) / scale - 0.5 with scale = (new + 0.1) / old. The DINOv2 models with register tokens
    were released with another rule, the new size itself and antialiasing, which is also timm's.
    """
    old, new = tuple(old), tuple(new)
    if old == new:
        return embedding
    grid = embedding[:, prefix:].float().unflatten(1, old).permute(0, 3, 1, 2)
    if registers:
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True)
    else:
        scale = tuple((n + OFFSET) / o for n, o in zip(new, old, strict=True))
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    cells = grid.flatten(2).transpose(1, 2).to(embedding.dtype)
    return torch.cat([embedding[:, :prefix], cells], dim=1)


def timm_positions(model: nn.Module, height: int, width: int) -> nn.Module:
    """The model itself: timm resamples in its own way, at every forward."""
    return model


def dinov2_positions(model: nn.Module, height: int, width: int) -> nn.Module:
    """A shallow copy of a timm ViT with ``pos_embed`` for this size, as DINOv2's code has it; it
    shares every layer with ``model``, which is left as it is."""
    patches = copy.copy(model.patch_embed)
    grid = patches.dynamic_feat_size((height, width))
    registers = getattr(model, "reg_token", None) is not None
    resampled = resample_position_embedding(
        model.pos_embed, patches.grid_size, grid, _prefix(model), registers
    )
    patches.grid_size = grid  # timm leaves an embedding alone that has the grid of the input
    return with_members(model, {"pos_embed": resampled}, {"patch_embed": patches})


POSITIONS: dict[str, Positions] = {"timm": timm_positions, "dinov2": dinov2_positions}


def build_positions(how: str, model: nn.Module, name: str) -> Positions:
    """The rule of ``MODEL.TIMM.POS_EMBED`` for a model of that name; ValueError for an unknown one,
    or one but timm's for a model without an absolute position embedding on its patches."""
    if how not in POSITIONS:
        raise ValueError(f"MODEL.TIMM.POS_EMBED is {how!r}; it must be one of {tuple(POSITIONS)}")
    if how != "timm" and not _has_grid(model):
        raise ValueError(
            f"MODEL.TIMM.POS_EMBED is {how!r}, but MODEL.TIMM.NAME {name!r} has no absolute "
            "position embedding on a grid of patches; use 'timm'"
        )
    return POSITIONS[how]


def _prefix(model: nn.Module) -> int:
    return 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens


def _has_grid(model: nn.Module) -> bool:
    """Whether timm would resample a (1, P + G·G, C) embedding of this model at every forward."""
    own = getattr(model, "pos_embed", None)
    if not (torch.is_tensor(own) and own.dim() == 3 and getattr(model, "dynamic_img_size", False)):
        return False
    return own.shape[1] == _prefix(model) + math.prod(model.patch_embed.grid_size)
