"""One-shot instances: every peak of a propagated mask asks for one object of its class.

A class of the context lights up wherever the target shows it. Each local maximum becomes a prompt
for an instance: the point of the peak, with the class's visual token, text and propagated mask.
Peaks on one object yield the same mask twice, which mask NMS removes. Where regions are chosen, a
peak takes its regions in place of its decoded mask.

Shapes: B targets, M entities (classes) over all of them, P prompts, r side of a map or of the
low-resolution logits, S canvas side (px), g grid side (cells).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from ...structures.context import Context
from ...structures.features import Features
from ...structures.segmentation import Segmentation, require_finite
from ..layers.correspondence import best_points
from .mask_head import HeadOutput, InContextMaskHead
from .queries import Queries
from .readout import Readout

PEAK_POSITIONS = 2**22  # of propagated masks that are searched at once
NMS_ROWS = 128  # masks of which overlaps with as many others are computed at once
APART = 2.0  # grid cells between the centres of two peaks of a class, at least


@dataclass(frozen=True)
class InstanceOptions:
    """``MODEL.SEGIC.INSTANCES``: prompts per class and per target (0: all) at most, the least
    similarity of a peak, the overlap from which on a mask is another's double; and whether no peak
    is asked, and what hangs together of a class is an object (``regions.instances``)."""

    per_class: int = 10
    per_image: int = 1000
    min_similarity: float = 0.0
    nms_iou: float = 0.5
    parts: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> InstanceOptions:
        o = cfg.MODEL.SEGIC.INSTANCES
        return cls(o.PER_CLASS, o.PER_IMAGE, o.MIN_SIMILARITY, o.NMS_IOU, o.PARTS)


def find_instances(
    head: InContextMaskHead,
    readout: Readout,
    features: Features,
    context: Context,
    options: InstanceOptions,
    limit: int = 100,
    chunk: int = 0,
) -> list[Segmentation]:
    """The objects of every class of a context (its task should be "instance") in each of B targets,
    best first, ``limit`` per target at most. All prompts of a target are decoded in one batch, one
    target after the other. With a head that chooses regions, a peak takes those that its class
    chooses and its decoded mask covers (``RegionMatcher.prompted``), and is dropped where there are
    none. ``chunk``: see ``InContextMaskHead.forward``."""
    found, queries = [], Queries.from_contexts([context])
    for i in range(len(features)):
        one = features[i : i + 1]
        (frame,) = one.frames
        peaks, out = decode_instances(head, one.map, [frame.content], queries, options, chunk)
        if not len(peaks):  # NaN has no peak
            require_finite(one.map)
        quality = readout.instance_quality(out, peaks.similarity)
        scores, logits = readout.scored(out.logits.float(), frame, quality)
        threshold = readout.threshold
        if head.matcher is not None:
            logits = head.matcher.prompted(one, context, peaks.entity, logits, threshold)
            threshold = 0.0
        classes = torch.tensor(context.ids, device=logits.device)[peaks.entity]
        content = frame.rows_columns(logits.shape[-1])
        rows = best_instances(logits, scores, classes, content, threshold, options.nms_iou, limit)
        best = readout.refined(logits[rows], one, threshold=threshold)
        entities = peaks.entity[rows].tolist()
        ids, names = [context.ids[e] for e in entities], [context.names[e] for e in entities]
        told = Segmentation(best, scores[rows], ids, names, frame, threshold)
        told.classes = classes[rows]
        found.append(told)
    return found


@dataclass
class Peaks:
    """Instance prompts of a batch, sorted by entity, best first within an entity: int64 (P,) rows
    of the ``Queries``, px on the canvas (P, 2), and values (P,) of the propagated mask there."""

    entity: Tensor
    xy: Tensor
    similarity: Tensor

    def __len__(self) -> int:
        return len(self.entity)

    def __getitem__(self, rows: Tensor) -> Peaks:
        return Peaks(self.entity[rows], self.xy[rows], self.similarity[rows])


def find_peaks(
    maps: Tensor,
    valid: Tensor,
    canvas: int,
    count: int,
    min_distance: float,
    min_similarity: float = -torch.inf,
) -> Peaks:
    """Local maxima of propagated masks (M, r, r), the best first, kept apart.

    A local maximum is no lower than its up to eight valid neighbours. Of those that are high enough
    the best is taken, then the best of what is at least ``min_distance`` px of the canvas from it,
    and so on, up to ``count`` per entity. Where ``valid``, bool (M, r, r), is False, maps are as if
    they were not.
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


def strongest(peaks: Peaks, image_index: Tensor, limit: int) -> Peaks:
    """The ``limit`` (0: all) peaks of the highest similarity of each target, in their order;
    ``image_index`` is int64 (M,), the target of each entity."""
    if not limit or len(peaks) <= limit:
        return peaks
    order = peaks.similarity.argsort(descending=True, stable=True)
    image = image_index[peaks.entity][order]
    by_image = image.argsort(stable=True)  # a target's peaks together, the best first
    counts = torch.bincount(image)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(image), device=image.device) - first[image[by_image]]
    return peaks[order[by_image[rank < limit]].sort().values]


def prompt_queries(queries: Queries, peaks: Peaks, images: int) -> Queries:
    """``Queries`` of P prompts: each peak with the vectors of its entity among ``queries``;
    ``images`` is B, number of targets."""
    rows = peaks.entity
    index, meta = queries.image_index[rows], queries.meta
    return Queries(
        index,
        torch.bincount(index, minlength=images).tolist(),
        queries.vectors[rows],
        queries.prototypes[rows],
        queries.shots[rows],
        None if meta is None else meta[rows],
    )


def decode_instances(
    head: InContextMaskHead,
    features: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    queries: Queries,
    options: InstanceOptions,
    chunk: int = 0,
) -> tuple[Peaks, HeadOutput]:
    """Mask logits of every instance prompt of every target, in one batched decode: ``Peaks`` of P
    prompts, sorted by target and entity, and the ``HeadOutput`` of P rows.

    Prompts see the visual token of their own class alone: the other classes of a vocabulary are too
    many to be told apart as in training, and would cost memory with the square of their number.
    ValueError: a head without points (``MODEL.SEGIC.POINT``), which cannot be asked so.
    """
    if not head.on.point:
        raise ValueError(
            "MODEL.SEGIC.POINT is False: instance prompts are points, so it must be on"
        )
    maps = head.propagate(features, queries)
    valid = head.valid_positions(image_sizes, maps)[queries.image_index]
    apart, least = APART * head.stride, options.min_similarity
    peaks = find_peaks(maps, valid, head.canvas, options.per_class, apart, least)
    peaks = strongest(peaks, queries.image_index, options.per_image)
    if not len(peaks):
        none, side = maps.new_zeros(0), 4 * head.grid
        return peaks, HeadOutput(maps.new_zeros(0, side, side), none, none, maps[:0])
    prompts = prompt_queries(queries, peaks, len(features))
    points = peaks.xy[:, None]
    return peaks, head(features, image_sizes, prompts, crossing=False, points=points, chunk=chunk)


def mask_nms(masks: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Greedy non-maximum suppression by the overlap of masks, within each class.

    Going from the best score down (ties: the first), a mask is dropped if its IoU with a kept one
    of its class is above ``iou``. All masks are decided together: which are kept, given which
    better ones are, is computed until nothing changes, and that is the greedy result.

    ``masks`` are bool (P, …), scores float (P,), classes int64 (P,); the result is int64, the rows
    that are kept, best first.
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


def _overlaps(masks: Tensor, iou: float) -> Tensor:
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


def best_instances(
    logits: Tensor,
    scores: Tensor,
    classes: Tensor,
    content: tuple[int, int],
    threshold: float = 0.0,
    iou: float = 0.5,
    limit: int = 100,
) -> Tensor:
    """Which prompts of a target are instances: int64, rows of the non-empty masks, best first,
    ``limit`` at most. ``content``: (h, w), cells of the logits (P, r, r) that are image and not
    padding; ``iou``: see ``mask_nms``, on the grid of the logits."""
    height, width = content
    masks = logits[:, :height, :width] > threshold
    rows = masks.flatten(1).any(1).nonzero()[:, 0]
    kept = mask_nms(masks[rows], scores[rows], classes[rows], iou)
    return rows[kept][:limit]
