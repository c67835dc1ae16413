"""The rules of the released implementation that the paper does not have, all in this place.

``MODEL.SEGIC.RELEASED`` chooses them all, so that released weights see what they were trained with.

==========================  ==============================  =======================================
what                        the paper (False)               the released code (True)
==========================  ==============================  =======================================
weights of a mask's cells   share that is covered           ``center_weights``: the centre decides
a mask that vanished        is no shot                      a shot with an all-zero prototype
vector of an entity         mean of unit features (Eq. 2)   ``direction`` of the mean feature
similarity                  on the grid                     ``similarity_of_upsampled`` features
points                      over the grid's cells           over canvas pixels, padding included
own-type embedding          always                          ``untyped_unless_crossing``
reversion                   of what was predicted and is    of every entity; predictions in the
                            there                           padding count
mean of the losses          over the masks of all           ``average_losses`` of each process
                            processes
==========================  ==============================  =======================================

What is only a number, or has another use, keeps its own key: ``MODEL.SEGIC.BINARIZE_MASKS``
(released: True, but False where all classes of an image are segmented at once),
``BOX_PROMPT_PROB`` (0.5), ``LOSS.QUALITY_WEIGHT`` (0), ``MODEL.TIMM.POS_EMBED``, ``INPUT.RESIZE``,
and for training ``INPUT.SEMANTIC.SQUARE_REFERENCE``, ``INPUT.MAX_REDRAWS``,
``INPUT.INSTANCE.MAX_MASKS`` and ``INPUT.INSTANCE.CAP``.

Shapes: S canvas side (px), n masks, M entities over all images, W decoder width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import Tensor


@dataclass(frozen=True)
class Rules:
    """What the model does as released where the paper says otherwise; see the table above. How
    masks weigh cells is part of the ``InputSpec``."""

    direction: bool = False
    upsampled: bool = False
    canvas_points: bool = False
    in_padding: bool = False
    untyped: bool = False
    keep_empty: bool = False
    process_mean: bool = False


PAPER, RELEASED = Rules(), Rules(*[True] * 7)


def find_rules(cfg: CfgNode) -> Rules:
    """The rules of ``MODEL.SEGIC.RELEASED``."""
    return RELEASED if cfg.MODEL.SEGIC.RELEASED else PAPER


def direction(prototypes: Tensor, eps: float = 1e-8) -> Tensor:
    """Unit vectors (…, C) of mean features, in place of the mean of unit features."""
    return prototypes / prototypes.norm(dim=-1, keepdim=True).clamp(min=eps)


def binarize(masks: Tensor) -> Tensor:
    """Soft masks in [0, 1] → {0, 1}: foreground above one half, at network size."""
    return (masks > 0.5).to(masks.dtype)


def whole_canvas(image_sizes: Sequence[tuple[int, int]], canvas: int) -> list[tuple[int, int]]:
    """Image sizes as if there were no padding, so that points may fall into it."""
    return [(canvas, canvas)] * len(image_sizes)


def untyped_unless_crossing(type_embed: Tensor, crossing: Tensor) -> Tensor:
    """Type embeddings (M, …, W) zeroed where ``crossing``, bool (M,), is False: without it the
    released model never adds its own-type embedding."""
    return type_embed * crossing.reshape(-1, *[1] * (type_embed.dim() - 1))


def average_losses(bce: Tensor, dice: Tensor, num_masks: float) -> tuple[Tensor, Tensor]:
    """Mean of BCE and Dice (n,) as released: Dice is divided by ``num_masks``, the masks of the
    process, twice, so that the result is the mean only where it equals n."""
    return bce.sum() / num_masks, len(dice) * dice.sum() / num_masks**2
