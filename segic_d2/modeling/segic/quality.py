"""What the quality token learns: the IoU that its mask reaches, 0 where the entity is absent.

The released code has the token, SAM's, but never trains it. Trained, its sigmoid is a score that is
low where there is nothing to find, which a mean foreground probability is not.

Shapes: n masks of one image, r side of the logits (4g), S canvas side (px).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def mask_iou(
    logits: Tensor,
    targets: Tensor,
    image_size: tuple[int, int],
    ignore: Tensor | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """IoU (n,) of predicted masks with the truth, on the grid of the logits (n, r, r); 0 where the
    truth is empty, whatever is predicted.

    A cell is true where at least half of its area is. Cells in the padding, outside of
    ``image_size`` px, and those of which half has no ground truth (``ignore``, bool (S, S)), count
    on neither side. Targets are bool (n, S, S).
    """
    side, canvas = logits.shape[-1], targets.shape[-1]
    height, width = (max(1, round(x * side / canvas)) for x in image_size)

    def cells(maps: Tensor) -> Tensor:  # bool (m, S, S) → bool (m, h·w)
        shares = F.interpolate(maps[:, None].float(), (side, side), mode="area")[:, 0]
        return shares[:, :height, :width].flatten(1) >= 0.5

    true = cells(targets)
    found = logits[:, :height, :width].flatten(1) > threshold
    if ignore is not None:
        known = ~cells(ignore[None])
        true, found = true & known, found & known
    union = (true | found).sum(1)
    return (true & found).sum(1) / union.clamp(min=1)


def quality_losses(quality: Tensor, iou: Tensor) -> Tensor:
    """Binary cross-entropy (n,) between the sigmoid of ``quality`` (n,) and ``iou`` (n,) in [0, 1].

    A proper scoring rule: the best estimate is the expected IoU. An L1 loss would teach the median,
    which ignores the absent entities as long as they are few, and a squared error's gradient
    vanishes where the sigmoid is sure and wrong, as it is of absent entities.
    """
    return F.binary_cross_entropy_with_logits(quality, iou.to(quality.dtype), reduction="none")
