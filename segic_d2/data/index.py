"""Which classes each image of a registered dataset shows, read once and remembered."""

import hashlib
import json
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock

from .episodes import ClassIndex
from .image_io import read_label_map
from .masks import IGNORE_LABEL, record_form, usable_annotations

logger = logging.getLogger(__name__)


def cache_folder():
    """``$SEGIC_D2_CACHE``, or segic_d2's folder in ``$XDG_CACHE_HOME`` (default ``~/.cache``)."""
    if os.environ.get("SEGIC_D2_CACHE"):
        return Path(os.environ["SEGIC_D2_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segic_d2"


def label_values(files):
    """The distinct values of each label map, as a list of ascending ints per file.

    Reading tens of thousands of maps takes minutes, so the answer is kept in the cache folder
    under a hash of the names, sizes and modification times of the files.
    """
    stats = []
    for file in files:
        stat = os.stat(PathManager.get_local_path(str(file)))
        stats.append((str(file), stat.st_size, stat.st_mtime_ns))
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]
    path = cache_folder() / "label_values" / f"{key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(path)):  # of several processes one reads, the others wait
            return _cached_values(path, files)
    except PermissionError as error:
        logger.warning("no label index is kept, the cache cannot be written: %s", error)
        return _read_values(files)


def _cached_values(path, files):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        values = _read_values(files)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(values, file)
    os.replace(temporary, path)
    return values


def _read_values(files):
    logger.info("reading %d label maps once, to learn which classes they show", len(files))

    def values(file):
        ids = read_label_map(file)
        if ids.min() < 0 or ids.max() >= 2**16:
            return np.unique(ids).tolist()
        return np.flatnonzero(np.bincount(ids.ravel())).tolist()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        return list(pool.map(values, files))


def class_names(name, records):
    """Class names of a dataset by contiguous id, from its metadata.

    Raises:
        ValueError: naming the dataset and the metadata key that is missing.
    """
    sem_seg = all(record_form(r) == "sem_seg" for r in records)
    key = "stuff_classes" if sem_seg else "thing_classes"
    names = MetadataCatalog.get(name).get(key)
    if not names:
        raise ValueError(
            f"dataset {name!r} has no class names; set MetadataCatalog.get({name!r}).{key}"
        )
    return list(names)


def background_ids(name, names):
    """Ids that are never an entity: classes called "background", and ``background_label``."""
    ids = {i for i, n in enumerate(names) if str(n).lower() == "background"}
    return ids | {MetadataCatalog.get(name).get("background_label", None)} - {None}


def load_records(name):
    """The dataset dicts of a registered dataset, or of one whose name says where it is
    (:func:`~segic_d2.data.datasets.register_by_name`).

    Raises:
        KeyError: if the dataset is not registered.
        ValueError: naming the dataset, if it is empty.
    """
    from .datasets import register_by_name  # the datasets themselves use this module

    register_by_name(name)
    records = DatasetCatalog.get(name)
    if not len(records):
        raise ValueError(f"dataset {name!r} has no images")
    return records


class Source:
    """A registered dataset as episodes see it.

    A class called "background", or the label ``background_label`` of the metadata, is never an
    entity; the label ``ignore_label`` (default 255) is neither an entity nor background.

    Args:
        name: a name in Detectron2's ``DatasetCatalog``; its records are dataset dicts of any of
            the forms of :mod:`segic_d2.data.masks`.

    Attributes:
        records: serialized list of dataset dicts, whose memory worker processes share.
        names: list of class names, by contiguous id.
        presence: for each image, the ascending ids of the classes it shows.
        counts: int array, objects with a mask per image; None unless all records are COCO's.
        files: image file names.

    Raises:
        KeyError: if the dataset is not registered.
        ValueError: naming the dataset, if it is empty, has no class names, or an image shows an
            id that no class has.
    """

    def __init__(self, name):
        self.name = name
        records = load_records(name)
        self.names = class_names(name, records)
        metadata = MetadataCatalog.get(name)
        ignored = metadata.get("ignore_label", IGNORE_LABEL)
        forms = {record_form(r) for r in records}
        if "sem_seg" in forms:
            records = [{**r, "ignore_label": ignored} for r in records]
        self.presence = self._presence(records, ignored)
        self.counts = None
        if forms == {"coco"}:
            self.counts = np.array([len(usable_annotations(r)) for r in records])
        self.files = [r["file_name"] for r in records]
        self.records = DatasetFromList(records, copy=False)

    def _presence(self, records, ignored):
        maps = [r["sem_seg_file_name"] for r in records if record_form(r) == "sem_seg"]
        values = dict(zip(maps, label_values(maps), strict=True)) if maps else {}
        hidden = background_ids(self.name, self.names)
        presence = []
        for record in records:
            form = record_form(record)
            if form == "coco":
                classes = {a["category_id"] for a in usable_annotations(record)}
            elif form == "folder":
                classes = {record["category_id"]}
            else:
                classes = set(values[record["sem_seg_file_name"]]) - {ignored}
            classes = sorted(classes - hidden)
            if classes and not 0 <= classes[0] <= classes[-1] < len(self.names):
                file = record.get("sem_seg_file_name") or record["file_name"]
                raise ValueError(
                    f"dataset {self.name!r}: {file} shows the ids {classes}, but the dataset has "
                    f"{len(self.names)} classes (0 to {len(self.names) - 1}) and ignores {ignored}"
                )
            presence.append(classes)
        return presence

    def class_index(self, single_image="error"):
        """The :class:`~segic_d2.data.episodes.ClassIndex` of this dataset."""
        return ClassIndex(
            self.presence,
            names=self.names,
            dataset=self.name,
            file_names=self.files,
            single_image=single_image,
        )
