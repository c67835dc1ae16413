"""One view of an image: pixels and masks augmented together, drawn again when the object left."""

import numpy as np
import torch
from detectron2.data import transforms as T

from .augmentation import apply_soft, seeded
from .episodes import derive_seed


def to_tensor(image):
    """uint8 or float32 array (H, W, 3) in 0–255 → tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def check_size(mask, image, mask_name, image_name):
    """Raise a ValueError naming both files and sizes unless mask and image cover each other."""
    if mask.shape[-2:] != image.shape[:2]:
        raise ValueError(
            f"the mask of {image_name} ({mask_name}) is {mask.shape[-1]}x{mask.shape[-2]} px, "
            f"the image as displayed is {image.shape[1]}x{image.shape[0]} px"
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


def draw_showing(image, masks, augmentations, seed, redraws, fallback=None, visible=None):
    """Draw views until every mask is visible, at most 1 + ``redraws`` times.

    Args:
        image: uint8 array (H, W, 3).
        masks: bool array (N, H, W).
        augmentations: Detectron2 ``AugmentationList``.
        seed: int ≥ 0; attempt a draws from (seed, a).
        redraws: ``INPUT.MAX_REDRAWS``.
        fallback: augmentations that keep the whole image, used where all attempts failed; None
            keeps the last attempt.
        visible: function of soft masks (N, h, w) → bool; default: each has a positive sum.

    Returns:
        array (h, w, 3) as from :func:`draw_view`; float32 soft masks (N, h, w); the
        ``TransformList``.
    """
    visible = visible or (lambda soft: bool((soft.sum((1, 2)) > 0).all()))
    for attempt in range(redraws + 1):
        view, transforms = draw_view(image, augmentations, derive_seed(seed, attempt))
        soft = apply_soft(transforms, masks)
        if visible(soft):
            return view, soft, transforms
    if fallback is not None:
        view, transforms = draw_view(image, fallback, seed)
        soft = apply_soft(transforms, masks)
    return view, soft, transforms
