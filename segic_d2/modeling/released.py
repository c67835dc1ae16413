"""The rules of the released implementation that the paper does not have, all in this place.

Each is chosen by one config key and off by default; ``configs/official`` turns all of them on, so
that released weights see what they were trained with. Rules that are only a number are listed too.

=====================================  ==========  ===========  ==================================
key (MODEL.SEGIC. …)                   default     released     what the released value does
=====================================  ==========  ===========  ==================================
MASK_POOLING                           area        center       ``center_weights``
BINARIZE_MASKS                         False       True         ``binarize``, before the pooling
EMPTY_MASK                             no_shot     zero         ``every_mask``: zero prototypes
SIMILARITY.PROTOTYPE                   mean_unit   pooled       ``direction`` of the mean feature
SIMILARITY.INTERPOLATE                 map         features     ``similarity_of_upsampled``
SIMILARITY.EPS                         1e-8        1e-8         lower bound of the norms above
POINTS.ARGMAX                          grid        canvas       over canvas pixels
POINTS.IN_PADDING                      False       True         ``whole_canvas``
CROSS_ENTITY.TYPE_ALWAYS               True        False        ``untyped_unless_crossing``
BOX_PROMPT_PROB                        0           0.5          ground-truth boxes in training
REVERSION.PROB                         1.0         1.0          every episode is reversed
REVERSION.EMPTY                        skip        zero         zero prototypes, and all reversed
REVERSION.IN_PADDING                   False       True         predictions in the padding count
LOSS.NUM_MASKS                         world       process      ``average_losses``
LOSS.QUALITY_WEIGHT                    1.0         0.0          the quality token is not trained
=====================================  ==========  ===========  ==================================

The released code does not binarise where it segments all classes of an image at once: there
BINARIZE_MASKS is False.

Before the model there are more: ``MODEL.TIMM.POS_EMBED`` and ``INPUT.RESIZE``, and for training
``INPUT.SEMANTIC.SQUARE_REFERENCE``, ``INPUT.MAX_REDRAWS``, ``INPUT.INSTANCE.MAX_MASKS`` and
``INPUT.INSTANCE.CAP``.

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells), n masks,
M entities over all images.
"""

import torch
from torch.nn import functional as F


def binarize(masks):
    """Soft masks in [0, 1] → {0, 1}: foreground above one half, at network size."""
    return (masks > 0.5).to(masks.dtype)


def center_samples(masks, grid):
    """Bilinear samples (n, g, g) of masks (n, S, S) at the cells' centres, without antialiasing.

    At a stride of 14 that is the mean of a cell's four centre pixels.
    """
    size = (grid, grid)
    return F.interpolate(masks[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def center_weights(masks, grid):
    """Cells (n, g, g) in {0, 1} whose centre samples of the masks (n, S, S) are above one half.

    Small masks vanish: a 10-px square survives with probability 0.4 at a stride of 14.
    """
    return binarize(center_samples(masks, grid))


def every_mask(mass):
    """All n masks count as shots, bool (n,); one that vanished gives an all-zero prototype."""
    return torch.ones_like(mass, dtype=torch.bool)


def direction(prototypes, eps=1e-8):
    """Unit vectors (…, C) of mean features, in place of the mean of unit features."""
    return prototypes / prototypes.norm(dim=-1, keepdim=True).clamp(min=eps)


def similarity_of_upsampled(features, dots, size, eps=1e-8):
    """Cosines with bilinearly upsampled features, without upsampling them.

    cos(up(f), v) = up(<f, v>) / ‖up(f)‖: the numerator interpolates exactly, and the norm is one
    map per image.

    Args:
        features: float (B, C, g, g), target features f.
        dots: float (B, n, g, g), their dot products with n unit vectors v.
        size: side to which the released code upsamples, S/4.
        eps: lower bound of the norm.

    Returns:
        float (B, n, size, size).
    """
    norm = upsampled_norm(features, size)
    border = int(size / (2 * dots.shape[-1]) + 0.5)  # samples beyond the outermost centres
    dots = F.interpolate(dots, size=(size, size), mode="bilinear", align_corners=False)
    # there all are equal; to the bit, so that an arg-max finds the first of them, not the rounding
    for side in (dots, dots.transpose(-1, -2)) if border else ():
        side[..., :border] = side[..., border - 1, None]
        side[..., size - border :] = side[..., size - border, None]
    return dots / norm.clamp(min=eps)[:, None]


def upsampled_norm(features, size, chunk=64):
    """Norm of bilinearly upsampled features, (B, size, size), from the g×g grid alone.

    Each upsampled vector is a weighted sum of the four cells around it, so its squared norm is a
    quadratic form of their ten inner products. ``chunk`` channels are multiplied at a time, to
    stay in the cache.
    """
    height, width = features.shape[-2:]
    gram = [0.0] * 5
    for part in features.split(chunk, dim=1):
        f = F.pad(part, (0, 1, 0, 1), mode="replicate")  # the last row and column repeat
        here, right, down, across = (
            f[..., y : y + height, x : x + width] for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        pairs = ((here, here), (here, right), (here, down), (here, across), (right, down))
        gram = [total + (a * b).sum(1) for total, (a, b) in zip(gram, pairs, strict=True)]
    y0, y1, ly = _neighbours(height, size, features)
    x0, x1, lx = _neighbours(width, size, features)
    ly, ky, lx, kx = ly[:, None], 1 - ly[:, None], lx, 1 - lx

    def at(which, rows, columns):
        return gram[which][:, rows][:, :, columns]  # (B, size, size)

    own, right, down, across, anti = range(5)
    squared = ky**2 * (kx**2 * at(own, y0, x0) + lx**2 * at(own, y0, x1))
    squared += ly**2 * (kx**2 * at(own, y1, x0) + lx**2 * at(own, y1, x1))
    squared += 2 * kx * lx * (ky**2 * at(right, y0, x0) + ly**2 * at(right, y1, x0))
    squared += 2 * ky * ly * (kx**2 * at(down, y0, x0) + lx**2 * at(down, y0, x1))
    squared += 2 * kx * lx * ky * ly * (at(across, y0, x0) + at(anti, y0, x0))
    return squared.clamp(min=0).sqrt()


def _neighbours(cells, size, like):
    """The two cells around each of ``size`` bilinear samples, and the weight of the second."""
    centre = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (cells / size) - 0.5
    centre = centre.clamp(min=0, max=cells - 1)  # equal beyond the outermost centres, to the bit
    first = centre.floor().long().clamp(max=cells - 1)
    return first, (first + 1).clamp(max=cells - 1), centre - first


def whole_canvas(image_sizes, canvas):
    """Image sizes as if there were no padding, so that points may fall into it."""
    return [(canvas, canvas)] * len(image_sizes)


def untyped_unless_crossing(type_embed, crossing):
    """Type embeddings (M, …, W) zeroed where an image's entities do not see each other.

    Without crossing the released model never adds its own-type embedding. ``crossing`` is bool (M,)
    """
    return type_embed * crossing.reshape(-1, *[1] * (type_embed.dim() - 1))


def average_losses(bce, dice, num_masks):
    """Mean BCE and Dice as released: Dice is divided by ``num_masks`` twice.

    Args:
        bce, dice: float (n,), per mask.
        num_masks: masks of the process; the result is the mean only where it equals n.
    """
    return bce.sum() / num_masks, len(dice) * dice.sum() / num_masks**2
