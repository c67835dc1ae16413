"""Masks of a dataset record, whichever of the three forms it has (dicts with ``file_name``):

- ``coco``: ``annotations`` with ``category_id`` and ``segmentation`` (polygons, RLE or bitmap),
  and the image's ``height``, ``width``;
- ``sem_seg``: ``sem_seg_file_name``, a label map; ``ignore_label`` (default 255) is left out;
- ``folder``: ``mask_file_name``, a binary mask, and ``category_id``.

Only the masks that an episode asks for are decoded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog

from ..io.masks import IGNORE_LABEL, read_binary_mask, read_label_map
from ..io.opening import MOST
from ..io.rle import decode, has_mask, is_crowd


class File(NamedTuple):
    """A file that a run reads, of the kind "image", "mask" (foreground) or "labels" (a label map,
    which may hold the values ``labels``; None: any)."""

    path: str
    kind: str
    labels: frozenset[int] | None = None


def record_files(record: Mapping[str, Any], labels: frozenset[int] | None = None) -> Iterator[File]:
    """Yield the files of a dataset dict, whatever its form."""
    yield File(str(record["file_name"]), "image")
    if record.get("mask_file_name"):
        yield File(str(record["mask_file_name"]), "mask")
    elif record.get("sem_seg_file_name"):
        yield File(str(record["sem_seg_file_name"]), "labels", labels)


def known_labels(dataset_name: str) -> frozenset[int] | None:
    """The values that a loaded dataset's label maps may hold; None if it has no label maps."""
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.get("stuff_classes")
    if not names:
        return None
    return frozenset({*range(len(names)), metadata.get("ignore_label", IGNORE_LABEL)})


def record_form(record: Mapping[str, Any]) -> str:
    """``"coco"``, ``"sem_seg"`` or ``"folder"``. ValueError: naming the image that has no masks."""
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


def mask_file(record: Mapping[str, Any]) -> str:
    """The file that the masks of a record come from, for messages."""
    return record.get("mask_file_name") or record.get("sem_seg_file_name") or "its annotations"


def usable_annotations(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a record that have a mask of their own, in the record's order."""
    return [a for a in record["annotations"] if has_mask(a)]


def _size(record):
    try:
        said = record["height"], record["width"]
        height, width = (int(side) for side in said)
        if height < 1 or width < 1 or height * width > MOST:
            raise ValueError("no size of a picture")
    except KeyError as error:
        raise ValueError(f"the record of {record['file_name']} lacks {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the record of {record['file_name']} says height and width are {said!r}: {error}"
        ) from error
    return height, width


def union(segmentations: Iterable[Any], size: tuple[int, int], file_name: str) -> np.ndarray:
    """The union of COCO segmentations of an image, bool (H, W) = ``size``."""
    mask = np.zeros(size, dtype=bool)
    for segmentation in segmentations:
        mask |= decode(segmentation, *size, file_name)
    return mask


def _union(record, annotations):
    return union([a["segmentation"] for a in annotations], _size(record), record["file_name"])


def class_masks(
    record: Mapping[str, Any], class_ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """All pixels of each class in an image, bool (N, H, W), and ``ignore``, bool (H, W) or None:
    pixels (the ignored label, crowds of the classes) that count neither as these classes nor as
    background. Class ids are contiguous; in a label map, the pixel values."""
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
    crowds = [a for c in class_ids for a in of_class[c] if is_crowd(a) and "segmentation" in a]
    # a pixel that one entity knows to be its own counts, even inside another's crowd
    ignore = _union(record, crowds) & ~np.any(masks, axis=0) if crowds else None
    return np.stack(masks), ignore


def instance_masks(
    record: Mapping[str, Any], indices: Sequence[int] | None = None
) -> tuple[np.ndarray, list[int]]:
    """Masks of single objects, bool (n, H, W), crowds left out, and their n contiguous class ids.
    ``indices`` says which of ``usable_annotations``, in that order; None: all. ValueError: naming
    the image, if the record has no ``annotations``."""
    if "annotations" not in record:
        raise ValueError(
            f"{record.get('file_name')}: instance episodes need 'annotations' with one mask per "
            f"object, this record has the form {record_form(record)!r}"
        )
    annotations = usable_annotations(record)
    annotations = annotations if indices is None else [annotations[i] for i in indices]
    height, width = _size(record)
    masks = np.zeros((len(annotations), height, width), dtype=bool)
    for i, annotation in enumerate(annotations):
        masks[i] = decode(annotation["segmentation"], height, width, record["file_name"])
    return masks, [a["category_id"] for a in annotations]
