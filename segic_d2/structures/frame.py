"""From mask logits to what people and Detectron2's stock evaluators read.

Shape shorthand: N entities, r side of the low-resolution logits, H×W the target's own size.
"""

from collections.abc import Iterable, Sequence

import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch.nn import functional as F

from ..utils.devices import upload

FULL_SIZE_PIXELS = 2**22  # of full-size logits held at once


def on_canvas(masks: torch.Tensor, canvas: int) -> torch.Tensor:
    """Pad masks (…, h, w) right and bottom to (…, S, S)."""
    return F.pad(masks, (0, canvas - masks.shape[-1], 0, canvas - masks.shape[-2]))


def resize_to_image(
    maps: torch.Tensor, canvas: int, image_size: tuple[int, int], height: int, width: int
) -> torch.Tensor:
    """Maps (N, r, r) over the canvas → (N, height, width): bilinear to the canvas, content cut out,
    bilinear to the target's own size."""
    full = F.interpolate(maps[None], (canvas, canvas), mode="bilinear", align_corners=False)[0]
    if tuple(image_size) == (height, width):  # the last step would change nothing
        return full[:, :height, :width]
    return sem_seg_postprocess(full, image_size, height, width)


def masks_in_image(
    logits: torch.Tensor,
    canvas: int,
    image_size: tuple[int, int],
    height: int,
    width: int,
    threshold: float = 0.0,
) -> torch.Tensor:
    """Masks at the target's own size, bool (N, height, width), of logits (N, r, r).

    Full-size logits of N entities are gigabytes where N is large, so that they exist for a few
    entities at a time.
    """
    masks = torch.empty(len(logits), height, width, dtype=torch.bool, device=logits.device)
    at_once = max(1, FULL_SIZE_PIXELS // max(canvas * canvas, height * width))
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        full = resize_to_image(logits[part], canvas, image_size, height, width)
        torch.gt(full, threshold, out=masks[part])
    return masks


def to_label_map(
    logits: torch.Tensor, ids: Sequence[int], background: int = 0, threshold: float = 0.0
) -> torch.Tensor:
    """One label per pixel, int64 (H, W): the id of the highest logit (N, H, W) above the
    threshold, ``background`` where none is."""
    best, index = logits.max(dim=0)
    labels = torch.as_tensor(ids, device=logits.device)[index]
    return torch.where(best > threshold, labels, background)


def merged_labels(
    logits: torch.Tensor,
    ids: Iterable[int],
    canvas: int,
    image_size: tuple[int, int],
    height: int,
    width: int,
    *,
    threshold: float | None = 0.0,
    nothing: int = 255,
) -> torch.Tensor:
    """``to_label_map`` at the target's own size, of low-resolution logits of many entities.

    Full-size logits of hundreds of classes are gigabytes. So the running best of each pixel is
    kept, and they exist for a few entities at a time.

    Args:
        logits: float (N, r, r) over the canvas.
        ids: N labels in [0, 65535].
        canvas, image_size, height, width: see ``resize_to_image``.
        threshold: an entity takes a pixel only with a logit above it; None: the best always does.
        nothing: the label where no entity takes the pixel.

    Returns:
        int32 (height, width); of equal logits the first entity wins.
    """
    best = logits.new_full((height, width), -torch.inf if threshold is None else threshold)
    labels = torch.full((height, width), nothing, dtype=torch.int32, device=logits.device)
    own = torch.as_tensor(list(ids), dtype=torch.int32, device=logits.device)
    at_once = max(1, FULL_SIZE_PIXELS // max(canvas * canvas, height * width))
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        full = resize_to_image(logits[part], canvas, image_size, height, width)
        value, index = full.max(0)
        better = value > best
        labels = torch.where(better, own[part][index], labels)
        best = torch.where(better, value, best)
    return labels


def valid_cells(
    image_sizes: Sequence[tuple[int, int]],
    side: int,
    canvas: int,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Which cells of a side×side grid over the canvas have their centre in the image.

    Args:
        image_sizes: B (h, w) in pixels, the content of each canvas.

    Returns:
        bool (B, side, side). The first row and column always count, so that no image is without.
    """
    centres = (torch.arange(side, device=device) + 0.5) * (canvas / side)
    sizes = upload(image_sizes, device).reshape(-1, 2)
    inside = centres[None, None] < sizes[:, :, None]  # (B, 2, side)
    inside[..., 0] = True
    return inside[:, 0, :, None] & inside[:, 1, None, :]
