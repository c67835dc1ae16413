"""Features that images bring along from a store on disk, or leave behind there.

A store is known by what it does (``FeatureStore``); the engine hands one over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.transforms.transform import TransformList


class FeatureStore(Protocol):
    """Features (C, g, g) by what they depend on."""

    dtype: torch.dtype  # to which features are rounded

    def key(self, file_name: str | os.PathLike[str], transforms: TransformList) -> str:
        """What determines a view of a picture."""

    def get(self, key: str) -> torch.Tensor | None:
        """The features under a key, or None."""

    def put(self, key: str, features: torch.Tensor) -> None:
        """Keep features under a key, if there is room."""


def image_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """(h, w) in px of an image of an episode: of its pixels, or of those that its features saw."""
    height, width = image["image_size"] if "features" in image else image["image"].shape[-2:]
    return height, width


def brought_features(image: Mapping[str, Any], shape: Sequence[int]) -> torch.Tensor | None:
    """The features that an image brings along, (C, g, g) as they were stored, or None.

    Raises:
        ValueError: naming the file, if they have another shape than the backbone's.
    """
    features = image.get("features")
    if features is not None and tuple(features.shape) != tuple(shape):
        raise ValueError(
            f"the features of {image.get('file_name', 'an image')} are {tuple(features.shape)}, "
            f"this model's backbone gives {tuple(shape)}"
        )
    return features


def round_features(features: torch.Tensor, dtype: torch.dtype, file_name: str) -> torch.Tensor:
    """Features in the type that a store keeps, on the CPU.

    Raises:
        ValueError: naming the file, if they do not fit the type.
    """
    rounded = features.to(dtype).cpu()
    if not torch.isfinite(rounded).all():
        raise ValueError(
            f"INPUT.FEATURE_CACHE.DTYPE: the features of {file_name} do not fit "
            f"{str(dtype).removeprefix('torch.')}, the largest is {features.abs().max().item():g}"
        )
    return rounded


@dataclass
class Features:
    """Feature maps of images on the canvas: map float (B, C, g, g), image_sizes B (h, w).

    ``pictures`` are the images themselves, B (3, h, w) or None each, for
    ``MODEL.SEGIC.TEST.REFINE``; None: there are none.
    """

    map: torch.Tensor
    image_sizes: list[tuple[int, int]]
    pictures: list[torch.Tensor | None] | None = None

    def __len__(self) -> int:
        return len(self.map)

    def __getitem__(self, part: slice | list[int]) -> Features:
        """Some of the images."""
        rows = range(len(self))[part] if isinstance(part, slice) else part
        pictures = None if self.pictures is None else [self.pictures[row] for row in rows]
        return Features(self.map[part], [self.image_sizes[row] for row in rows], pictures)


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def tensor_hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor_bytes(tensor).data).hexdigest()[:16]
