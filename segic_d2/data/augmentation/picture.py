"""A picture file whose pixels are decoded only when a view of it is needed as pixels.

What an augmentation does to a picture follows from its seed and the picture's size, so views are
drawn on an empty frame, and only those that are kept cost anything.
"""

from functools import cached_property

import numpy as np
from detectron2.data import transforms as T

from ...io.pictures import image_size, read_image
from ...structures.resize import FloatResize
from ...structures.view import apply_soft, seeded, to_tensor

SAME_SIZE = T.HFlipTransform, T.VFlipTransform, T.NoOpTransform, T.ColorTransform


class Frame(T.AugInput):
    """An image without pixels: its ``image`` has a shape and a type, and takes no memory."""

    def __init__(self, size, dtype=np.uint8):
        super().__init__(self._blank(size, dtype))

    @staticmethod
    def _blank(size, dtype):
        return np.broadcast_to(np.zeros((), dtype), (*size, 3))

    @property
    def size(self):
        return self.image.shape[:2]

    def transform(self, tfm):
        for step in getattr(tfm, "transforms", [tfm]):
            size, dtype = self.size, self.image.dtype
            if isinstance(step, FloatResize):
                size, dtype = (step.new_h, step.new_w), np.float32
            elif isinstance(step, T.ResizeTransform):
                size = step.new_h, step.new_w
            elif isinstance(step, T.CropTransform):
                size = step.h, step.w
            elif not isinstance(step, SAME_SIZE):  # one we do not know: try it
                moved = step.apply_image(np.array(self.image))
                size, dtype = moved.shape[:2], moved.dtype
            self.image = self._blank(size, dtype)


class Picture:
    """One picture as an episode sees it: drawn views, as pixels or as features from the cache.

    Args:
        file_name: see ``read_image``.
        cache: ``FeatureCache``, or None.
    """

    def __init__(self, file_name, cache=None):
        self.file_name, self.cache = file_name, cache

    @cached_property
    def pixels(self):
        """uint8 array (H, W, 3)."""
        return read_image(self.file_name)

    @cached_property
    def size(self):
        """(H, W) in px, as displayed."""
        return self.pixels.shape[:2] if self.cache is None else image_size(self.file_name)

    def draw(self, augmentations, seed):
        """What augmentations do under a seed: fvcore's ``TransformList``; no pixel is touched."""
        with seeded(seed):
            return augmentations(Frame(self.size))

    def view(self, transforms, recurs=False, with_pixels=False):
        """The picture after a ``TransformList``.

        Args:
            recurs: the same view will be asked for again, so the cache may hold its features.
            with_pixels: features from the cache come with the image, not in place of it.

        Returns:
            ``image``, uint8 or float32 (3, h, w); in use with a cache also ``feature_key``, under
            which the view's features are missed. Or, from the cache, ``features`` (C, g, g) and
            ``image_size`` (h, w), and no pixel was decoded.
        """
        key = self.cache.key(self.file_name, transforms) if recurs and self.cache else None
        features = self.cache.get(key) if key else None
        if features is not None:
            frame = Frame(self.size)
            frame.transform(transforms)
            view = {"features": features, "image_size": frame.size}
            return {**view, **self._pixels(transforms)} if with_pixels else view
        view = self._pixels(transforms)
        return {**view, "feature_key": key} if key else view

    def _pixels(self, transforms):
        return {"image": to_tensor(transforms.apply_image(self.pixels))}


def draw_showing(picture, masks, augmentations, seeds, fallback=None, visible=None):
    """Draw views until every mask is visible.

    Args:
        picture: ``Picture``, of which only the size is needed.
        masks: bool array (N, H, W).
        augmentations: Detectron2 ``AugmentationList``.
        seeds: iterable of ints ≥ 0, of the views to try.
        fallback: augmentations that keep the whole image, used where all attempts failed; None
            keeps the last attempt.
        visible: function of soft masks (N, h, w) → bool; default: each has a positive sum.

    Returns:
        float32 soft masks (N, h, w); the ``TransformList`` that moved them.
    """
    visible = visible or (lambda soft: bool((soft.sum((1, 2)) > 0).all()))
    for seed in seeds:
        transforms = picture.draw(augmentations, seed)
        soft = apply_soft(transforms, masks)
        if visible(soft):
            return soft, transforms
    if fallback is not None:
        transforms = picture.draw(fallback, 0)
        soft = apply_soft(transforms, masks)
    return soft, transforms
