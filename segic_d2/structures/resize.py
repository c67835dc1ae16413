"""How pictures and their masks are brought to another size (``INPUT.RESIZE``).

Shape shorthand: H×W before, h×w after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .soft_masks import soft_resize, soft_resize_binary


class PilResize(T.ResizeTransform):
    """Pillow's antialiased bilinear in 8 bits; soft masks are resized by area (``apply_soft``)."""

    @classmethod
    def by_scale(cls, height: int, width: int, scale: float) -> PilResize:
        """Both sides times a factor, rounded, at least 1 px."""
        new_h, new_w = (max(round(side * scale), 1) for side in (height, width))
        return cls(height, width, new_h, new_w)

    @classmethod
    def of_crop(cls, height: int, width: int, size: int) -> PilResize:
        """A crop onto a square."""
        return cls(height, width, size, size)


class FloatResize(T.Transform):
    """The released code's resizing: float32, bilinear, not antialiased. Output pixel i reads the
    input at (i + 0.5) / scale - 0.5, clamped to it. ``scale`` is of both sides; None: each side's
    own, new over old. ``mask_mode``: interpolation of soft masks, "bilinear" or "nearest"."""

    def __init__(
        self,
        h: int,
        w: int,
        new_h: int,
        new_w: int,
        scale: float | None = None,
        mask_mode: str = "bilinear",
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    @classmethod
    def by_scale(cls, height: int, width: int, scale: float) -> FloatResize:
        """Both sides times a factor, rounded down. A side that would vanish becomes 1 px (the
        released code fails there)."""
        new_h, new_w = int(height * scale), int(width * scale)
        if min(new_h, new_w) < 1:
            return cls(height, width, max(new_h, 1), max(new_w, 1))
        return cls(height, width, new_h, new_w, scale)

    @classmethod
    def of_crop(cls, height: int, width: int, size: int) -> FloatResize:
        """A crop onto a square, masks by nearest neighbour."""
        return cls(height, width, size, size, mask_mode="nearest")

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, channels) of any type → float32 (h, w, channels), of the same range."""
        channels = range(img.shape[2])  # one at a time: pictures may be huge
        return np.stack([self._resample(img[..., c], "bilinear") for c in channels], axis=-1)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """Soft mask (H, W) in [0, 1] → float32 (h, w) in [0, 1].

        Of an object that falls between the samples a trace below 0.5 is left where it was: no mask
        is empty without reason, and binary masks are as if it had vanished (the released rule).
        """
        moved = self._resample(mask, self.mask_mode)
        if mask.any() and not moved.any():
            moved = soft_resize(np.ascontiguousarray(mask)[None], moved.shape)[0].numpy() / 2
        return moved

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Label map (H, W) → (h, w) of the same type, by the nearest pixel."""
        return self._resample(segmentation, "nearest-exact").astype(segmentation.dtype)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords * (self.new_w / self.w, self.new_h / self.h)

    def _resample(self, plane: np.ndarray, mode: str) -> np.ndarray:
        values = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None]
        size = (self.new_h, self.new_w) if self.scale is None else None
        return F.interpolate(values, size, self.scale, mode)[0, 0].numpy()


class SquashResize(PilResize):
    """Pillow's antialiased bicubic in 8 bits; masks are sampled, as label maps are."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int) -> None:
        super().__init__(h, w, new_h, new_w, Image.Resampling.BICUBIC)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """Mask (H, W), bool or float in [0, 1] → float32 (h, w), 0 or 1. Of an object that falls
        between the samples the pixel remains that it fills most."""
        moved = self.apply_segmentation((mask >= 0.5).astype(np.uint8)).astype(np.float32)
        if mask.any() and not moved.any():
            soft = soft_resize(np.ascontiguousarray(mask)[None], moved.shape)[0].numpy()
            moved.flat[soft.argmax()] = 1
        return moved


RESIZES: dict[str, type[PilResize] | type[FloatResize]] = {
    **{"pil": PilResize, "float": FloatResize},
    "squash": SquashResize,
}


class ResizeLongestSide(T.ResizeScale):
    """Resize so that the longest side is r·size px, r uniform in [min_scale, max_scale]; with
    "squash" both sides are.
    ``T.ResizeScale`` onto a square, but never to zero pixels, so that panoramas survive. With
    ``multiple`` both sides are multiples of it, the nearest above 0: the shape changes a little."""

    def __init__(
        self,
        size: int,
        min_scale: float = 1.0,
        max_scale: float = 1.0,
        resize: str = "pil",
        multiple: int = 0,
    ) -> None:
        super().__init__(min_scale, max_scale, size, size)
        self.resize, self.multiple = RESIZES[resize], multiple

    def _get_resize(self, image: np.ndarray, scale: float) -> PilResize | FloatResize:
        (h, w), side = image.shape[:2], self.target_height * scale
        if self.resize is SquashResize:  # the shape is not kept
            square = max(1, round(side))
            return self.resize(h, w, square, square)
        scale = min(side / h, side / w)
        if not self.multiple:
            return self.resize.by_scale(h, w, scale)
        sides = [max(1, round(n * scale / self.multiple)) * self.multiple for n in (h, w)]
        return self.resize(h, w, *sides)


def apply_soft(transforms: TransformList, masks: Iterable[np.ndarray | Tensor]) -> Tensor:
    """Apply transforms to masks (N, H, W), N ≥ 1, bool or float in [0, 1]: float32 (N, h, w), also
    so.

    Resizing is area averaging: a 10×10-px object in a 2000×1500-px image keeps its weight however
    small the image becomes. Everything else goes through the transforms' own
    ``apply_segmentation``. A ``FloatResize`` or ``SquashResize`` samples masks as it says.
    """
    # one at a time: at full size a float mask of a photograph is 50 MB
    moved = [_apply_soft(transforms.transforms, np.asarray(mask)) for mask in masks]
    if len(moved) == 1:  # no copy
        return torch.from_numpy(moved[0])[None]
    return torch.stack([torch.from_numpy(mask) for mask in moved])


# transforms that move or cut the pixels of a bool mask as they would those of a float mask
_BINARY = T.HFlipTransform, T.CropTransform, T.NoOpTransform, T.ResizeTransform, T.ColorTransform


def _apply_soft(steps: Sequence[T.Transform], mask: np.ndarray) -> np.ndarray:
    """A mask (H, W), bool or float in [0, 1], after each of ``steps``: float32 (h, w)."""
    if not all(isinstance(step, _BINARY) for step in steps):
        mask = mask.astype(np.float32)
    skip = False
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if skip:
            skip = False
        elif isinstance(step, FloatResize | SquashResize):
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
