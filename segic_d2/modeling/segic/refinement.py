"""What masks owe to the target alone: whole things by its features, edges by its colours.

A random walk with restart over the cells of the backbone carries the foreground probability to
cells with like features (as AffinityNet does with class activations; Ahn and Kwak, CVPR 2018): it
fills what the decoder left out of a thing and drops what it strewed elsewhere. A guided filter (He,
Sun, Tang, TPAMI 2013) then moves edges: the backbone sees cells of 14 or 16 pixels, so that masks
bend where cells meet, but within a small window a mask should be an affine function of the
picture's colours. Neither is trained.

Shapes: N entities, r side of the low-resolution logits, S canvas side (px), g grid side (cells).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...structures.features import Features
from ...utils.devices import upload
from ..layers.precision import without_autocast
from ..layers.similarity import Similarity

AT_ONCE = 64  # entities filtered at once
SURE = 1e-3  # a probability this near 0 or 1 keeps the logit it had, if that was surer still
STEPS = 10  # of the random walk
POWER = 8.0  # of the similarities of the walk
FLAT = 0.005  # variance of colours in [0, 1] below which a window of the filter has no edge


@dataclass(frozen=True)
class Refinement:
    """``MODEL.SEGIC.TEST.REFINE``: the radius of the guided filter in cells of the logits, and the
    share of the walk that goes on at a step; 0 leaves that part out."""

    radius: int = 0
    walk: float = 0.0

    def __call__(
        self,
        logits: Tensor,
        features: Features,
        row: int,
        similarity: Similarity | None,
        threshold: float,
    ) -> Tensor:
        """Logits (N, r, r) of one of the targets, walked (unless ``similarity`` is None) and
        filtered. ValueError: the filter needs the picture of the target, which did not come
        along."""
        refined = logits
        if self.walk and similarity is not None:
            alike, cells = similarity.within(features.map[row], features.frames[row].content)
            refined = random_walk(refined, alike, cells, self.walk, POWER, threshold)
        if self.radius:
            picture = features.pictures[row] if features.pictures else None
            if picture is None:
                raise ValueError(
                    f"MODEL.SEGIC.TEST.REFINE.RADIUS is {self.radius}, which needs the pictures of "
                    "the targets beside their features"
                )
            canvas = features.frames[row].canvas
            refined = refine_logits(refined, picture, canvas, self.radius, FLAT, threshold)
        return logits if refined is logits else unless_lost(refined, logits, threshold)


@without_autocast
def random_walk(
    logits: Tensor,
    similarity: Tensor,
    cells: tuple[int, int, int],
    go_on: float,
    power: float,
    threshold: float = 0.0,
) -> Tensor:
    """Mask logits after a random walk of their foreground probability over cells that look alike.

    A cell's new probability is its own with a share of 1 − ``go_on``, and else the mean over cells
    as the last step left them, weighed by similarity to the power ``power``; ``STEPS`` times. What
    that adds to the cell's logit, between −7 and 7, is interpolated between cells and added to all
    logits in it: float32 (N, r, r).

    Args:
        logits: float (N, r, r) over the canvas. threshold: see ``refine_logits``.
        similarity: float (h·w, h·w), cosines of the cells of the content; below 0 counts as 0.
        cells: (g, h, w): the grid's side, and the rows and columns of cells with any content.
        go_on: in [0, 1). power: above 0.
    """
    side, rows, columns = cells
    weights = similarity.float().clamp(min=0) ** power
    weights.fill_diagonal_(1)  # also of a cell without any feature
    weights = weights / weights.sum(1, keepdim=True)
    pooled = F.adaptive_avg_pool2d(logits.float(), side)[:, :rows, :columns].flatten(1)
    own = (pooled - threshold).sigmoid()  # (N, h·w)
    chance = own
    for _ in range(STEPS):
        chance = (1 - go_on) * own + go_on * chance @ weights.T
    added = torch.logit(chance, eps=SURE) - torch.logit(own, eps=SURE)
    added = added.unflatten(1, (1, rows, columns))
    added = F.pad(added, (0, side - columns, 0, side - rows), mode="replicate")
    size = logits.shape[-2:]
    return logits + F.interpolate(added, size, mode="bilinear", align_corners=False)[:, 0]


def window_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over the (2·radius+1)² window of each position of maps (B, C, h, w), as far as it lies
    inside of the map."""
    length = 2 * radius + 1
    rows = F.avg_pool2d(maps, (length, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, length), 1, (0, radius), count_include_pad=False)


@without_autocast
def guided_filter(guide: Tensor, maps: Tensor, radius: int, eps: float) -> Tensor:
    """Filter maps (N, h, w) so that they follow the edges of a guide (3, h, w), colours in [0, 1]
    (the paper's Eqs. 19–21), in windows of ``radius`` cells; below the variance ``eps`` one counts
    as flat."""
    colours = guide[None]  # (1, 3, h, w)
    mean = window_mean(colours, radius)
    products = (colours[:, :, None] * colours[:, None]).flatten(1, 2)
    square = mean[:, :, None] * mean[:, None]
    covariance = window_mean(products, radius).unflatten(1, (3, 3)) - square
    covariance = covariance[0].permute(2, 3, 0, 1)  # (h, w, 3, 3)
    # never singular; inv itself would make the host wait to be sure of that
    inverse, _ = torch.linalg.inv_ex(covariance + eps * torch.eye(3, device=guide.device))
    maps = maps[:, None]
    own = window_mean(maps, radius)
    shared = window_mean(maps * colours, radius) - own * mean  # (N, 3, h, w)
    slope = torch.einsum("hwij,njhw->nihw", inverse, shared)
    offset = own - (slope * mean).sum(1, keepdim=True)
    slope, offset = window_mean(slope, radius), window_mean(offset, radius)
    return (slope * colours).sum(1) + offset[:, 0]


@without_autocast
def refine_logits(
    logits: Tensor, picture: Tensor, canvas: int, radius: int, eps: float, threshold: float = 0.0
) -> Tensor:
    """Mask logits (N, r, r) whose foreground probability, one half at ``threshold``, is filtered
    with the picture, (3, h, w) in 0–255, the content of the canvas, as the guide: float32; beyond
    the content, what is nearest in it. ``radius``: cells of the logits; ``eps``: see
    ``guided_filter``."""
    side, (height, width) = logits.shape[-1], picture.shape[-2:]
    colours = upload(picture, logits.device).to(torch.float32)[None] / 255
    colours = F.pad(colours, (0, canvas - width, 0, canvas - height), mode="replicate")
    guide = F.interpolate(
        colours, (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]
    rows, columns = (-(-n * side // canvas) for n in (height, width))
    guide, beyond = guide[:, :rows, :columns], (0, side - columns, 0, side - rows)
    refined = []
    for part in logits.split(AT_ONCE):
        inside = part[:, :rows, :columns].float()
        chance = guided_filter(guide, (inside - threshold).sigmoid(), radius, eps)
        found = torch.logit(chance, eps=SURE) + threshold
        found = torch.where(chance > 1 - SURE, found.maximum(inside), found)
        found = torch.where(chance < SURE, found.minimum(inside), found)
        refined.append(F.pad(found[:, None], beyond, mode="replicate")[:, 0])
    return torch.cat(refined)


def unless_lost(refined: Tensor, logits: Tensor, threshold: float) -> Tensor:
    """Refined logits (N, r, r), but those before of an entity of which nothing would be left: what
    is smaller than the filter's window and hardly stands out is smoothed away."""
    lost = (refined <= threshold).flatten(1).all(1)
    return torch.where(lost[:, None, None], logits.to(refined.dtype), refined)
