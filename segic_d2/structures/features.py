"""Feature maps of images on the canvas, and those that images bring along or leave in a store.

Shapes: B images, C feature channels, g grid side (cells).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.transforms.transform import TransformList
from torch import Tensor

from .frame import Frame


@dataclass
class Features:
    """Feature maps (B, C, g, g) of B images, their frames, their pictures: B (3, h, w) or None
    each; None: there are none; and where a model parts them, the regions of each, int64, so that
    they are found once."""

    map: Tensor
    frames: list[Frame]
    pictures: list[Tensor | None] | None = None
    regions: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.map)

    def __getitem__(self, part: slice | Sequence[int]) -> Features:
        """The images of a slice, or of a list of rows."""
        rows = range(len(self))[part] if isinstance(part, slice) else part
        pictures = None if self.pictures is None else [self.pictures[row] for row in rows]
        regions = None if self.regions is None else [self.regions[row] for row in rows]
        return Features(self.map[part], [self.frames[row] for row in rows], pictures, regions)

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """B (h, w), the contents of the canvases, px."""
        return [frame.content for frame in self.frames]


class FeatureStore(Protocol):
    """Where features of a frozen encoder are kept, in memory or on disk; ``dtype``: to which
    features are rounded that pass through, None: as they are."""

    dtype: torch.dtype | None

    def get(self, key: str) -> Tensor | None:
        """The features (C, g, g) under a key, or None."""

    def put(self, key: str, features: Tensor) -> None:
        """Keep features (C, g, g) under a key."""


class ViewStore(FeatureStore, Protocol):
    """A store of features of views, which are found without a look at their pixels."""

    def key(self, file_name: str, transforms: TransformList) -> str:
        """The key of a picture after some transforms."""


def image_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """(h, w) in px of an image of an episode: of its pixels, or of those that its features saw."""
    height, width = image["image_size"] if "features" in image else image["image"].shape[-2:]
    return int(height), int(width)


def own_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) that an image of an episode says it has as a file; without, its ``image_size``."""
    if "height" in image and "width" in image:
        return int(image["height"]), int(image["width"])
    return image_size(image)


def brought_features(image: Mapping[str, Any], shape: Sequence[int]) -> Tensor | None:
    """The features that an image brings along, (C, g, g) as they were stored, or None. ValueError,
    naming the file: they have another shape than the backbone's, or are not finite."""
    features = image.get("features")
    if features is not None and tuple(features.shape) != tuple(shape):
        raise ValueError(
            f"the features of {image.get('file_name', 'an image')} are {tuple(features.shape)}, "
            f"this model's backbone gives {tuple(shape)}"
        )
    if features is not None and not torch.isfinite(features).all():
        raise ValueError(f"the features of {image.get('file_name', 'an image')} are not finite")
    return features


def round_features(features: Tensor, dtype: torch.dtype, file_name: str) -> Tensor:
    """Features in the type that a store keeps, on the CPU. ValueError, with the file: they do not
    fit."""
    rounded = features.to(dtype).cpu()
    if not torch.isfinite(rounded).all():
        raise ValueError(
            f"INPUT.FEATURE_CACHE.DTYPE: the features of {file_name} do not fit "
            f"{str(dtype).removeprefix('torch.')}, the largest is {features.abs().max().item():g}"
        )
    return rounded


def tensor_bytes(tensor: Tensor) -> np.ndarray:
    """The bytes of a tensor, uint8 (n,)."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def tensor_hash(tensor: Tensor) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a tensor's bytes."""
    return hashlib.sha256(tensor_bytes(tensor).tobytes()).hexdigest()[:16]
