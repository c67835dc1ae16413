"""Augmentations of training, and those that Detectron2 lacks. ``structures.resize`` says how pixels
are resampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as tvf
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList

from ...structures.resize import RESIZES, ResizeLongestSide


class ResizeToSquare(ResizeLongestSide):
    """Resize to a square of r·size px, whatever the aspect was."""

    def _get_resize(self, image, scale):
        side = max(round(self.target_height * scale), 1)
        return self.resize(*image.shape[:2], side, side)


class RandomResizedCrop(T.Augmentation):
    """Crop a random share of the image (``area``, with width over height in ``aspect``) and resize
    it to a square of ``size`` px; the draw is torchvision's. ``resize``: a value of
    ``INPUT.RESIZE``."""

    def __init__(
        self,
        size: int,
        area: Sequence[float] = (0.3, 1.0),
        aspect: Sequence[float] = (3 / 4, 4 / 3),
        resize: str = "pil",
    ) -> None:
        super().__init__()
        self.size, self.area, self.aspect = size, area, aspect
        self.resize = RESIZES[resize]

    def get_transform(self, image: np.ndarray) -> TransformList:
        h, w = image.shape[:2]
        frame = torch.empty((1, h, w), device="meta")
        y, x, ch, cw = tv.RandomResizedCrop.get_params(frame, list(self.area), list(self.aspect))
        crop = T.CropTransform(x, y, cw, ch, w, h)
        return TransformList([crop, self.resize.of_crop(ch, cw, self.size)])


class ColorJitter(T.Augmentation):
    """Brightness, contrast and saturation × uniform [1-v, 1+v], hue + uniform [-v, v] turns, in
    random order (the draw is torchvision's). An 8-bit picture is changed by Pillow, a float one of
    0–255 as a tensor."""

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue

    def get_transform(self, image: np.ndarray) -> T.Transform:
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
    """Torchvision's adjustments of a picture, in order: ((what, amount), …). ``unit``: the picture
    is a float32 array (H, W, 3) in 0–255, not one of Pillow's."""

    steps: tuple[tuple[str, float], ...]
    unit: bool = False

    def __call__(self, picture: Any) -> Any:
        if self.unit:  # a tensor (3, H, W) in [0, 1]
            picture = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1) / 255
        for name, amount in self.steps:
            picture = getattr(tvf, f"adjust_{name}")(picture, amount)
        return (picture * 255).permute(1, 2, 0).numpy() if self.unit else picture


def semantic_augmentations(cfg: CfgNode, square: bool = False) -> T.AugmentationList:
    """Flip and large-scale jitter with a random crop to the canvas, per view. ``square``: jitter
    onto a square instead of keeping the aspect."""
    size, options = cfg.INPUT.CANVAS, cfg.INPUT.SEMANTIC
    jitter = ResizeToSquare if square else ResizeLongestSide
    resize = jitter(size, *options.SCALE, resize=cfg.INPUT.RESIZE)
    crop = T.RandomCrop("absolute", (size, size))
    return T.AugmentationList([T.RandomFlip(options.FLIP_PROB), resize, crop])


def instance_augmentations(cfg: CfgNode) -> T.AugmentationList:
    """Resized crop, colour jitter and flip, per view."""
    options = cfg.INPUT.INSTANCE
    crop = RandomResizedCrop(cfg.INPUT.CANVAS, options.AREA, resize=cfg.INPUT.RESIZE)
    colours = T.RandomApply(ColorJitter(*options.JITTER), options.JITTER_PROB)
    return T.AugmentationList([crop, colours, T.RandomFlip(options.FLIP_PROB)])


def apply_labels(transforms: TransformList, labels: np.ndarray) -> torch.Tensor:
    """Apply a ``TransformList`` to a bool map (H, W) by nearest neighbour: bool tensor (h, w)."""
    moved = transforms.apply_segmentation(np.ascontiguousarray(labels).astype(np.uint8))
    return torch.from_numpy(np.ascontiguousarray(moved).astype(bool))
