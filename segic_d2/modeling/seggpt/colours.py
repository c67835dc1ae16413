"""Masks become colours, and painted colours become masks.

Colours are RGB in 0–255. Shapes: S side of a square (px), N entities.
"""

import colorsys
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WHITE, BRIGHT = 255.0, 128.0  # a painted pixel is of a white mask above this mean
PER_LOGIT = 16.0  # of grey, or of the distance between colours: logits reach ±8
NEAR = 19.0  # mean difference of channels below which Painter takes a pixel for a colour


def entity_colours(count: int) -> Tensor:
    """Colours (N, 3) of entities in one pass, far from each other, from black and from grey: full
    hues; of one entity white."""
    if count == 1:
        return torch.full((1, 3), WHITE)
    hues = (colorsys.hsv_to_rgb(i / count, 1.0, 1.0) for i in range(count))
    return (torch.tensor([*hues]) * 255).round()


def grid_palette(count: int, levels: int = 0) -> Tensor:
    """The colours (N, 3) of N classes by Painter's rule: ``levels`` values per channel from white
    down; 0: as few as are distinct. ADE20K has 6 of them, COCO 7."""
    levels = levels or int(count ** (1 / 3)) + 1
    if levels**3 < count:
        raise ValueError(f"{levels} levels per channel make {levels**3} colours, not {count}")
    i = torch.arange(count)
    steps = torch.stack([i // levels**2, i % levels**2 // levels, i % levels], 1)
    return 255 - (256 // levels) * steps.float()


def paint(masks: Tensor, colours: Tensor) -> Tensor:
    """Masks (N, S, S), 0 or 1, in colours (N, 3) on black: (3, S, S). Later ones lie on top."""
    canvas = colours.new_zeros(3, *masks.shape[-2:])
    for mask, colour in zip(masks, colours, strict=True):
        canvas = torch.where(mask > 0, colour[:, None, None], canvas)
    return canvas


def white_logits(painted: Tensor) -> Tensor:
    """Logits (…, S, S) of what is white in painted colours (…, 3, S, S): above 0 where the mean of
    the channels is above 128, the released rule."""
    return (painted.mean(-3) - BRIGHT) / PER_LOGIT


def colour_logits(painted: Tensor, colours: Tensor) -> Tensor:
    """Logits (N, S, S) of N colours (N, 3) in what is painted (3, S, S): by how much black and all
    other colours are farther (L2), so that no two are above 0."""
    palette = torch.cat([colours.new_zeros(1, 3), colours])
    far = (painted[None] - palette[:, :, None, None]).norm(dim=1)  # (1 + N, S, S)
    others = torch.stack([torch.cat([far[:i], far[i + 1 :]]).amin(0) for i in range(1, len(far))])
    return (others - far[1:]) / PER_LOGIT


def cleanness(painted: Tensor, colour: Tensor, inside: Tensor) -> Tensor:
    """How clean a colour (3,) is painted (3, S, S) inside a mask, bool (S, S): 1 less the mean
    difference of the channels there / 255, a scalar; 0 where the mask is empty."""
    away = (painted - colour[:, None, None]).abs().mean(0) / 255
    return (1 - (away * inside).sum() / inside.sum().clamp(min=1)) * inside.any()


def nearest_colour(pixels: Tensor, palette: Tensor, power: int = 1) -> Tensor:
    """The nearest of N colours, int64 (H, W), of pixels (H, W, 3): by L1 (Painter's semantic
    evaluation) or, ``power`` 2, by L2."""
    best = pixels.new_full(pixels.shape[:2], math.inf, dtype=torch.float32)
    labels = torch.zeros_like(best, dtype=torch.int64)
    for i, colour in enumerate(palette.float()):  # not (N, H, W, 3) at once
        far = (pixels.float() - colour).abs().pow(power).sum(-1)
        labels = torch.where(far < best, i, labels)
        best = torch.minimum(far, best)
    return labels


def masks_of_colours(pixels: Tensor, palette: Tensor, near: float = NEAR) -> tuple[Tensor, Tensor]:
    """Painter's class-agnostic instances in pixels (H, W, 3): masks bool (n, H, W) of the colours
    that some pixel is near to, and the mean difference inside each, (n,)."""
    distances = ((pixels.float() - colour).abs().mean(-1) for colour in palette.float())
    found = [(far < near, far[far < near].mean()) for far in distances if (far < near).any()]
    if not found:
        return torch.zeros(0, *pixels.shape[:2], dtype=torch.bool), torch.zeros(0)
    masks, means = zip(*found, strict=True)
    return torch.stack(masks), torch.stack(means)


def tiled(squares: Tensor, nearest: bool = False, window: Sequence[float] = (1, 0, 0)) -> Tensor:
    """K squares (K, 3, S, S) as one of the same size, (1, 3, S, S), on a grid of the least n×n ≥ K,
    whose free places repeat the first ones (what the paper does there it does not say). ``window``:
    what of the grid is kept, its share of a side, and where in the room left by that, 0–1."""
    side, size = math.ceil(math.sqrt(len(squares))), squares.shape[-2:]
    rows = torch.arange(side**2, device=squares.device) % len(squares)
    grid = squares[rows].unflatten(0, (side, side)).permute(2, 0, 3, 1, 4)  # (3, n, S, n, S)
    grid = grid.flatten(3).flatten(1, 2)[None]  # (1, 3, nS, nS)
    whole = grid.shape[-1]
    kept = round(window[0] * whole)
    top, left = (round(x * (whole - kept)) for x in window[1:])
    grid = grid[..., top : top + kept, left : left + kept]
    mode = "nearest-exact" if nearest else "bilinear"
    return F.interpolate(grid, size, mode=mode, antialias=not nearest)
