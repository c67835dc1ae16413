"""One view of an image: what augments pixels and masks alike, drawn again when the object left."""

import numpy as np
import torch
from detectron2.data import transforms as T

from .augmentation import apply_soft, seeded


def to_tensor(image):
    """uint8 or float32 array (H, W, 3) in 0–255 → tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def check_size(mask, size, mask_name, image_name):
    """Raise a ValueError naming both files and sizes unless a mask has its image's size (H, W)."""
    if mask.shape[-2:] != tuple(size):
        raise ValueError(
            f"the mask of {image_name} ({mask_name}) is {mask.shape[-1]}x{mask.shape[-2]} px, "
            f"the image as displayed is {size[1]}x{size[0]} px"
        )


def draw_view(image, augmentations, seed):
    """Augment an image with everything random drawn from a seed.

    Args:
        image: uint8 array (H, W, 3).
        augmentations: Detectron2 ``AugmentationList``.
        seed: int ≥ 0.

    Returns:
        array (h, w, 3), uint8 or, where ``INPUT.RESIZE`` is "float", float32 in 0–255; the
        ``TransformList`` that made it.
    """
    view = T.AugInput(image)
    with seeded(seed):
        transforms = augmentations(view)
    return view.image, transforms


def draw_showing(picture, masks, augmentations, seeds, fallback=None, visible=None):
    """Draw views until every mask is visible.

    Args:
        picture: :class:`~segic_d2.data.picture.Picture`, of which only the size is needed.
        masks: bool array (N, H, W).
        augmentations: Detectron2 ``AugmentationList``.
        seeds: iterable of ints ≥ 0, of the views to try.
        fallback: augmentations that keep the whole image, used where all attempts failed; None
            keeps the last attempt.
        visible: function of soft masks (N, h, w) → bool; default: each has a positive sum.

    Returns:
        float32 soft masks (N, h, w); the ``TransformList`` that moved them.
    """
    visible = visible or (lambda soft: bool((soft.sum((1, 2)) > 0).all()))
    for seed in seeds:
        transforms = picture.draw(augmentations, seed)
        soft = apply_soft(transforms, masks)
        if visible(soft):
            return soft, transforms
    if fallback is not None:
        transforms = picture.draw(fallback, 0)
        soft = apply_soft(transforms, masks)
    return soft, transforms
