"""Segmentations of COCO's form, RLE and polygons → arrays, and arrays → RLE."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pycocotools.mask as mask_util

# RLE, compressed or not; polygons, each flat x, y, x, y, …; a bitmap (H, W)
CocoMask: TypeAlias = dict[str, Any] | Sequence[Sequence[float]] | np.ndarray


def has_mask(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is one object with a mask: crowds and empty RLEs are not."""
    if annotation.get("iscrowd", 0):
        return False
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, list):  # uncompressed: background and foreground runs alternate
            return sum(counts[1::2]) > 0
        return bool(mask_util.area(segmentation) > 0)
    return bool(np.any(segmentation) if isinstance(segmentation, np.ndarray) else segmentation)


def decode(segmentation: CocoMask, height: int, width: int, file_name: str = "") -> np.ndarray:
    """One COCO segmentation as a bool mask (height, width); ValueError, naming the image, where an
    RLE or bitmap has another size.

    A polygon too thin to cover any pixel centre marks the pixel of its centre, so that an object
    that was annotated is never empty.
    """
    if isinstance(segmentation, (list, tuple)):
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1) for p in segmentation]
        rles = mask_util.frPyObjects([p.tolist() for p in polygons], height, width)
        mask = mask_util.decode(mask_util.merge(rles)).astype(bool)
        if not mask.any():
            x, y = np.concatenate(polygons).reshape(-1, 2).mean(0)
            mask[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = True
        return mask
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
        segmentation = mask_util.decode(segmentation)
    mask = np.asarray(segmentation).astype(bool)
    if mask.shape != (height, width):
        raise ValueError(
            f"a mask in the annotations of {file_name} is {mask.shape[1]}x{mask.shape[0]} px, "
            f"its image is {width}x{height} px"
        )
    return mask


def encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask, bool (H, W), as a compressed COCO RLE that JSON can hold: "size" [H, W] and "counts",
    a string."""
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
