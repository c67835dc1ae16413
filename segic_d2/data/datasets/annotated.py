"""What labelling tools export, as Detectron2 datasets: ``coco:``, ``voc:``, ``yolo:``, …"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode

from ...io.annotations import Annotated, AnnotationSet, Thing, format_of, read_annotations
from ...io.masks import IGNORE_LABEL
from ...io.pictures import image_size
from ...io.rle import decode, encode
from ...utils.files import cache_folder, write_whole
from ...utils.texts import one_line
from ..health.damaged import ERRORS, Damaged, is_left_out, report

LOOKED_AT = 64  # pictures whose sizes are compared with their records

logger = logging.getLogger(__name__)


class AnnotatedRecords(Sequence[dict[str, Any]]):
    """The dataset dicts of a set of annotations. Each is made when it is asked for: a million
    annotations as dicts take gigabytes."""

    def __init__(self, pictures: AnnotationSet) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [_record(picture) for picture in self.pictures[row]]
        return _record(self.pictures[row])


def register_annotations(name: str) -> None:
    """Register a dataset whose name begins with a format of ``ANNOTATION_REGISTRY``; it is read
    when it is first loaded. Then ValueError or FileNotFoundError name what is wrong, each with its
    file and record (``health.damaged``)."""
    DatasetCatalog.register(name, lambda: load_annotations(name))
    kind, _, place = name.partition(":")
    metadata = MetadataCatalog.get(name)
    if kind == "coco":
        file, _, root = place.rpartition(":")
        if not file or not root:
            raise ValueError(f"dataset {name!r}: expected coco:ANNOTATIONS.json:IMAGE_FOLDER")
        metadata.set(json_file=file, image_root=root, evaluator_type="coco")
    elif Path(place).is_dir():
        metadata.set(root=place)


def load_annotations(name: str) -> Sequence[dict[str, Any]]:
    """Load the dataset dicts, of COCO's form or with label maps, and set the metadata."""
    found = read_annotations(name)
    more = [f"and {found.more_faults} more"] if found.more_faults else []
    texts = [*found.faults, *more, *([] if is_left_out() else _wrong_sizes(found))]
    report([Damaged(text, text) for text in texts], [ValueError(text) for text in texts])
    for what, count in found.notes.items():
        logger.warning("%s: %d %s: left out", found.place, count, what)
    if not len(found):
        raise ValueError(f"dataset {name!r}: {found.place} has no pictures")
    if not found.names and not texts:
        notes = [f"{count} {what}: left out" for what, count in found.notes.items()]
        more = f" ({', '.join(notes)})" if notes else ""
        raise ValueError(f"dataset {name!r}: nothing is marked in its {len(found)} pictures{more}")
    metadata, shown = MetadataCatalog.get(name), [one_line(n) for n in found.names]
    if found.labelled:
        names = {"stuff_classes": shown, "ignore_label": IGNORE_LABEL, "background_label": 0}
        _set(metadata, **names, evaluator_type="sem_seg")
    else:
        ids = getattr(found, "category_ids", range(len(found.names)))
        contiguous = {number: i for i, number in enumerate(ids)}
        _set(metadata, thing_classes=shown, thing_dataset_id_to_contiguous_id=contiguous)
        if metadata.get("evaluator_type") is None:
            metadata.set(evaluator_type="one_shot")
    return AnnotatedRecords(found)


def give_truth_file(name: str) -> None:
    """Write what a loaded dataset of ours shows as a COCO file to the cache folder, and set
    ``json_file`` to it, for stock evaluators: they score what was read, whatever the user's file
    lacks. Another dataset, or one without objects, is left."""
    metadata = MetadataCatalog.get(name)
    if not format_of(name) or not metadata.get("thing_classes"):
        return
    records = DatasetCatalog.get(name)
    if not isinstance(records, AnnotatedRecords):
        return
    ids = {i: number for number, i in metadata.thing_dataset_id_to_contiguous_id.items()}
    images, annotations = [], []
    for picture in records.pictures:
        height, width = picture.size
        about = {"id": picture.image_id, "file_name": picture.file_name}
        images.append({**about, "height": height, "width": width})
        boxes = _annotations(picture.things, picture.size)
        for thing, one in zip(picture.things, boxes, strict=True):
            rle = encode(decode(one["segmentation"], height, width, picture.file_name))
            area = float(mask_util.area(rle)) if math.isnan(thing.area) else thing.area
            own = {"id": len(annotations) + 1, "image_id": picture.image_id, "bbox": one["bbox"]}
            own |= {"category_id": ids[thing.label], "iscrowd": one["iscrowd"]}
            annotations.append({**own, "segmentation": rle, "area": area})
    categories = [{"id": ids[i], "name": label} for i, label in enumerate(metadata.thing_classes)]
    about = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    text = json.dumps(about)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    file = cache_folder() / "truth" / f"{key}.json"
    if not file.is_file():
        write_whole(file, text, shared=True)
    _set(metadata, json_file=str(file))


def _set(metadata: Metadata, **values: Any) -> None:
    """Set metadata, also to other values than those of a file before it was corrected."""
    for key, value in values.items():
        if metadata.get(key) is not None:
            delattr(metadata, key)
        metadata.set(**{key: value})


def _wrong_sizes(found: AnnotationSet) -> list[str]:
    """A line for each picture of another size than its record says, by the heads of some; of all
    where one of these is wrong. What cannot be opened shows when it is read."""

    def check(row: int) -> str:
        file, (height, width) = found.file(row), found.size(row)
        try:
            h, w = image_size(file)
        except ERRORS:
            return ""
        if "://" in file or (h, w) == (height, width):
            return ""
        return (
            f"{found.place}: {file} is {w}x{h} px as displayed, its record says {width}x{height} "
            "px: correct it, or export the file anew"
        )

    some = np.unique(np.linspace(0, max(len(found) - 1, 0), LOOKED_AT).astype(int))
    if not any(check(row) for row in some.tolist() if len(found)):
        return []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [text for text in pool.map(check, range(len(found))) if text]


def _record(picture: Annotated) -> dict[str, Any]:
    record: dict[str, Any] = {"file_name": picture.file_name, "image_id": picture.image_id}
    record["height"], record["width"] = picture.size
    if picture.split:
        record["split"] = picture.split
    if picture.label_file:
        return {**record, "sem_seg_file_name": picture.label_file}
    return {**record, "annotations": list(_annotations(picture.things, picture.size))}


def _annotations(things: Iterable[Thing], size: tuple[int, int]) -> Iterable[dict[str, Any]]:
    for thing in things:
        mask = thing.segmentation
        if isinstance(mask, dict):
            if isinstance(mask["counts"], list):
                mask = mask_util.frPyObjects(mask, *size)
            box = mask_util.toBbox(mask).tolist()
        else:
            x = [v for ring in mask for v in ring[::2]]
            y = [v for ring in mask for v in ring[1::2]]
            left, top = max(min(x), 0.0), max(min(y), 0.0)
            box = [left, top, min(max(x), size[1]) - left, min(max(y), size[0]) - top]
        yield {
            "bbox": box,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": thing.label,
            "iscrowd": int(thing.crowd),
            "segmentation": mask,
        }
