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
from typing import Any, NamedTuple

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
MOST = 8  # entities of a target that are seen again, the surest ones; and cuts at once

Box = tuple[int, int, int, int]  # y, x, height, width, px of the canvas


class Cut(NamedTuple):
    """A cut of the target ``row``; of ``entities`` the first is looked at again."""

    row: int
    entities: list[int]
    box: Box


def look_again(
    encode: Callable[[Sequence[Any]], Features],
    segment: Callable[[Features, Sequence[Context]], list[Segmentation]],
    features: Features,
    contexts: Sequence[Context],
    found: list[Segmentation],
    below: float,
    least: float = 0.0,
) -> list[Segmentation]:
    """What was found in B targets; the largest part of every entity whose mask takes at most
    ``below`` of its target is seen again, beside the entities that were found in the cut. An entity
    of which both looks together leave nothing stays as it was.

    Args:
        encode: of views. segment: of features, with a context each.
        features: of the targets, with their pictures. below: share; 0: nothing is seen again.
        least: entities of a lower score are not looked at again.

    Raises:
        ValueError: the pictures of the targets did not come along.
    """
    if not below:
        return found
    if features.pictures is None or any(picture is None for picture in features.pictures):
        raise ValueError(
            "MODEL.SEGIC.TEST.REFINE.SECOND_LOOK needs the pictures of the targets beside their "
            "features"
        )
    cuts = [cut for row, one in enumerate(found) for cut in _cuts(one, row, below, least)]
    logits: dict[int, Tensor] = {}
    for start in range(0, len(cuts), MOST):
        some = cuts[start : start + MOST]
        views = [{"image": _view(features, cut)} for cut in some]
        asked = [contexts[cut.row].take(cut.entities) for cut in some]
        for cut, seen in zip(some, segment(encode(views), asked), strict=True):
            if cut.row not in logits:
                logits[cut.row] = found[cut.row].logits.clone()
            whole = logits[cut.row][cut.entities[0]]
            both = _both(whole, seen, cut.box, found[cut.row])
            if (both > found[cut.row].threshold).any():
                whole.copy_(both)
    return [replace(one, logits=logits[i]) if i in logits else one for i, one in enumerate(found)]


def _cuts(found: Segmentation, row: int, below: float, least: float) -> list[Cut]:
    """The cuts of one of the targets: those that hold a cell of the logits, and are seen larger."""
    frame, side = found.frame, found.logits.shape[-1]
    (height, width), size = frame.rows_columns(side), frame.canvas / side
    own = found.logits[:, :height, :width] - found.threshold
    inside = (own > 0).cpu()
    share = inside.flatten(1).float().mean(1)
    scores = torch.as_tensor(found.scores).float().cpu()
    small = ((share > 0) & (share <= below) & (scores >= least)).nonzero()[:, 0]
    cuts: list[Cut] = []
    for entity in small[scores[small].argsort(descending=True)][:MOST].tolist():
        parts = connected_parts(inside[entity].long().flatten(), (height, width))
        chance = own[entity].float().sigmoid().cpu() * inside[entity]
        held = torch.bincount(parts, chance.flatten())
        shown = (parts == held.argmax()).view(height, width)
        fine = F.interpolate(shown[None, None].float(), frame.content)[0, 0] > 0.5
        crop = zoom_crop(fine.numpy(), SHARE)
        if crop and min(crop.h, crop.w) >= size and SMALLER * max(crop.h, crop.w) <= frame.canvas:
            box = crop.y0, crop.x0, crop.h, crop.w
            shows = inside[(slice(None), *_cells(box, size))].flatten(1).any(1)
            shows[entity] = False
            cuts.append(Cut(row, [entity, *shows.nonzero()[:, 0].tolist()], box))
    return cuts


def _cells(box: Box, size: float) -> tuple[slice, slice]:
    """Rows and columns of the cells, ``size`` px, whose centres a box holds."""
    y, x, height, width = (n / size for n in box)
    return tuple(  # type: ignore[return-value]
        slice(math.ceil(first - 0.5), math.ceil(first + length - 0.5))
        for first, length in ((y, height), (x, width))
    )


def _view(features: Features, cut: Cut) -> Tensor:
    """A cut as it is encoded: (3, h, w) in 0–255, its longer side a share of the canvas."""
    assert features.pictures is not None
    picture, canvas = features.pictures[cut.row], features.frames[cut.row].canvas
    assert picture is not None
    y, x, height, width = cut.box
    cell = canvas // features.map.shape[-1]
    scale = canvas / SMALLER / max(height, width)
    size = [max(cell, round(n * scale / cell) * cell) for n in (height, width)]
    part = picture[None, :, y : y + height, x : x + width].float()
    return F.interpolate(part, size, mode="bicubic", antialias=True)[0].clamp(0, 255)


def _both(whole: Tensor, seen: Segmentation, box: Box, found: Segmentation) -> Tensor:
    """The mean of logits (r, r) and of those of a cut's first entity, where the cut is."""
    size, frame = found.frame.canvas / len(whole), seen.frame
    said = frame.upsample((seen.logits[:1].float() - seen.threshold).clamp(-SUREST, SUREST))
    places, cells = [], _cells(box, size)
    for part, first, length in zip(cells, box[:2], box[2:], strict=True):
        centres = torch.arange(part.start, part.stop, device=said.device) + 0.5
        places.append((centres * size - first) / length * 2 - 1)
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], 2)[None]
    again = F.grid_sample(said[None], grid, padding_mode="border", align_corners=False)[0, 0]
    both = whole.clone()
    both[cells] = torch.lerp(again.to(whole.dtype) + found.threshold, whole[cells], FIRST)
    return both
