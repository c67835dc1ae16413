"""Random views, which are drawn again when they lost their object."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList

from ...structures.picture import Picture
from ...structures.resize import apply_soft


def draw_showing(
    picture: Picture,
    masks: np.ndarray,
    augmentations: T.AugmentationList,
    seeds: Iterable[int],
    fallback: T.AugmentationList | None = None,
    visible: Callable[[torch.Tensor], bool] | None = None,
) -> tuple[torch.Tensor, TransformList]:
    """Draw views of the seeds until every mask (N, H, W) is visible: soft masks (N, h, w) and the
    transforms that moved them. ``visible`` tells this from soft masks; default: each has a positive
    sum. ``fallback`` keeps the whole image, for when all attempts failed; None keeps the last
    attempt."""
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
