"""The plain view: how a reference and a target come onto the canvas, the same way everywhere.

What a model sees of a picture, and with it every prototype, follows from an ``InputSpec``. Mappers,
predictor and evaluations ask it for views; a model puts it into the fingerprint of its contexts.

Shape shorthand: H×W a picture's own size, h×w its size on the canvas, n masks.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from torch import nn

from .resize import ResizeLongestSide, apply_soft

if TYPE_CHECKING:
    from .picture import Picture


@dataclass(frozen=True)
class InputSpec:
    """All that decides what a model sees of a picture and what it pools under a mask.

    Attributes:
        canvas: side of the square input, px (``INPUT.CANVAS``).
        mean, std: of the channels, in 0–255, that pixels are normalised with.
        format: order of the channels that the backbone expects, "RGB" or "BGR".
        resize: how pictures are resized (``INPUT.RESIZE``).
        zoom: of a reference's cut, the least share of its side that the masks take; 0: the whole
            picture (``INPUT.REFERENCE_ZOOM``).
        mask_pooling, binarize, empty_mask, eps: how features are pooled under masks
            (``MODEL.SEGIC.MASK_POOLING``, ``.BINARIZE_MASKS``, ``.EMPTY_MASK``,
            ``.SIMILARITY.EPS``).
    """

    canvas: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    format: str = "RGB"
    resize: str = "pil"
    zoom: float = 0.0
    mask_pooling: str = "area"
    binarize: bool = False
    empty_mask: str = "no_shot"
    eps: float = 1e-8

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone: nn.Module | None = None) -> InputSpec:
        """The spec of a config.

        Args:
            cfg: config.
            backbone: its ``pixel_mean`` and ``pixel_std``, which its weights were trained with, go
                before ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``; None, or one without: those.

        Raises:
            ValueError: a value that its key does not know.
        """
        m, form = cfg.MODEL.SEGIC, cfg.INPUT.FORMAT
        mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        if backbone is not None and hasattr(backbone, "pixel_mean"):
            mean, std, form = backbone.pixel_mean, backbone.pixel_std, "RGB"
        for key, value, allowed in (
            ("MODEL.SEGIC.MASK_POOLING", m.MASK_POOLING, ("area", "center")),
            ("MODEL.SEGIC.EMPTY_MASK", m.EMPTY_MASK, ("no_shot", "zero")),
            ("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB", "BGR")),
            ("INPUT.RESIZE", cfg.INPUT.RESIZE, ("pil", "float")),
        ):
            if value not in allowed:
                raise ValueError(f"{key} is {value!r}; it must be one of {allowed}")
        if not 0 <= cfg.INPUT.REFERENCE_ZOOM <= 1:
            raise ValueError(
                f"INPUT.REFERENCE_ZOOM is {cfg.INPUT.REFERENCE_ZOOM}; it must be in [0, 1]"
            )
        return cls(
            canvas=cfg.INPUT.CANVAS,
            mean=tuple(mean),
            std=tuple(std),
            format=form,
            resize=cfg.INPUT.RESIZE,
            zoom=cfg.INPUT.REFERENCE_ZOOM,
            mask_pooling=m.MASK_POOLING,
            binarize=m.BINARIZE_MASKS,
            empty_mask=m.EMPTY_MASK,
            eps=m.SIMILARITY.EPS,
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """{attribute: value}, of the later ones those alone that differ from their defaults: what
        a new attribute means by default is what contexts without it were made with."""
        optional = {f.name: f.default for f in fields(self) if f.name not in ("canvas", "mean")}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in optional or v != optional[k]}

    @cached_property
    def plain(self) -> T.AugmentationList:
        """The whole picture, its longest side at the canvas."""
        return T.AugmentationList([ResizeLongestSide(self.canvas, resize=self.resize)])

    def target(
        self, picture: Picture, crop: T.CropTransform | None = None, *, with_pixels: bool = False
    ) -> dict[str, Any]:
        """The plain view of a target, or of what ``crop`` leaves of it; see ``Picture.view``."""
        transforms = picture.draw(_after(crop, self.plain), 0)
        return picture.view(transforms, recurs=True, with_pixels=with_pixels)

    def reference(
        self,
        picture: Picture,
        masks: np.ndarray | Sequence[np.ndarray],
        crop: T.CropTransform | None = None,
    ) -> dict[str, Any]:
        """The plain view of a reference: the picture, or what ``zoom`` leaves of it, and its masks.

        Args:
            picture: the reference.
            masks: bool (n, H, W), of the picture after ``crop``.
            crop: what of the picture the reference is; None: all of it.

        Returns:
            the entries of ``Picture.view``, and ``masks`` float32 (n, h, w) in [0, 1].
        """
        augmentations = _after(crop, zoomed(self.plain, masks, self.zoom))
        transforms = picture.draw(augmentations, 0)
        view = picture.view(transforms, recurs=True)
        own = TransformList(transforms.transforms[crop is not None :])
        return {**view, "masks": apply_soft(own, masks)}


def _after(crop: T.CropTransform | None, augmentations: T.AugmentationList) -> T.AugmentationList:
    return augmentations if crop is None else T.AugmentationList([crop, *augmentations.augs])


def zoomed(
    augmentations: T.AugmentationList, masks: np.ndarray | Sequence[np.ndarray], share: float
) -> T.AugmentationList:
    """Augmentations of a reference that first leave out what is far from its masks, so that a small
    thing is seen larger.

    Args:
        augmentations: of the whole picture.
        masks: bool (n, H, W); the cut is around what any of them shows.
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


def _window(start: int, stop: int, side: int, limit: int) -> tuple[int, int]:
    """First pixel and length of a window about a span, moved and cut to lie in 0…limit."""
    length = min(side, limit)
    return min(max((start + stop - length) // 2, 0), limit - length), length


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 or float32 array (H, W, 3) in 0–255 → tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def check_size(mask: np.ndarray, size: tuple[int, int], mask_name: str, image_name: str) -> None:
    """Raise a ValueError naming both files and sizes unless a mask has its image's size (H, W)."""
    if mask.shape[-2:] != tuple(size):
        raise ValueError(
            f"the mask of {image_name} ({mask_name}) is {mask.shape[-1]}x{mask.shape[-2]} px, "
            f"the image as displayed is {size[1]}x{size[0]} px"
        )


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that augmentations draw from, and restore them afterwards.

    Args:
        seed: int ≥ 0 of any size; numpy, ``random`` and torch's CPU generator derive from it.
            GPUs' generators are left alone.
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
