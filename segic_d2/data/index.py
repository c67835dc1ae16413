"""Which classes each image of a registered dataset shows."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog

from ..io.masks import IGNORE_LABEL
from .datasets import load_lvis, register_by_name
from .datasets.annotated import AnnotatedRecords
from .datasets.class_list import background_ids
from .episodes import ClassIndex
from .health.damaged import report_errors
from .health.label_cache import label_values
from .records import record_form, usable_annotations


def class_names(name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Class names of a dataset by contiguous id, from its metadata. ValueError: naming the dataset
    and the metadata key that is missing."""
    sem_seg = all(record_form(r) == "sem_seg" for r in records)
    key = "stuff_classes" if sem_seg else "thing_classes"
    names = MetadataCatalog.get(name).get(key)
    if not names:
        raise ValueError(
            f"dataset {name!r} has no class names; set MetadataCatalog.get({name!r}).{key}"
        )
    return list(names)


def load_records(name: str) -> list[dict[str, Any]]:
    """The dataset dicts of a registered dataset, or of one that ``register_by_name`` knows.
    KeyError: it is not registered; ValueError: it is empty."""
    register_by_name(name)
    try:
        records = DatasetCatalog.get(name)
    except ModuleNotFoundError as error:
        if error.name != "lvis":  # which Detectron2 needs to read these files, and we do not
            raise
        records = load_lvis(name)
    if not len(records):
        raise ValueError(f"dataset {name!r} has no images")
    return records


class Source:
    """A registered dataset as episodes see it, with dataset dicts of any form of ``records``.

    A class called "background", or the label ``background_label`` of the metadata, is never an
    entity. The label ``ignore_label`` (default 255) is neither an entity nor background. A record
    may have ``only``, the ids of the classes that its picture stands for.

    ``records`` are serialized, in memory that workers share; ``names`` are the classes by
    contiguous id, ``files`` the images; ``presence`` has for each image the ascending ids of the
    classes it shows; ``counts``, int array, its objects with a mask, or is None unless all records
    are COCO's. KeyError: the dataset is not registered. ValueError: it is empty, has no class
    names, or an image shows an id that no class has.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        records = load_records(name)
        self.names = class_names(name, records)
        metadata = MetadataCatalog.get(name)
        ignored = metadata.get("ignore_label", IGNORE_LABEL)
        forms, self.files, counts = set(), [], []
        for record in records:
            forms.add(record_form(record))
            self.files.append(record["file_name"])
            counts.append(len(usable_annotations(record)) if "annotations" in record else 0)
        if "sem_seg" in forms:
            records = [{**r, "ignore_label": ignored} for r in records]
        self.presence = self._presence(records, ignored)
        self.counts = np.array(counts) if forms == {"coco"} else None
        packed = isinstance(records, AnnotatedRecords)  # in arrays, which workers share
        self.records = records if packed else DatasetFromList(records, copy=False)

    def _presence(self, records, ignored):
        maps = [r["sem_seg_file_name"] for r in records if record_form(r) == "sem_seg"]
        values = dict(zip(maps, label_values(maps), strict=True)) if maps else {}
        hidden = background_ids(self.name, self.names)
        presence, faults = [], {}
        for record in records:
            form = record_form(record)
            if form == "coco":
                classes = {a["category_id"] for a in usable_annotations(record)}
            elif form == "folder":
                classes = {record["category_id"]}
            else:
                classes = set(values[record["sem_seg_file_name"]] or ()) - {ignored}
            classes = sorted((classes & set(record.get("only", classes))) - hidden)
            if classes and not 0 <= classes[0] <= classes[-1] < len(self.names):
                file = record.get("sem_seg_file_name") or record["file_name"]
                faults[file] = ValueError(
                    f"dataset {self.name!r}: {file} shows the ids {classes}, but the dataset has "
                    f"{len(self.names)} classes (0 to {len(self.names) - 1}) and ignores {ignored}"
                )
                classes = []  # where damaged data are left out: never drawn
            presence.append(classes)
        report_errors(faults)
        return presence

    def look_for_files(self) -> None:
        """Report pictures that are missing, before training draws them hours later. Each folder is
        listed once; places that only a handler of Detectron2 knows are left."""
        listed: dict[str, set[str]] = {}
        errors = {}
        for file in self.files:
            folder, name = os.path.split(os.fspath(file))
            if "://" in folder:
                continue
            if folder not in listed:
                there = os.path.isdir(folder or ".")
                listed[folder] = set(os.listdir(folder or ".")) if there else set()
            if name not in listed[folder]:
                errors[file] = FileNotFoundError(f"dataset {self.name!r}: no such file: {file}")
        report_errors(errors)

    def class_index(self, single_image: str = "error") -> ClassIndex:
        """The ``ClassIndex`` of this dataset."""
        shown = None
        if MetadataCatalog.get(self.name).get("other_objects"):  # the composites
            shown = [_objects_by_class(r) for r in self.records]
        about = {"names": self.names, "dataset": self.name, "file_names": self.files}
        return ClassIndex(self.presence, shown=shown, single_image=single_image, **about)


def _objects_by_class(record):
    """Class id → set of the objects that a record shows, by its annotations' ``object``."""
    shown = {}
    for annotation in usable_annotations(record):
        shown.setdefault(annotation["category_id"], set()).add(annotation["object"])
    return shown
