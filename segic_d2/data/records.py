"""Masks of a dataset record, whichever of the three forms it has.

Record forms (Detectron2 dataset dicts with ``file_name``):

- ``coco``: ``annotations`` with ``category_id`` and ``segmentation`` (polygons, RLE or bitmap),
  and the image's ``height``, ``width``;
- ``sem_seg``: ``sem_seg_file_name``, a label map; ``ignore_label`` (default 255) is left out;
- ``folder``: ``mask_file_name``, a binary mask, and ``category_id``.

Only the masks that an episode asks for are decoded.
"""

import numpy as np

from ..io.masks import IGNORE_LABEL, read_binary_mask, read_label_map
from ..io.rle import decode, has_mask


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
    """The file that the masks of a record come from, for messages."""
    return record.get("mask_file_name") or record.get("sem_seg_file_name") or "its annotations"


def usable_annotations(record):
    """The annotations of a record that have a mask of their own, in the record's order."""
    return [a for a in record["annotations"] if has_mask(a)]


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
        ignore: bool array (H, W), or None. These pixels (the ignored label, crowds of the classes)
        count neither as these classes nor as background.
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
    """``class_masks`` of one class: bool mask (H, W), and bool ignore (H, W) or None."""
    masks, ignore = class_masks(record, [class_id])
    return masks[0], ignore


def instance_masks(record, indices=None):
    """Masks of single objects, crowds left out.

    Args:
        record: a dataset dict with ``annotations``.
        indices: which of ``usable_annotations`` to decode, in that order; None: all.

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
