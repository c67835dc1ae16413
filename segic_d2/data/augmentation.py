"""Augmentations that Detectron2 lacks, seeded draws, and transforms of soft masks.

Large-scale jitter and the plain resize are ``T.ResizeScale``, ``T.RandomCrop`` and
``T.RandomFlip`` of Detectron2; ``resize.py`` says how pixels are resampled.
"""

import contextlib
import random
from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as tvf
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList

from .masks import soft_resize, soft_resize_binary
from .resize import FloatResize, find_resize


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


class ResizeToSquare(ResizeLongestSide):
    """Resize to a square of r·size px, whatever the aspect was."""

    def _get_resize(self, image, scale):
        side = max(round(self.target_height * scale), 1)
        return self.resize(*image.shape[:2], side, side)


class RandomResizedCrop(T.Augmentation):
    """Crop a random share of the image and resize it to a square; the draw is torchvision's.

    Args:
        size: side of the result, px.
        area: range of the crop's share of the image's area.
        aspect: range of the crop's width over height.
        resize: how, a value of ``INPUT.RESIZE``.
    """

    def __init__(self, size, area=(0.3, 1.0), aspect=(3 / 4, 4 / 3), resize="pil"):
        super().__init__()
        self._init(locals())
        self.resize = find_resize(resize)

    def get_transform(self, image):
        h, w = image.shape[:2]
        frame = torch.empty((1, h, w), device="meta")
        y, x, ch, cw = tv.RandomResizedCrop.get_params(frame, list(self.area), list(self.aspect))
        crop = T.CropTransform(x, y, cw, ch, w, h)
        return TransformList([crop, self.resize.of_crop(ch, cw, self.size)])


class ColorJitter(T.Augmentation):
    """Brightness, contrast and saturation × uniform [1-v, 1+v], hue + uniform [-v, v] turns.

    The four operations come in random order (the draw is torchvision's). An 8-bit picture is
    changed by Pillow, a float one of 0–255 as a tensor.
    """

    def __init__(self, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0):
        super().__init__()
        self._init(locals())

    def get_transform(self, image):
        amounts = (self.brightness, self.contrast, self.saturation, self.hue)
        around_one = [(max(0.0, 1.0 - v), 1.0 + v) for v in amounts[:3]]
        order, *factors = tv.ColorJitter.get_params(*around_one, (-self.hue, self.hue))
        # an idle hue shift would still round through 8-bit HSV
        steps = tuple((_JITTER[i], factors[i]) for i in order.tolist() if amounts[i])
        if image.dtype == np.uint8:
            return T.PILColorTransform(Jitter(steps))
        return T.ColorTransform(Jitter(steps, unit=True))


_JITTER = "brightness", "contrast", "saturation", "hue"


@dataclass(frozen=True)
class Jitter:
    """Torchvision's adjustments of a picture, in order: ((what, amount), …).

    Attributes:
        unit: the picture is a float32 array (H, W, 3) in 0–255, not one of Pillow's.
    """

    steps: tuple
    unit: bool = False

    def __call__(self, picture):
        if self.unit:
            return _through_unit_tensor(picture, self._adjust)
        return self._adjust(picture)

    def _adjust(self, picture):
        for name, amount in self.steps:
            picture = getattr(tvf, f"adjust_{name}")(picture, amount)
        return picture


def _through_unit_tensor(pixels, operation):
    """Apply an operation on tensors (3, H, W) in [0, 1] to a float32 array (H, W, 3) in 0–255."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1) / 255
    return (operation(tensor) * 255).permute(1, 2, 0).numpy()


def semantic_augmentations(cfg, square=False):
    """Flip and large-scale jitter with a random crop to the canvas, per view.

    Args:
        square: jitter onto a square instead of keeping the aspect.
    """
    size, options = cfg.INPUT.CANVAS, cfg.INPUT.SEMANTIC
    jitter = ResizeToSquare if square else ResizeLongestSide
    return T.AugmentationList(
        [
            T.RandomFlip(options.FLIP_PROB),
            jitter(size, *options.SCALE, resize=cfg.INPUT.RESIZE),
            T.RandomCrop("absolute", (size, size)),
        ]
    )


def instance_augmentations(cfg):
    """Resized crop, colour jitter and flip, per view."""
    options = cfg.INPUT.INSTANCE
    return T.AugmentationList(
        [
            RandomResizedCrop(
                cfg.INPUT.CANVAS, options.AREA, options.ASPECT, resize=cfg.INPUT.RESIZE
            ),
            T.RandomApply(ColorJitter(*options.JITTER), options.JITTER_PROB),
            T.RandomFlip(options.FLIP_PROB),
        ]
    )


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


def apply_labels(transforms, labels):
    """Apply a ``TransformList`` to a bool map (H, W) by nearest neighbour: bool tensor (h, w)."""
    moved = transforms.apply_segmentation(np.ascontiguousarray(labels).astype(np.uint8))
    return torch.from_numpy(np.ascontiguousarray(moved).astype(bool))
