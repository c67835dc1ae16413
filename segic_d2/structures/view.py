"""One view of an image: what augments pixels and masks alike, drawn again when the object left."""

import contextlib
import random

import numpy as np
import torch
from detectron2.data import transforms as T

from .resize import FloatResize, find_resize
from .soft_masks import soft_resize, soft_resize_binary


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


class ResizeLongestSide(T.ResizeScale):
    """Resize so that the longest side is r·size px, r uniform in [min_scale, max_scale].

    ``T.ResizeScale`` onto a square, but never to zero pixels, so that panoramas survive.

    Args:
        resize: how, a value of ``INPUT.RESIZE``.
    """

    def __init__(self, size, min_scale=1.0, max_scale=1.0, resize="pil"):
        super().__init__(min_scale, max_scale, size, size)
        self.resize = find_resize(resize)

    def _get_resize(self, image, scale):
        (h, w), side = image.shape[:2], self.target_height * scale
        return self.resize.by_scale(h, w, min(side / h, side / w))


def plain_augmentations(cfg):
    """The evaluation transform: longest side to the canvas, aspect kept."""
    return T.AugmentationList([ResizeLongestSide(cfg.INPUT.CANVAS, resize=cfg.INPUT.RESIZE)])


def zoomed(augmentations, masks, share):
    """Augmentations of a reference that first leave out what is far from its masks, so that a small
    thing is seen larger.

    Args:
        augmentations: Detectron2 ``AugmentationList``, of the whole picture.
        masks: bool array (N, H, W); the cut is around what any of them shows.
        share: of the cut's side that the masks' longer side takes at least, in [0, 1]
            (``INPUT.REFERENCE_ZOOM``); 0: the whole picture. A cut is a square, as far as the
            picture reaches.
    """
    shown = np.logical_or.reduce(masks)
    if not share or not shown.any():
        return augmentations
    size, spans = shown.shape, []
    for axis in (1, 0):
        found = np.flatnonzero(shown.any(axis))
        spans.append((int(found[0]), int(found[-1]) + 1))
    side = int(np.ceil(max(stop - start for start, stop in spans) / share))
    if side >= max(size):
        return augmentations
    (y, h), (x, w) = (_window(*span, side, n) for span, n in zip(spans, size, strict=True))
    crop = T.CropTransform(x, y, w, h, size[1], size[0])
    return T.AugmentationList([crop, *augmentations.augs])


def _window(start, stop, side, limit):
    """First pixel and length of a window about a span, moved and cut to lie in 0…limit."""
    length = min(side, limit)
    return min(max((start + stop - length) // 2, 0), limit - length), length


@contextlib.contextmanager
def seeded(seed):
    """Seed the global generators that augmentations draw from, and restore them afterwards.

    Args:
        seed: int ≥ 0 of any size; numpy, ``random`` and torch's CPU generator derive from it.
            CUDA generators are left alone.
    """
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    np.random.set_state(generator.get_state())
    random.seed(seed)
    torch.default_generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
        torch.set_rng_state(states[2])


def apply_soft(transforms, masks):
    """Apply a ``TransformList`` to masks, resizing by area averaging.

    A 10×10-px object in a 2000×1500-px image keeps its weight however small the image becomes;
    everything but resizing goes through the transforms' own ``apply_segmentation``. A
    ``FloatResize`` samples masks as it says.

    Args:
        transforms: fvcore ``TransformList``.
        masks: (N, H, W) with N ≥ 1, bool or float in [0, 1]; array or tensor.

    Returns:
        float32 tensor (N, h, w) in [0, 1].
    """
    # one at a time: at full size a float mask of a photograph is 50 MB
    moved = [_apply_soft(transforms.transforms, np.asarray(mask)) for mask in masks]
    if len(moved) == 1:  # no copy
        return torch.from_numpy(moved[0])[None]
    return torch.stack([torch.from_numpy(mask) for mask in moved])


# transforms that move or cut the pixels of a bool mask as they would those of a float mask
_BINARY = T.HFlipTransform, T.CropTransform, T.NoOpTransform, T.ResizeTransform, T.ColorTransform


def _apply_soft(steps, mask):
    """A mask (H, W), bool or float in [0, 1], after each of ``steps``: float32 (h, w)."""
    if not all(isinstance(step, _BINARY) for step in steps):
        mask = mask.astype(np.float32)
    skip = False
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if skip:
            skip = False
        elif isinstance(step, FloatResize):
            mask = step.apply_mask(mask)
        elif not isinstance(step, T.ResizeTransform):
            mask = step.apply_segmentation(mask)
        elif mask.dtype == bool:
            window = None
            if isinstance(following, T.CropTransform):  # what it cuts away need not be computed
                window, skip = (following.y0, following.x0, following.h, following.w), True
            mask = soft_resize_binary(mask, (step.new_h, step.new_w), window)
        else:
            size = step.new_h, step.new_w
            mask = np.ascontiguousarray(mask, dtype=np.float32)
            mask = soft_resize(mask[None], size)[0].numpy()
    return np.ascontiguousarray(mask, dtype=np.float32)
