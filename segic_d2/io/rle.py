"""Segmentations of COCO's form, RLE and polygons → arrays, and arrays → RLE."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pycocotools.mask as mask_util

# RLE, compressed or not; polygons, each flat x, y, x, y, …; a bitmap (H, W)
CocoMask: TypeAlias = dict[str, Any] | Sequence[Sequence[float]] | np.ndarray

FAR = 10  # picture sides: a corner farther outside is a mistake, and pycocotools walks there


def ring_fault(ring: np.ndarray, size: tuple[int, int]) -> str:
    """What keeps flat corners x, y, x, y, …, float64, from being a polygon of a picture (H, W); "":
    nothing. pycocotools ends the process where a coordinate is NaN or far outside."""
    if ring.size % 2:
        return f"has {ring.size} numbers; x, y, x, y, … are an even number"
    if ring.size < 6:
        return f"has {ring.size // 2} corners; at least 3 are needed"
    reach = FAR * np.array(size[::-1], np.float64)
    corners = ring.reshape(-1, 2)
    odd = ~(np.abs(corners) <= reach + 1).all(1)  # NaN, too
    if not odd.any():
        return ""
    x, y = corners[odd][0]
    what = "far outside" if np.isfinite([x, y]).all() else "no place in, or outside"
    return f"has the corner ({x:g}, {y:g}): {what} of a picture of {size[1]}x{size[0]} px"


def runs(counts: Sequence[int] | str | bytes) -> np.ndarray:
    """The lengths of the runs of an RLE, int64 (n,): background, foreground, background, …, down
    the columns. ValueError: text that is no compressed RLE."""
    if not isinstance(counts, str | bytes):
        if not isinstance(counts, Sequence | np.ndarray):
            raise ValueError(f"has the counts {counts!r:.40}")
        found = np.asarray(counts if len(counts) else [0])
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise ValueError("has counts that are no whole numbers")
        return found.astype(np.int64)
    data = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - 48  # 5 bits and "more follows"
    if not groups.size or (groups < 0).any() or (groups > 63).any() or groups[-1] & 32:
        raise ValueError("has counts that are no compressed RLE")
    last = (groups & 32) == 0
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(groups.size) - np.repeat(first, np.diff([*first, groups.size]))
    if place.max() > 11:
        raise ValueError("has counts that are no compressed RLE")
    values = np.add.reduceat((groups & 31) << (5 * place), first)
    negative = (groups[last] & 16) > 0
    values -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(
        values[1::2]
    )  # each, from the fourth on, is told less the last but one
    values[2::2] = np.cumsum(values[2::2])
    return values


def rle_fault(rle: Mapping[str, Any], size: tuple[int, int]) -> str:
    """What keeps a dict from being the RLE of a picture (H, W); "": nothing. pycocotools reads
    beyond runs that do not fill the picture."""
    try:
        said = tuple(int(side) for side in rle["size"])
        found = runs(rle["counts"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        return f"{lacks} (an RLE has 'size' [height, width] and 'counts')"
    if said != size:
        shown = "x".join(map(str, said[::-1]))
        return f"is {shown} px, its image is {size[1]}x{size[0]} px"
    area = size[0] * size[1]
    if (found < 0).any():
        return f"has counts below 0, such as {found.min()}"
    if (found > area).any() or found.sum() != area:  # no sum may overflow
        return f"has counts that sum to {found.sum()}, its image has {area} px"
    return ""


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is a crowd; ValueError: ``iscrowd`` is neither 0 nor 1, as a number or
    text."""
    value = annotation.get("iscrowd", 0)
    if value in (0, None, "0"):
        return False
    if value in (1, "1"):
        return True
    raise ValueError(f"annotation {annotation.get('id')}: iscrowd is {value!r}; it must be 0 or 1")


def mask_fault(segmentation: Any, size: tuple[int, int]) -> str:
    """What of an annotation would end the process in pycocotools, of a picture (H, W); "": nothing.
    ValueError, TypeError: a polygon that holds no numbers."""
    if isinstance(segmentation, dict):
        return rle_fault(segmentation, size)
    for polygon in segmentation if isinstance(segmentation, list) else ():
        ring = np.asarray(polygon, dtype=np.float64).reshape(-1)
        fault = ring_fault(ring[: ring.size // 2 * 2], size) if ring.size >= 6 else ""
        if fault:
            return fault
    return ""


def has_mask(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is one object with a mask: crowds and empty RLEs are not."""
    if is_crowd(annotation):
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
    RLE or bitmap has another size or a polygon is none (``ring_fault``).

    A polygon too thin to cover any pixel centre marks the pixel of its centre, so that an object
    that was annotated is never empty.
    """
    if isinstance(segmentation, (list, tuple)):
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1) for p in segmentation]
        for ring in polygons:
            if fault := ring_fault(ring, (height, width)):
                raise ValueError(f"a polygon{_of(file_name)} {fault}")
        rles = mask_util.frPyObjects([p.tolist() for p in polygons], height, width)
        mask = mask_util.decode(mask_util.merge(rles)).astype(bool)
        if not mask.any():
            x, y = np.concatenate(polygons).reshape(-1, 2).mean(0)
            mask[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = True
        return mask
    if isinstance(segmentation, dict):
        if fault := rle_fault(segmentation, (height, width)):
            raise ValueError(f"an RLE{_of(file_name)} {fault}")
        segmentation = {**segmentation, "size": [height, width]}  # which may be text
        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, height, width)
        segmentation = mask_util.decode(segmentation)
    mask = np.asarray(segmentation).astype(bool)
    if mask.shape != (height, width):
        raise ValueError(
            f"a mask in the annotations of {file_name} is {mask.shape[1]}x{mask.shape[0]} px, "
            f"its image is {width}x{height} px"
        )
    return mask


def _of(file_name: str) -> str:
    return f" in the annotations of {file_name}" if file_name else ""


def encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask, bool (H, W), as a compressed COCO RLE that JSON can hold: "size" [H, W] and "counts",
    a string."""
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
