"""Views as they are when every pixel is there: the plain way, to compare with."""

from detectron2.data import transforms as T

from segic_d2.structures.picture import seeded
from segic_d2.structures.view import InputSpec


def draw_view(image, augmentations, seed):
    """An image, uint8 (H, W, 3), augmented with everything random drawn from a seed, and the
    ``TransformList`` that did it."""
    view = T.AugInput(image)
    with seeded(seed):
        transforms = augmentations(view)
    return view.image, transforms


def plain_augmentations(cfg):
    """The whole picture, its longest side at the canvas."""
    return InputSpec.from_config(cfg).plain
