"""Looks at what an evaluation is going to read, before it runs for hours (``TEST.VERIFY``).

A test mapper may have ``files(item)``, which yields the files of an item (``File``). Each file is
then read, or looked for, once. A mapper without it is asked for each of its items, as the run will
do; so is a mapper with ``tells_more``, when files are read.
"""

import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch.utils.data import DataLoader, Dataset

from ...io.masks import IGNORE_LABEL, read_binary_mask, read_label_map
from ...io.pictures import read_image
from .damaged import (
    ERRORS,
    Damaged,
    DamagedDataError,
    SkipDamaged,
    is_left_out,
    message,
    note,
    noted,
    one_line,
)

logger = logging.getLogger(__name__)
_verified = set()  # files that were read without error, with size and time


class File(NamedTuple):
    """A file that a run reads.

    Attributes:
        path: text.
        kind: "image", "mask" (foreground) or "labels" (a label map).
        labels: the values that a label map may hold; None: any.
    """

    path: str
    kind: str
    labels: frozenset | None = None


def record_files(record, labels=None):
    """Yield the files of a dataset dict, whatever its form."""
    yield File(str(record["file_name"]), "image")
    if record.get("mask_file_name"):
        yield File(str(record["mask_file_name"]), "mask")
    elif record.get("sem_seg_file_name"):
        yield File(str(record["sem_seg_file_name"]), "labels", labels)


def known_labels(dataset_name):
    """The values that a loaded dataset's label maps may hold; None if it has no label maps."""
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.get("stuff_classes")
    if not names:
        return None
    return frozenset({*range(len(names)), metadata.get("ignore_label", IGNORE_LABEL)})


def fault(file, full=True):
    """Why a file cannot be used, in one line that names it; None if it can be used.

    Args:
        file: ``File``.
        full: True reads the file; False only looks whether it is there.
    """
    if not PathManager.isfile(file.path):
        return f"no such file: {file.path}"
    if not full:
        return None
    try:
        if file.kind == "labels":
            return _unknown(file, read_label_map(file.path))
        (read_image if file.kind == "image" else read_binary_mask)(file.path)
    except ERRORS as error:
        return one_line(error)


def _unknown(file, ids):
    if file.labels is None:
        return None
    unknown = sorted(set(np.unique(ids).tolist()) - file.labels)
    if not unknown:
        return None
    return f"{file.path} shows the ids {unknown[:5]}, which its dataset does not name"


def label_check(mapper):
    """A function of an item that returns why its label map is damaged, for mappers that leave the
    label map to the evaluator; None if the mapper has no ``labels``."""
    labels = getattr(mapper, "labels", None)
    return None if labels is None else functools.partial(_label_faults, labels)


def _label_faults(labels, record):
    files = [file for file in record_files(record, labels) if file.kind == "labels"]
    return [reason for reason in map(fault, files) if reason]


def verify_loader(cfg, loader):
    """Read or look for all files behind a test loader; raise an error that names damaged ones.

    Each process looks at its own part. What was noted (``health.damaged``) when the dataset was
    loaded is named too.

    Args:
        cfg: config; ``TEST.VERIFY``.
        loader: a test loader of ``data.build``. Of another loader no file is looked at.

    Raises:
        DamagedDataError: in every process, naming what any of them found.
    """
    if getattr(loader, "verified", False):
        return  # before its references were encoded
    full = cfg.TEST.VERIFY == "full"
    items, mapper = getattr(loader, "items", None), getattr(loader, "mapper", None)
    own = ()
    if cfg.TEST.VERIFY != "none" and items is not None:
        split = InferenceSampler._get_local_indices
        own = split(len(items), comm.get_world_size(), comm.get_rank())
    if hasattr(mapper, "files") and not (full and getattr(mapper, "tells_more", False)):
        files = dict.fromkeys(file for i in own for file in mapper.files(items[i]))
        damaged = verify_files(files, full)
    elif full and own:
        damaged = _verify_items(items, mapper, own, loader.num_workers)
    else:
        damaged = []
    damaged = noted() + [d for part in comm.all_gather(damaged) for d in part]
    if damaged:
        raise DamagedDataError(message(damaged) + ". TEST.DAMAGED 'skip' leaves such items out")
    loader.verified = True


def verify_files(files, full=True):
    """Look at files, several at a time.

    Args:
        files: iterable of ``File``.
        full: True reads them; a file that was read before and has not changed is passed over.

    Returns:
        list of ``Damaged``, in the order of the files.
    """
    states = {file: _state(file) for file in files}
    new = [file for file, state in states.items() if state not in _verified]
    if new:
        logger.info("%s %d files before the run", "reading" if full else "looking for", len(new))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        faults = list(pool.map(functools.partial(fault, full=full), new))
    if full:
        good = [states[f] for f, reason in zip(new, faults, strict=True) if reason is None]
        _verified.update(good)
    return [Damaged(f.path, reason) for f, reason in zip(new, faults, strict=True) if reason]


def _state(file):
    try:
        stat = os.stat(PathManager.get_local_path(file.path))
    except OSError:
        return file, None
    return file, stat.st_size, stat.st_mtime_ns


class _Faults(Dataset):
    """Maps an item to ``Damaged``, or to None if its mapper can read it."""

    def __init__(self, items, mapper):
        self.items, self.mapper = items, SkipDamaged(mapper)

    def __getitem__(self, i):
        found = self.mapper(self.items[i])
        return found if isinstance(found, Damaged) else None


def _verify_items(items, mapper, indices, workers):
    logger.info("reading %d items before the run", len(indices))
    faults = _Faults(items, mapper)
    loader = DataLoader(faults, sampler=indices, batch_size=None, num_workers=workers)
    return [found for found in loader if found is not None]


def report_gaps(dataset_name, records):
    """Note classes of a COCO file that no image shows (LVIS has such by design), and images of a
    folder that have no label map; only inside of ``leaving_out``.

    Args:
        dataset_name: registered and loaded.
        records: its dataset dicts.
    """
    if is_left_out():
        note([*_empty_classes(dataset_name, records), *_lost_masks(dataset_name, records)])


def _empty_classes(name, records):
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes")
    if metadata.get("evaluator_type") == "lvis" or not names:
        return []
    if not all("annotations" in r for r in records):
        return []
    shown = {a["category_id"] for r in records for a in r["annotations"]}
    asked = metadata.get("kept_classes", range(len(names)))
    file = metadata.get("json_file", f"dataset {name!r}")
    return [
        Damaged(f"class {c} ({names[c]})", f"class {c} ({names[c]}) has no image in {file}")
        for c in asked
        if c not in shown
    ]


def _lost_masks(name, records):
    """Images without a label map. Detectron2's load_sem_seg only logs that it drops them."""
    metadata = MetadataCatalog.get(name)
    images, maps = metadata.get("image_root"), metadata.get("sem_seg_root")
    if not (images and maps and os.path.isdir(images)):
        return []
    listed = {os.path.basename(r["file_name"]) for r in records}
    suffixes = {os.path.splitext(f)[1] for f in listed}
    files = sorted(f for f in os.listdir(images) if os.path.splitext(f)[1] in suffixes)
    return [
        Damaged(os.path.join(images, f), f"no label map in {maps} for {os.path.join(images, f)}")
        for f in files
        if f not in listed
    ]
