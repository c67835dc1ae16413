"""Objects of one video frame that compete: windows, merging, boxes, and masks that are known.

Boxes are shares of the content (left, upper, right, lower in [0, 1]), so that they outlive a change
of the frame's size. Shapes: N objects, r side of logits over the canvas, H×W the frame's own size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor
from torch.nn import functional as F

from ..structures.frame import Frame
from ..structures.segmentation import Segmentation

AWAY = 10.0  # how far below the threshold a logit is where an object cannot be
NEAR = 1.0  # logit that half a box's longer side is worth
FAR = 4.0
ONE = 1.2  # of an object's usual sides: a region up to so large is of one object
SURE = 1e-7  # probabilities of ``soft`` keep so far from 0 and 1
Box = tuple[float, float, float, float]


def within_windows(
    found: Segmentation, boxes: Sequence[Box | None], margins: Sequence[float]
) -> Segmentation:
    """Objects only inside the boxes where they are expected, each grown by a share of its longer
    side (in px); None: anywhere."""
    if not any(boxes):
        return found
    logits, away = found.logits.clone(), found.threshold - AWAY
    for row, (box, margin) in enumerate(zip(boxes, margins, strict=True)):
        if box is not None:
            (x, y), (half_x, half_y) = _distances(found, box)
            grown = 2 * margin * max(half_x, half_y)
            outside = (x > half_x + grown) | (y[:, None] > half_y + grown)
            logits[row].masked_fill_(outside, away)
    return replace(found, logits=logits)


def nearest_first(
    found: Segmentation,
    boxes: Sequence[Box | None],
    sizes: Sequence[tuple[float, float]] = (),
    missed: Sequence[bool] = (),
) -> Segmentation:
    """What several objects mark goes to the one whose logit, less ``NEAR`` for each half of its
    longer side from the middle of the box where it is expected, is highest: look-alikes are told
    apart by where they were. None, one that was lost, is as far as ``FAR`` halves.

    With the usual ``sizes`` (width, height), a region that has room for one of them alone goes to
    one as a whole, and of those who were ``missed`` in the last frame to none before the others:
    the other is hidden.
    """
    if len(found) < 2 or not any(boxes):
        return found
    above = found.logits.float() - found.threshold
    strength = above - NEAR * FAR
    for row, box in enumerate(boxes):
        if box is not None:
            (x, y), halves = _distances(found, box)
            away = (x.square() + y[:, None].square()).sqrt() / max(*halves, 1e-8)
            strength[row] = above[row] - NEAR * away
    if sizes:
        above = _one_each(found, above, strength, sizes, missed)
    strength.masked_fill_(above <= 0, -torch.inf)
    best = strength.amax(0)
    behind = torch.minimum(strength - best, above.new_tensor(-1e-3))
    lost = (above > 0) & (strength < best)
    return replace(found, logits=torch.where(lost, behind, above) + found.threshold)


def _one_each(
    found: Segmentation,
    above: Tensor,
    strength: Tensor,
    sizes: Sequence[tuple[float, float]],
    missed: Sequence[bool],
) -> Tensor:
    """``above`` without those who share a region that is no larger than one of them."""
    marked = (above > 0).cpu().numpy()
    if not (marked.sum(0) > 1).any():
        return above
    above, (rows, columns) = above.clone(), found.frame.rows_columns(above.shape[-1])
    regions, _ = label(marked.any(0), np.ones((3, 3)))
    for number, place in enumerate(find_objects(regions), 1):
        here = regions[place] == number
        who = np.flatnonzero(
            (marked[(slice(None), *place)] & here).sum((1, 2)) * 2 > here.sum()
        ).tolist()
        height, width = (side / n for side, n in zip(here.shape, (rows, columns), strict=True))
        if len(who) < 2 or not all(
            width <= ONE * sizes[row][0] and height <= ONE * sizes[row][1] for row in who
        ):
            continue
        inner = torch.from_numpy(here).to(above.device)
        worth = [float(strength[row][place][inner].mean()) - FAR * missed[row] for row in who]
        for row in who:
            if row != who[int(np.argmax(worth))]:
                above[row][place].masked_fill_(inner, -AWAY)
    return above


def _distances(found: Segmentation, box: Box) -> tuple[tuple[Tensor, Tensor], tuple[float, float]]:
    """How far columns and rows (r,) of the logits are from the middle of a box, and half its width
    and height, all in px of the canvas."""
    side, (height, width) = found.logits.shape[-1], found.frame.content
    centres = (torch.arange(side, device=found.logits.device) + 0.5) * (found.frame.canvas / side)
    x0, y0, x1, y1 = (share * n for share, n in zip(box, (width, height) * 2, strict=True))
    away = (centres - (x0 + x1) / 2).abs(), (centres - (y0 + y1) / 2).abs()
    return away, ((x1 - x0) / 2, (y1 - y0) / 2)


def without(found: Segmentation, absent: Sequence[bool]) -> Segmentation:
    """The same with objects that are nowhere."""
    if not any(absent):
        return found
    gone = torch.tensor(absent, device=found.logits.device)[:, None, None]
    return replace(found, logits=found.logits.masked_fill(gone, found.threshold - AWAY))


def merged(found: Segmentation, how: str) -> Segmentation:
    """One object per pixel by "argmax" or "soft", of equal ones the first; "independent": as they
    are.

    "soft": the background has the product of the others' 1 − p, and a pixel goes to whoever has the
    highest odds; the logits become those of an object against the background.
    """
    if how == "soft":
        logits = soft_logits(found.logits.float() - found.threshold)
        return replace(found, logits=logits, threshold=0.0, exclusive=True)
    return found if how == "independent" else replace(found, exclusive=True)


def soft_logits(above: Tensor) -> Tensor:
    """Log-odds (N, r, r) of each object less those of the background, from its own logits."""
    chance = above.double().sigmoid()
    background = (1 - chance).prod(0).clamp(SURE, 1 - SURE)
    return (torch.logit(chance.clamp(SURE, 1 - SURE)) - torch.logit(background)).to(above.dtype)


def inside(found: Segmentation) -> Tensor:
    """Where each object is on the grid of the logits, in the content: bool (N, rows, columns)."""
    rows, columns = found.frame.rows_columns(found.logits.shape[-1])
    above = found.logits[:, :rows, :columns].float() - found.threshold
    marked = above > 0
    if found.exclusive and len(found) > 1:
        row = torch.arange(len(found), device=above.device)[:, None, None]
        marked &= above.argmax(0) == row
    return marked


def boxes_of(marked: Tensor) -> list[Box | None]:
    """The boxes of masks (N, rows, columns); None: an empty mask."""
    found: list[Box | None] = []
    height, width = marked.shape[-2:]
    sides = zip(marked.any(2).cpu().numpy(), marked.any(1).cpu().numpy(), strict=True)
    for rows, columns in sides:
        if not rows.any():
            found.append(None)
            continue
        (y0, y1), (x0, x1) = (np.flatnonzero(s)[[0, -1]] for s in (rows, columns))
        box = x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height
        found.append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    return found


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    areas = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return common / (areas - common)


def with_given(found: Segmentation, given: Mapping[int, np.ndarray]) -> Segmentation:
    """The same where masks of some objects, bool (H, W), are known: they are as they were given,
    and where masks are exclusive no other object is there. The logits have the frame's own
    size."""
    if not given:
        return found
    size, side = found.frame.size, max(found.frame.size)
    logits, threshold = found.frame.upsample(found.logits.float()), found.threshold
    known = {i: torch.from_numpy(mask).to(logits.device) for i, mask in given.items()}
    if found.exclusive:
        logits.masked_fill_(torch.stack([*known.values()]).any(0), threshold - AWAY)
    for row, i in enumerate(found.ids):
        if i in known:
            logits[row] = torch.where(known[i], threshold + AWAY, threshold - AWAY)
    missing = (0, side - size[1], 0, side - size[0])
    frame = Frame(side, size, size)
    scores = found.scores.clone()
    scores[[row for row, i in enumerate(found.ids) if i in known]] = 1.0
    return replace(
        found, logits=F.pad(logits, missing), frame=frame, scores=scores, similarity=None
    )
