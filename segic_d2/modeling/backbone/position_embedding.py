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

import torch
from torch.nn import functional as F

OFFSET = 0.1  # cells, in the released code of DINOv2


def resample_position_embedding(embedding, old, new, prefix=1, registers=False):
    """The position embedding of a checkpoint on another grid, as DINOv2's released code has it.

    Bicubic without antialiasing; cell i of the new grid reads the old one at
    (i + 0.5) / scale - 0.5 with scale = (new + 0.1) / old. The DINOv2 models with register tokens
    were released with another rule, the new size itself and antialiasing, which is also timm's.

    Args:
        embedding: float (1, P + G·G, C).
        old, new: (rows, columns) of the two grids.
        prefix: P, vectors in front that belong to no cell and stay as they are.
        registers: the model has register tokens.

    Returns:
        (1, P + g·h, C) of the same dtype, computed in float32; the embedding itself if the grid is
        that of the checkpoint.
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


def timm_positions(model, height, width):
    """The model itself: timm resamples in its own way, at every forward."""
    return model


def dinov2_positions(model, height, width):
    """A ViT with the position embedding of an input's size, as DINOv2's released code has it.

    Args:
        model: timm ViT with ``pos_embed`` (1, P + G·G, C); it is left as it is.
        height, width: of the input, px.

    Returns:
        a shallow copy that shares every layer with ``model`` and takes inputs of this size.
    """
    patches = copy.copy(model.patch_embed)
    grid = patches.dynamic_feat_size((height, width))
    registers = getattr(model, "reg_token", None) is not None
    resampled = resample_position_embedding(
        model.pos_embed, patches.grid_size, grid, _prefix(model), registers
    )
    patches.grid_size = grid  # timm leaves an embedding alone that has the grid of the input
    sized = copy.copy(model)
    sized._parameters = {**model._parameters, "pos_embed": resampled}
    sized._modules = {**model._modules, "patch_embed": patches}
    return sized


POSITIONS = {"timm": timm_positions, "dinov2": dinov2_positions}


def build_positions(how, model, name):
    """The rule of ``MODEL.TIMM.POS_EMBED``: a callable (model, height, width) → model.

    Raises:
        ValueError: no such rule, or one that is not timm's for a model without an absolute
            position embedding on its grid of patches.
    """
    if how not in POSITIONS:
        raise ValueError(f"MODEL.TIMM.POS_EMBED is {how!r}; it must be one of {tuple(POSITIONS)}")
    if how != "timm" and not _has_grid(model):
        raise ValueError(
            f"MODEL.TIMM.POS_EMBED is {how!r}, but MODEL.TIMM.NAME {name!r} has no absolute "
            "position embedding on a grid of patches; use 'timm'"
        )
    return POSITIONS[how]


def _prefix(model):
    return 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens


def _has_grid(model):
    """Whether timm would resample a (1, P + G·G, C) embedding of this model at every forward."""
    own = getattr(model, "pos_embed", None)
    if not (torch.is_tensor(own) and own.dim() == 3 and getattr(model, "dynamic_img_size", False)):
        return False
    return own.shape[1] == _prefix(model) + math.prod(model.patch_embed.grid_size)
