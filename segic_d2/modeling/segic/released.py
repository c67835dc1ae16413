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


def binarize(masks):
    """Soft masks in [0, 1] → {0, 1}: foreground above one half, at network size."""
    return (masks > 0.5).to(masks.dtype)


def every_mask(mass):
    """All n masks count as shots, bool (n,); one that vanished gives an all-zero prototype."""
    return torch.ones_like(mass, dtype=torch.bool)


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
