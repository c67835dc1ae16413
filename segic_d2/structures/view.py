"""The plain view: how a reference and a target come onto the canvas, the same way everywhere.

What a model sees of a picture, and with it every prototype, follows from an ``InputSpec``. Mappers,
predictor and evaluations ask it for views; a model puts it into the fingerprint of its contexts.

Shapes: H×W a picture's own size, h×w its size on the canvas, n masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, cast

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from torch import nn

from ..config.keys import check_config
from .episode import MaskedView, Reference, View
from .picture import Picture
from .resize import ResizeLongestSide, apply_soft
from .soft_masks import extent

Masks = np.ndarray | Sequence[np.ndarray]  # bool (n, H, W)


@dataclass(frozen=True)
class InputSpec:
    """All that decides what a model sees of a picture and what it pools under a mask.

    Attributes:
        canvas: side of the square input, px (``INPUT.CANVAS``).
        mean, std: of the channels, in 0–255, that pixels are normalised with.
        format: order of the channels that the backbone expects, "RGB" or "BGR".
        resize: how pictures are resized (``INPUT.RESIZE``).
        zoom: least share of the side of a reference's cut that the masks take; 0: no cut.
        binarize: masks are thresholded at one half before they are pooled.
        released: masks weigh cells, and vanish, by the released rules.
        whole: a reference that is cut (``zoom``) also brings its whole picture
            (``INPUT.REFERENCE_WHOLE``).
        multiple: px; sides of views are multiples of it, and nothing is padded to be encoded; 0:
            whole canvases are encoded (``INPUT.MULTIPLE``).
    """

    canvas: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    format: str = "RGB"
    resize: str = "pil"
    zoom: float = 0.0
    binarize: bool = False
    released: bool = False
    whole: bool = False
    multiple: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone: nn.Module | None = None) -> InputSpec:
        """The spec of a config. ``backbone``: its ``pixel_mean`` and ``pixel_std``, which its
        weights were trained with, go before ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``; None, or
        one without: those. ValueError: a value that its key does not know."""
        check_config(cfg, "INPUT.CANVAS", "INPUT.RESIZE", "INPUT.REFERENCE_ZOOM", "INPUT.MULTIPLE")
        m, given, form = cfg.MODEL.SEGIC, cfg.INPUT, cfg.INPUT.FORMAT
        mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        if backbone is not None and hasattr(backbone, "pixel_mean"):
            mean, std, form = backbone.pixel_mean, backbone.pixel_std, "RGB"
        if given.MULTIPLE and given.CANVAS % given.MULTIPLE:
            raise ValueError(
                f"INPUT.CANVAS {given.CANVAS} is no multiple of INPUT.MULTIPLE {given.MULTIPLE}"
            )
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; it must be 'RGB' or 'BGR'")
        masks = given.REFERENCE_ZOOM, m.BINARIZE_MASKS, m.RELEASED, given.REFERENCE_WHOLE
        own = *masks, given.MULTIPLE
        return cls(given.CANVAS, tuple(mean), tuple(std), form, given.RESIZE, *own)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """{attribute: value}, of the later ones those alone that differ from their defaults: what
        a new attribute means by default is what contexts without it were made with."""
        optional = {f.name: f.default for f in fields(self) if f.name not in ("canvas", "mean")}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in optional or v != optional[k]}

    def seen(self, size: Sequence[int]) -> bool:
        """Whether a picture of (h, w) px may be a plain view already."""
        return (min if self.resize == "squash" else max)(size) == self.canvas == max(size)

    @cached_property
    def plain(self) -> T.AugmentationList:
        """The whole picture, its longest side at the canvas."""
        resize = ResizeLongestSide(self.canvas, resize=self.resize, multiple=self.multiple)
        return T.AugmentationList([resize])

    def target(
        self, picture: Picture, crop: T.CropTransform | None = None, *, with_pixels: bool = False
    ) -> View:
        """The plain view of a target, or of what ``crop`` leaves of it; see ``Picture.view``."""
        transforms = picture.draw(_after(crop, self.plain), 0)
        return picture.view(transforms, recurs=True, with_pixels=with_pixels)

    def reference(
        self,
        picture: Picture,
        masks: Masks,
        crop: T.CropTransform | None = None,
        about: np.ndarray | None = None,
    ) -> Reference:
        """The plain view of a reference: what ``crop`` (None: all) and then ``zoom`` leave of a
        picture, and its masks, float32 (n, h, w) in [0, 1]. ``masks``: bool (n, H, W), of the
        picture after ``crop``. Where the spec says so, what ``crop`` leaves comes along as
        ``whole``, with its own masks; the same view where nothing is cut. ``about``: bool (H, W),
        what the zoom is about; None: all masks."""
        cut = zoomed(self.plain, masks if about is None else [about], self.zoom)
        view = self._reference(picture, masks, crop, cut)
        if self.whole:
            uncut = cut is self.plain
            far = view if uncut else self._reference(picture, masks, crop, self.plain)
            view["whole"] = cast(MaskedView, {**far})
        return view

    def _reference(
        self,
        picture: Picture,
        masks: Masks,
        crop: T.CropTransform | None,
        augmentations: T.AugmentationList,
    ) -> Reference:
        transforms = picture.draw(_after(crop, augmentations), 0)
        view = picture.view(transforms, recurs=True)
        own = TransformList(transforms.transforms[crop is not None :])
        return {**view, "masks": apply_soft(own, masks)}


def _after(crop: T.CropTransform | None, augmentations: T.AugmentationList) -> T.AugmentationList:
    return augmentations if crop is None else T.AugmentationList([crop, *augmentations.augs])


def zoomed(augmentations: T.AugmentationList, masks: Masks, share: float) -> T.AugmentationList:
    """Augmentations of a reference that first leave out what is far from any of its masks, so that
    a small thing is seen larger. The cut is a square, as far as the picture reaches; of its side
    the masks' longer side takes at least ``share`` (``INPUT.REFERENCE_ZOOM``); 0: the whole
    picture."""
    crop = zoom_crop(np.logical_or.reduce(masks), share)
    return _after(crop, augmentations)


def zoom_crop(shown: np.ndarray, share: float) -> T.CropTransform | None:
    """The cut of ``zoomed`` about bool (H, W); None: the whole picture."""
    if not share or not shown.any():
        return None
    size = shown.shape
    spans = [span for axis in (1, 0) if (span := extent(shown.any(axis)))]
    side = int(np.ceil(max(stop - start for start, stop in spans) / share))
    if side >= max(size):
        return None
    (y, h), (x, w) = (_window(*span, side, n) for span, n in zip(spans, size, strict=True))
    return T.CropTransform(x, y, w, h, size[1], size[0])


def _window(start: int, stop: int, side: int, limit: int) -> tuple[int, int]:
    """First pixel and length of a window about a span, moved and cut to lie in 0…limit."""
    length = min(side, limit)
    return min(max((start + stop - length) // 2, 0), limit - length), length


def check_size(mask: np.ndarray, size: tuple[int, int], mask_name: str, image_name: str) -> None:
    """Raise a ValueError naming both files and sizes unless a mask has its image's size (H, W)."""
    if mask.shape[-2:] != tuple(size):
        raise ValueError(
            f"the mask of {image_name} ({mask_name}) is {mask.shape[-1]}x{mask.shape[-2]} px, "
            f"the image as displayed is {size[1]}x{size[0]} px"
        )
