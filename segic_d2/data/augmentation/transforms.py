"""Augmentations of training, and those that Detectron2 lacks.

Large-scale jitter is Detectron2's ``T.RandomFlip``, ``T.ResizeScale`` and ``T.RandomCrop``;
``structures.resize`` says how pixels are resampled.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as tvf
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList

from ...structures.resize import ResizeLongestSide, find_resize


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


def apply_labels(transforms, labels):
    """Apply a ``TransformList`` to a bool map (H, W) by nearest neighbour: bool tensor (h, w)."""
    moved = transforms.apply_segmentation(np.ascontiguousarray(labels).astype(np.uint8))
    return torch.from_numpy(np.ascontiguousarray(moved).astype(bool))
