"""One-shot instances of a class's mask: what hangs together in it.

Things of a class that touch are one; a decoder that learnt objects tells them apart.

Shapes: N classes of a target, r side of the low-resolution logits, P objects.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ....structures.segmentation import Segmentation, require_finite

NOWHERE = -1e4  # logit of another object, below any threshold also in fp16
LEAST = 4  # positions of an object: a quarter of a backbone's cell


def part_objects(found: Segmentation, limit: int) -> Segmentation:
    """The connected parts (four neighbours, ``LEAST`` positions) of each class of a segmentation as
    objects of their own, ``limit`` at most, best first: by the class's score times the mean
    foreground probability in the part, that of equal ones by size. ValueError: a score that is NaN
    or infinite."""
    require_finite(found.scores)
    logits, frame = found.logits.float(), found.frame
    rows, columns = frame.rows_columns(logits.shape[-1])
    objects: list[tuple[float, int, int, Tensor]] = []
    for row, own in enumerate(logits):
        inside = torch.zeros_like(own, dtype=torch.bool)
        inside[:rows, :columns] = own[:rows, :columns] > found.threshold
        labels, count = ndimage.label(inside.cpu().numpy())
        for label in range(1, count + 1):
            part = torch.from_numpy(np.asarray(labels == label)).to(own.device)
            if part.sum() < LEAST:
                continue
            sure = float((own[part] - found.threshold).sigmoid().mean() * found.scores[row])
            others = (own > found.threshold) & ~part  # around it logits stay, so that edges do
            objects.append((sure, int(part.sum()), row, own.masked_fill(others, NOWHERE)))
    objects.sort(key=lambda x: (-x[0], -x[1]))
    objects = objects[:limit]
    kept = [row for _, _, row, _ in objects]
    parts = [x for *_, x in objects]
    told = Segmentation(
        torch.stack(parts) if parts else logits[:0],
        logits.new_tensor([sure for sure, *_ in objects]),
        [found.ids[row] for row in kept],
        [found.names[row] for row in kept],
        frame,
        found.threshold,
    )
    told.classes = torch.tensor(told.ids, dtype=torch.long, device=logits.device)
    return told
