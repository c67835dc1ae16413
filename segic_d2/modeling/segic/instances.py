"""One-shot instances: every peak of a propagated mask asks for one object of its class.

A class of the context lights up wherever the target shows it. Each local maximum becomes a prompt
for an instance: the point of the peak, with the class's visual token, text and propagated mask.
Peaks on one object yield the same mask twice, which mask NMS removes.

Shape shorthand: B targets, M entities (classes) over all of them, P prompts, r side of a map or of
the low-resolution logits, S canvas side (px), g grid side (cells).
"""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from ..layers.correspondence import best_points
from .mask_head import HeadOutput

PEAK_POSITIONS = 2**22  # of propagated masks that are searched at once
NMS_ROWS = 128  # masks of which overlaps with as many others are computed at once


@dataclass
class Peaks:
    """Instance prompts of a batch, sorted by entity, best first within an entity.

    Attributes:
        entity: int64 (P,), the entity of each peak, a row of the ``Queries``.
        xy: float (P, 2), pixel coordinates on the canvas.
        similarity: float (P,), value of the propagated mask there.
    """

    entity: torch.Tensor
    xy: torch.Tensor
    similarity: torch.Tensor

    def __len__(self):
        return len(self.entity)

    def __getitem__(self, rows):
        return Peaks(self.entity[rows], self.xy[rows], self.similarity[rows])


def find_peaks(maps, valid, canvas, *, count, min_distance, min_similarity=-torch.inf):
    """Local maxima of propagated masks, the best first, kept apart.

    A local maximum is no lower than its up to eight valid neighbours. Of those that are high enough
    the best is taken, then the best of what is far enough from it, and so on.

    Args:
        maps: float (M, r, r), propagated masks.
        valid: bool (M, r, r), where a peak may lie; elsewhere maps are as if they were not.
        canvas: S, in pixels.
        count: peaks per entity, at most.
        min_distance: pixels on the canvas between two peaks of an entity, at least.
        min_similarity: a peak is at least this high.

    Returns:
        ``Peaks``; an entity may have none.
    """
    parts, step = [], max(1, PEAK_POSITIONS // maps[0].numel()) if len(maps) else 1
    for start in range(0, len(maps), step):
        part, inside = maps[start : start + step], valid[start : start + step]
        score = part.masked_fill(~inside, -torch.inf)
        around = F.max_pool2d(score[:, None], 3, stride=1, padding=1)[:, 0]
        peak = inside & (score >= around) & (score >= min_similarity)
        xy, found = best_points(part, peak, count, min_distance, canvas)
        entity, slot = found.nonzero(as_tuple=True)
        xy = xy[entity, slot]
        x, y = ((xy + 0.5) * (maps.shape[-1] / canvas)).floor().long().unbind(1)
        parts.append(Peaks(entity + start, xy, part[entity, y, x]))
    if not parts:
        empty = maps.new_zeros(0)
        return Peaks(empty.long(), maps.new_zeros(0, 2), empty)
    return Peaks(*(torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])))


def strongest(peaks, image_index, limit):
    """The ``limit`` peaks of the highest similarity of each target, in their order.

    Args:
        peaks: ``Peaks``.
        image_index: int64 (M,), the target of each entity.
        limit: prompts per target, at most; 0: all.
    """
    if not limit or len(peaks) <= limit:
        return peaks
    order = peaks.similarity.argsort(descending=True, stable=True)
    image = image_index[peaks.entity][order]
    by_image = image.argsort(stable=True)  # a target's peaks together, the best first
    counts = torch.bincount(image)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(image), device=image.device) - first[image[by_image]]
    kept = order[by_image[rank < limit]]
    return peaks[kept.sort().values]


_ROWS = "vectors", "prototypes", "shots", "meta", "background"


def prompt_queries(queries, peaks, images):
    """``Queries`` of P prompts: each peak with the vectors of its entity.

    Args:
        queries: ``Queries`` of M entities.
        peaks: ``Peaks`` of these entities.
        images: B, number of targets.
    """
    image_index = queries.image_index[peaks.entity]
    rows = [k for k in _ROWS if getattr(queries, k) is not None]
    return replace(
        queries,
        image_index=image_index,
        counts=torch.bincount(image_index, minlength=images).tolist(),
        **{name: getattr(queries, name)[peaks.entity] for name in rows},
    )


def decode_instances(head, features, image_sizes, queries, options, chunk=0):
    """Mask logits of every instance prompt of every target, in one batched decode.

    Prompts see the visual token of their own class alone: the other classes of a vocabulary are too
    many to be told apart as in training, and would cost memory with the square of their number.

    Args:
        head: ``InContextMaskHead``.
        features: float (B, C, g, g); image_sizes: B (h, w) in pixels.
        queries: ``Queries`` of M entities.
        options: ``MODEL.SEGIC.INSTANCES``.
        chunk: see ``InContextMaskHead.forward``.

    Returns:
        ``Peaks`` of P prompts, sorted by target and entity, and the ``HeadOutput`` of P rows.

    Raises:
        ValueError: a head without points (``MODEL.SEGIC.POINT``), which cannot be asked so.
    """
    if not head.point:
        raise ValueError(
            "MODEL.SEGIC.POINT is False: instance prompts are points, so it must be on"
        )
    maps = head.propagate(features, queries)
    peaks = find_peaks(
        maps,
        head.valid_positions(image_sizes, maps)[queries.image_index],
        head.canvas,
        count=options.PER_CLASS,
        min_distance=options.MIN_DISTANCE * head.stride,
        min_similarity=options.MIN_SIMILARITY,
    )
    peaks = strongest(peaks, queries.image_index, options.PER_IMAGE)
    if not len(peaks):
        side = 4 * head.grid
        none = maps.new_zeros(0)
        return peaks, HeadOutput(maps.new_zeros(0, side, side), none, none)
    prompts = prompt_queries(queries, peaks, len(features))
    output = head(
        features, image_sizes, prompts, crossing=False, points=peaks.xy[:, None], chunk=chunk
    )
    return peaks, output


def mask_nms(masks, scores, classes, iou):
    """Greedy non-maximum suppression by the overlap of masks, within each class.

    Going from the best score down (ties: the first), a mask is dropped if its IoU with a kept one
    of its class is above ``iou``. All masks are decided together: which are kept, given which
    better ones are, is computed until nothing changes, and that is the greedy result.

    Args:
        masks: bool (P, …); scores: float (P,); classes: int64 (P,).
        iou: in [0, 1].

    Returns:
        int64, the rows that are kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    flat, classes = masks[order].flatten(1), classes[order]
    later = torch.ones(len(order), len(order), dtype=torch.bool, device=masks.device).triu(1)
    beats = _overlaps(flat, iou) & (classes[:, None] == classes) & later  # [i, j]: i drops j
    kept = torch.ones_like(order, dtype=torch.bool)
    while True:
        now = ~(beats & kept[:, None]).any(0)
        if torch.equal(now, kept):
            return order[kept]
        kept = now


def _overlaps(masks, iou):
    """Whether the IoU of two masks, bool (P, L), is above ``iou``: bool (P, P)."""
    area = masks.sum(1)
    above = torch.empty(len(masks), len(masks), dtype=torch.bool, device=masks.device)
    parts = [slice(i, i + NMS_ROWS) for i in range(0, len(masks), NMS_ROWS)]
    for a in parts:
        rows = masks[a].float()
        for b in parts:
            inside = rows @ masks[b].float().T  # counts below 2²⁴, so exact in float32
            union = area[a, None] + area[None, b] - inside
            above[a, b] = inside.double() > iou * union.clamp(min=1).double()
    return above


def best_instances(logits, scores, classes, content, *, threshold=0.0, iou=0.5, limit=100):
    """Which prompts of a target are instances.

    Args:
        logits: float (P, r, r) over the canvas; scores: float (P,); classes: int64 (P,).
        content: (h, w), cells of the logits that are image and not padding.
        threshold: a cell is foreground where its logit is above this.
        iou: see ``mask_nms``; overlaps are those on the grid of the logits.
        limit: instances per target, at most.

    Returns:
        int64, rows of the non-empty masks that are kept, best first.
    """
    height, width = content
    masks = logits[:, :height, :width] > threshold
    rows = masks.flatten(1).any(1).nonzero()[:, 0]
    kept = mask_nms(masks[rows], scores[rows], classes[rows], iou)
    return rows[kept][:limit]


def check_options(options):
    """Raise ValueError if a value of ``MODEL.SEGIC.INSTANCES`` cannot be."""
    rules = (
        ("PER_CLASS", options.PER_CLASS >= 1, "at least 1"),
        ("PER_IMAGE", options.PER_IMAGE >= 0, "0 (all) or more"),
        ("MIN_DISTANCE", options.MIN_DISTANCE >= 0, "0 or more"),
        ("NMS_IOU", 0 <= options.NMS_IOU <= 1, "in [0, 1]"),
    )
    for name, fine, allowed in rules:
        if not fine:
            raise ValueError(
                f"MODEL.SEGIC.INSTANCES.{name} is {getattr(options, name)}; it must be {allowed}"
            )
