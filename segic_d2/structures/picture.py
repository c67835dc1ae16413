"""A picture whose file is decoded only when a view of it is needed as pixels.

What an augmentation does to a picture follows from its seed and the picture's size, so views are
drawn on a blank image, and only those that are kept cost anything.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from torch import Tensor

from ..io.masks import read_label_map
from ..io.pictures import image_size, read_image
from ..utils.files import AnyPath
from .episode import View
from .features import ViewStore
from .resize import FloatResize

SAME_SIZE = T.HFlipTransform, T.VFlipTransform, T.NoOpTransform, T.ColorTransform


class Blank(T.AugInput):
    """An image without pixels: its ``image`` has a shape and a type, and takes no memory."""

    image: np.ndarray

    def __init__(self, size: tuple[int, int], dtype: npt.DTypeLike = np.uint8) -> None:
        super().__init__(self._blank(size, dtype))

    @staticmethod
    def _blank(size: tuple[int, int], dtype: npt.DTypeLike) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), (*size, 3))

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2]

    def transform(self, tfm: T.Transform | TransformList) -> None:
        for step in getattr(tfm, "transforms", [tfm]):
            size, dtype = self.size, self.image.dtype
            if isinstance(step, FloatResize):
                size, dtype = (step.new_h, step.new_w), np.dtype(np.float32)
            elif isinstance(step, T.ResizeTransform):
                size = step.new_h, step.new_w
            elif isinstance(step, T.CropTransform):
                size = step.h, step.w
            elif not isinstance(step, SAME_SIZE):  # one we do not know: try it
                moved = step.apply_image(np.array(self.image))
                size, dtype = moved.shape[:2], moved.dtype
            self.image = self._blank(size, dtype)


class Picture:
    """One picture as an episode sees it: drawn views, as pixels or as features from a store.

    ``source``: path or URL, see ``read_image``; or the picture itself, uint8 (H, W, 3) RGB.
    ``cache``: where views that recur are looked up, or None.
    """

    def __init__(
        self, source: str | os.PathLike[str] | np.ndarray, cache: ViewStore | None = None
    ) -> None:
        self.cache, self.file_name = cache, ""
        if isinstance(source, np.ndarray):
            self.pixels = source
        else:
            self.file_name = os.fspath(source)

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 array (H, W, 3)."""
        return read_image(self.file_name)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) in px, as displayed."""
        return self.pixels.shape[:2] if self.cache is None else image_size(self.file_name)

    def draw(self, augmentations: T.AugmentationList, seed: int) -> TransformList:
        """What augmentations do under a seed; no pixel is touched."""
        with seeded(seed):
            return augmentations(Blank(self.size))

    def view(
        self, transforms: TransformList, recurs: bool = False, with_pixels: bool = False
    ) -> View:
        """The picture after the transforms of ``draw``: ``image``, uint8 or float32 (3, h, w), and
        in use with a cache ``feature_key``, under which the view's features are missed. Or, from
        the cache, ``features`` (C, g, g) and ``image_size`` (h, w), and no pixel was decoded.

        ``recurs``: the same view will be asked for again, so the cache may hold its features;
        ``with_pixels``: they come with the image, not in place of it.
        """
        key = self.cache.key(self.file_name, transforms) if recurs and self.cache else None
        features = self.cache.get(key) if self.cache and key else None
        if features is not None:
            blank = Blank(self.size)
            blank.transform(transforms)
            found: View = {"features": features, "image_size": blank.size}
            if with_pixels:
                found["image"] = self._image(transforms)
            return found
        view: View = {"image": self._image(transforms)}
        if key:
            view["feature_key"] = key
        return view

    def _image(self, transforms: TransformList) -> Tensor:
        return to_tensor(transforms.apply_image(self.pixels))


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 or float32 array (H, W, 3) in 0–255 → tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that augmentations draw from (numpy, ``random`` and torch's CPU
    generator; GPUs' are left alone) with an int ≥ 0 of any size, and restore them afterwards."""
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


def read_labels(path: AnyPath) -> np.ndarray:
    """The ids of a label map, int32 (H, W), as displayed; errors as of ``io.masks``."""
    return read_label_map(path)
