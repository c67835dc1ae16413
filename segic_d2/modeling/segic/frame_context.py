"""What was found in a video frame becomes a shot, from features that are known already.

Shapes: n masks, C feature channels, g grid side (cells), P parts, h×w content of the canvas (px).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...structures.context import COUNTS, PARTS, Context
from ...structures.features import Features
from ...structures.frame import Frame
from ...structures.segmentation import Segmentation
from ..layers.correspondence import group_norms
from ..layers.precision import without_autocast
from ..layers.similarity import Similarity
from .context_encoder import ContextEncoder, Shot
from .regions.cells import cover, front


@torch.no_grad()
@without_autocast
def frame_context(
    encoder: ContextEncoder, features: Features, found: Segmentation, task: str, parts: int = 0
) -> Context:
    """One shot of each entity of a segmentation, whose masks weigh by their probability; where they
    are exclusive, a position counts for the highest logit alone. By the released rules masks are
    binary, overlap, and reach into the padding.

    ``parts``: P, how many "parts" of each there are at most, by coverage (greedy k-centre) of the
    cells under the mask.
    """
    maps, names = features.map.float(), dict(zip(found.ids, found.names, strict=True))
    masks = _masks(found, features.frames[0], encoder.spec.released)
    whole = None if encoder.matcher is None else (maps[0], masks)
    shot = Shot(masks, found.ids, encoder.spec.released, whole)
    context = encoder.from_masks(maps, [shot], names, task)
    if parts:
        weights = encoder.weights(masks.to(maps), maps.shape[-1])
        pairs = [_parts(encoder.similarity, maps[0], one, parts) for one in weights]
        means, counts = zip(*pairs, strict=True)
        context.tensors |= {
            PARTS: torch.stack(means)[:, None],
            COUNTS: torch.stack(counts)[:, None],
        }
    return context


def _masks(found: Segmentation, seen: Frame, released: bool) -> Tensor:
    """Masks float (n, h, w) of the content as it was seen, or as released (n, S, S). Those that
    were given are logits of the frame's own size, not of the canvas."""
    frame = replace(found.frame, size=seen.content)
    if released:
        whole = (frame.canvas, frame.canvas)
        frame = replace(frame, content=whole, size=whole)
    above = frame.upsample(found.logits.float())
    above = above - found.threshold
    inside = above > 0
    if released:
        return inside.float()
    if found.exclusive and len(found) > 1:
        row = torch.arange(len(found), device=above.device)[:, None, None]
        inside &= above.argmax(0) == row
    return above.sigmoid() * inside


def _parts(
    similarity: Similarity, feature: Tensor, weights: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Mean unit features (P, C) of parts of what weights (g, g) mark in features (C, g, g), and how
    many cells each has, (P,); 0 where there is none."""
    flat, groups = feature.flatten(1), similarity.groups
    if similarity.feature_mean is not None:
        flat = flat - similarity.feature_mean[:, None]
    units = flat.unflatten(0, (groups, -1)) / group_norms(flat, groups=groups)
    inside = units.flatten(0, 1).T[front(weights.flatten())]  # (m, C)
    seeds = inside[cover(inside, count)]
    nearest = (inside @ seeds.T).argmax(1)
    counts = torch.bincount(nearest, minlength=count).to(inside)
    total = inside.new_zeros(count, inside.shape[1]).index_add_(0, nearest, inside)
    return total / counts[:, None].clamp(min=1), counts
