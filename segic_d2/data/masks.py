"""Dataset record → masks, for the three record forms, and the resize that keeps small objects.

Record forms (Detectron2 dataset dicts with ``file_name``):

- ``coco``: ``annotations`` with ``category_id`` and ``segmentation`` (polygons, RLE or bitmap),
  and the image's ``height``, ``width``;
- ``sem_seg``: ``sem_seg_file_name``, a label map; ``ignore_label`` (default 255) is left out;
- ``folder``: ``mask_file_name``, a binary mask, and ``category_id``.

Only the masks that an episode asks for are decoded.
"""

import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F

from .image_io import read_binary_mask, read_label_map

IGNORE_LABEL = 255  # Detectron2's usual value, for metadata that does not say


def record_form(record):
    """``"coco"``, ``"sem_seg"`` or ``"folder"``.

    Raises:
        ValueError: naming the image, if the record has no masks of any form.
    """
    if "annotations" in record:
        return "coco"
    if "mask_file_name" in record:
        return "folder"
    if "sem_seg_file_name" in record:
        return "sem_seg"
    raise ValueError(
        f"the record of {record.get('file_name')} has none of "
        "'annotations', 'sem_seg_file_name', 'mask_file_name'"
    )


def mask_file(record):
    """Where the masks of a record come from, for messages."""
    return record.get("mask_file_name") or record.get("sem_seg_file_name") or "its annotations"


def has_mask(annotation):
    """Whether an annotation is one object with a mask: crowds and empty RLEs are not."""
    if annotation.get("iscrowd", 0):
        return False
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, list):  # uncompressed: background and foreground runs alternate
            return sum(counts[1::2]) > 0
        return bool(mask_util.area(segmentation) > 0)
    if isinstance(segmentation, np.ndarray):
        return bool(segmentation.any())
    return bool(segmentation)


def usable_annotations(record):
    """The annotations of a record that have a mask of their own, in the record's order."""
    return [a for a in record["annotations"] if has_mask(a)]


def decode(segmentation, height, width, file_name=""):
    """One COCO segmentation as a bool mask (height, width).

    A polygon too thin to cover any pixel centre marks the pixel of its centre, so that an object
    that was annotated is never empty.

    Raises:
        ValueError: naming the image, if the RLE or bitmap has another size than the image.
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


def _size(record):
    try:
        return int(record["height"]), int(record["width"])
    except KeyError as error:
        raise ValueError(f"the record of {record['file_name']} lacks {error}") from error


def _union(record, annotations):
    height, width = _size(record)
    mask = np.zeros((height, width), dtype=bool)
    for annotation in annotations:
        mask |= decode(annotation["segmentation"], height, width, record["file_name"])
    return mask


def class_masks(record, class_ids):
    """All pixels of each class in an image; files are read once.

    Args:
        record: a dataset dict of any of the three forms.
        class_ids: contiguous class ids; in a label map, the pixel values.

    Returns:
        masks: bool array (N, H, W).
        ignore: bool array (H, W) of pixels that count neither as these classes nor as background
        (the ignored label; crowd regions of the classes), or None.
    """
    form = record_form(record)
    if form == "folder":
        mask = read_binary_mask(record["mask_file_name"])
        empty = np.zeros_like(mask)
        return np.stack([mask if c == record["category_id"] else empty for c in class_ids]), None
    if form == "sem_seg":
        labels = read_label_map(record["sem_seg_file_name"])
        ignore = labels == record.get("ignore_label", IGNORE_LABEL)
        return np.stack([labels == c for c in class_ids]), ignore if ignore.any() else None
    of_class = {c: [a for a in record["annotations"] if a["category_id"] == c] for c in class_ids}
    masks = [_union(record, [a for a in of_class[c] if has_mask(a)]) for c in class_ids]
    crowds = [a for c in class_ids for a in of_class[c] if a.get("iscrowd") and "segmentation" in a]
    # a pixel that one entity knows to be its own counts, even inside another's crowd
    ignore = _union(record, crowds) & ~np.any(masks, axis=0) if crowds else None
    return np.stack(masks), ignore


def class_mask(record, class_id):
    """:func:`class_masks` of one class: bool mask (H, W), and bool ignore (H, W) or None."""
    masks, ignore = class_masks(record, [class_id])
    return masks[0], ignore


def instance_masks(record, indices=None):
    """Masks of single objects, crowds left out.

    Args:
        record: a dataset dict with ``annotations``.
        indices: which of :func:`usable_annotations` to decode, in that order; None: all.

    Returns:
        masks: bool array (n, H, W).
        category_ids: list of n contiguous class ids.

    Raises:
        ValueError: naming the image, if the record has no ``annotations``.
    """
    if "annotations" not in record:
        raise ValueError(
            f"{record.get('file_name')}: instance episodes need 'annotations' with one mask per "
            f"object, this record has the form {record_form(record)!r}"
        )
    annotations = usable_annotations(record)
    if indices is not None:
        annotations = [annotations[i] for i in indices]
    height, width = _size(record)
    masks = np.zeros((len(annotations), height, width), dtype=bool)
    for i, annotation in enumerate(annotations):
        masks[i] = decode(annotation["segmentation"], height, width, record["file_name"])
    return masks, [a["category_id"] for a in annotations]


def soft_resize(masks, size):
    """Resize masks by area averaging: every pixel keeps a share, so no object vanishes.

    Args:
        masks: (N, H, W), bool or float in [0, 1]; array or tensor.
        size: (h, w) in pixels.

    Returns:
        float32 tensor (N, h, w) in [0, 1].
    """
    masks = torch.as_tensor(masks).to(torch.float32)
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    return F.interpolate(masks[:, None], size=tuple(size), mode="area")[:, 0]


def soft_resize_binary(mask, size, window=None):
    """:func:`soft_resize` of one bool mask, to the bit, and only where something is to be seen.

    The averages of a binary mask are counts of pixels, which differences of running sums give
    exactly; beyond the object's box they are 0.

    Args:
        mask: bool array (H, W).
        size: (h, w) in pixels.
        window: (y, x, height, width), the part of the result that is wanted; None: all.

    Returns:
        float32 array (height, width) in [0, 1].
    """
    y, x, height, width = window or (0, 0, *size)
    result = np.zeros((height, width), np.float32)
    rows, columns = _extent(mask.any(1)), _extent(mask.any(0))
    if rows is None:
        return result
    top, bottom, tall = _bins(mask.shape[0], size[0], y, height)
    left, right, wide = _bins(mask.shape[1], size[1], x, width)
    across, down = _touching(left, right, columns), _touching(top, bottom, rows)
    part = mask[rows[0] : rows[1], columns[0] : columns[1]]

    def between(sums, axis, start, stop, origin):
        limit = sums.shape[axis] - 1
        stop = np.clip(stop - origin, 0, limit)
        return sums.take(stop, axis) - sums.take(np.clip(start - origin, 0, limit), axis)

    sums = np.zeros((part.shape[0] + 1, part.shape[1]), np.int32)
    np.cumsum(part, axis=0, out=sums[1:])
    counts = between(sums, 0, top[down], bottom[down], rows[0])
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), np.int32)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    counts = between(sums, 1, left[across], right[across], columns[0]).astype(np.float32)
    counts /= tall[down, None]  # one side after the other, as torch divides
    counts /= wide[across]
    result[down, across] = counts
    return result


def _extent(occupied):
    """First and behind the last True of a bool array, or None."""
    found = np.flatnonzero(occupied)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else None


def _bins(old, new, start, count):
    """Which of ``old`` pixels the result's pixels start … start+count-1 of ``new`` average:
    first (count,), behind the last (count,), and how many as float32 (count,)."""
    i = np.arange(start, start + count, dtype=np.int64)
    first, behind = i * old // new, -((-(i + 1) * old) // new)
    return first, behind, (behind - first).astype(np.float32)


def _touching(first, behind, extent):
    """The slice of bins that meet the half-open range ``extent``."""
    start = int(np.searchsorted(behind, extent[0], side="right"))
    return slice(start, max(int(np.searchsorted(first, extent[1], side="left")), start))
