"""What the quality token learns: the IoU that its mask reaches, 0 where the entity is absent.

The released code has the token, SAM's, but never trains it. Trained, its sigmoid is a score that is
low where there is nothing to find, which a mean foreground probability is not.

Shape shorthand: n masks of one image, r side of the logits (4g), S canvas side (px).
"""

import torch
from torch.nn import functional as F


@torch.no_grad()
def mask_iou(logits, targets, image_size, ignore=None, threshold=0.0):
    """IoU of predicted masks with the truth, on the grid of the logits.

    A cell is true where at least half of its area is. Cells in the padding, and those of which half
    has no ground truth, count on neither side.

    Args:
        logits: float (n, r, r), over the whole canvas.
        targets: bool (n, S, S), over the whole canvas.
        image_size: (h, w) in pixels, the content of the canvas.
        ignore: bool (S, S), pixels without ground truth, or None.
        threshold: a cell is predicted where its logit is above this.

    Returns:
        float (n,); 0 where the truth is empty, whatever is predicted.
    """
    side, canvas = logits.shape[-1], targets.shape[-1]
    height, width = (max(1, round(x * side / canvas)) for x in image_size)

    def cells(maps):  # bool (m, S, S) → bool (m, h·w)
        shares = F.interpolate(maps[:, None].float(), (side, side), mode="area")[:, 0]
        return shares[:, :height, :width].flatten(1) >= 0.5

    true = cells(targets)
    found = logits[:, :height, :width].flatten(1) > threshold
    if ignore is not None:
        known = ~cells(ignore[None])
        true, found = true & known, found & known
    union = (true | found).sum(1)
    return (true & found).sum(1) / union.clamp(min=1)


def quality_losses(quality, iou):
    """Binary cross-entropy (n,) between the sigmoid of ``quality`` (n,) and ``iou`` (n,) in [0, 1].

    A proper scoring rule: the best estimate is the expected IoU. An L1 loss would teach the median,
    which ignores the absent entities as long as they are few, and a squared error's gradient
    vanishes where the sigmoid is sure and wrong, as it is of absent entities.
    """
    return F.binary_cross_entropy_with_logits(quality, iou.to(quality.dtype), reduction="none")
