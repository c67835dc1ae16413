"""A second look at small things: what was found is cut out, seen larger, and both looks count.

A thing of a few of the backbone's cells is found, but hardly outlined. Cut as references are cut
(``INPUT.REFERENCE_ZOOM``) it has the cells that its reference has. The first look stays half of
what is said, for a cut knows less of what is around. Nothing of it is trained.

Shapes: B targets, N entities, r side of the logits, S canvas side (px), h×w a content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...structures.context import Context
from ...structures.features import Features
from ...structures.segmentation import Segmentation
from ...structures.view import zoom_crop
from .regions.canvas import SUREST
from .regions.linkage import connected_parts

SHARE = 0.4  # of the cut's side that the thing takes
SMALLER = 2  # times the canvas, than which a cut is seen
FIRST = 0.5  # weight of the first look
MOST = 8  # entities of a target that are looked at again, those of the highest scores

Box = tuple[int, int, int, int]  # y, x, height, width, px of the canvas
Cut = tuple[int, int, Box]  # of a target and an entity


def look_again(
    encode: Callable[[Sequence[Any]], Features],
    segment: Callable[[Features, Sequence[Context]], list[Segmentation]],
    features: Features,
    contexts: Sequence[Context],
    found: list[Segmentation],
    below: float,
) -> list[Segmentation]:
    """What was found in B targets; the largest part of every entity whose mask takes at most
    ``below`` of its target is seen again, by itself, by its own context.

    Args:
        encode: of views. segment: of features, with a context each.
        features: of the targets, with their pictures. below: share; 0: nothing is seen again.

    Raises:
        ValueError: the pictures of the targets did not come along.
    """
    cuts = [cut for row, one in enumerate(found) for cut in _cuts(one, row, below)] if below else []
    if not cuts:
        return found
    views = [_view(features, row, box) for row, _, box in cuts]
    alone = [contexts[row].take([entity]) for row, entity, _ in cuts]
    again = segment(encode([{"image": view} for view in views]), alone)
    logits = [one.logits.clone() for one in found]
    for (row, entity, box), seen in zip(cuts, again, strict=True):
        whole, size = logits[row][entity], found[row].frame.canvas / logits[row].shape[-1]
        said = (seen.logits.float() - seen.threshold).clamp(-SUREST, SUREST)
        part, place = _placed(seen.frame.upsample(said), box, size)
        part = part.to(whole.dtype) + found[row].threshold
        whole[place] = torch.lerp(part, whole[place], FIRST)
    return [replace(one, logits=x) for one, x in zip(found, logits, strict=True)]


def _cuts(found: Segmentation, row: int, below: float) -> list[Cut]:
    """The cuts of one of the targets, of those that leave out something."""
    frame, side = found.frame, found.logits.shape[-1]
    height, width = frame.rows_columns(side)
    chance = (found.logits[:, :height, :width].float() - found.threshold).sigmoid().cpu()
    inside = chance > 0.5
    share = inside.flatten(1).float().mean(1)
    scores = torch.as_tensor(found.scores).float().cpu()
    small = ((share > 0) & (share <= below)).nonzero()[:, 0]
    cuts: list[Cut] = []
    for entity in small[scores[small].argsort(descending=True)][:MOST].tolist():
        parts = connected_parts(inside[entity].long().flatten(), (height, width))
        held = torch.bincount(parts, (chance[entity] * inside[entity]).flatten())
        shown = (parts == held.argmax()).view(height, width)
        fine = F.interpolate(shown[None, None].float(), frame.content)[0, 0] > 0.5
        crop = zoom_crop(fine.numpy(), SHARE)
        if crop is not None and min(crop.h, crop.w) >= frame.canvas / side:  # holds a cell
            cuts.append((row, entity, (crop.y0, crop.x0, crop.h, crop.w)))
    return cuts


def _view(features: Features, row: int, box: Box) -> Tensor:
    """A cut of one of the targets as it is encoded: (3, h, w) in 0–255, its longer side a share of
    the canvas."""
    picture = features.pictures[row] if features.pictures else None
    if picture is None:
        raise ValueError(
            "MODEL.SEGIC.TEST.REFINE.SECOND_LOOK needs the pictures of the targets beside their "
            "features"
        )
    y, x, height, width = box
    cell = features.frames[row].canvas // features.map.shape[-1]
    scale = features.frames[row].canvas / SMALLER / max(height, width)
    size = [max(cell, round(n * scale / cell) * cell) for n in (height, width)]
    cut = picture[None, :, y : y + height, x : x + width].float()
    return F.interpolate(cut, size, mode="bicubic", antialias=True)[0].clamp(0, 255)


def _placed(said: Tensor, box: Box, size: float) -> tuple[Tensor, tuple[slice, slice]]:
    """What the logits (1, h, w) of a cut say at the cells, ``size`` px, of the canvas's whose
    centres it holds, and which these are."""
    places, spans = [], []
    for first, length in zip(box[:2], box[2:], strict=True):
        start, stop = (math.ceil(px / size - 0.5) for px in (first, first + length))
        centres = torch.arange(start, stop, device=said.device) + 0.5
        places.append((centres * size - first) / length * 2 - 1)
        spans.append(slice(start, stop))
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], 2)[None]
    found = F.grid_sample(said[None], grid, padding_mode="border", align_corners=False)
    return found[0, 0], (spans[0], spans[1])
