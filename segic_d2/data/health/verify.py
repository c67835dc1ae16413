"""Looks at what an evaluation is going to read, before it runs for hours (``TEST.VERIFY``): once at
each file (``File``) that the mapper of a test loader names; or, when files are read and the mapper
``tells_more``, at each of its items as the run will do."""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch.utils.data import DataLoader, Dataset

from ...io.annotations import format_of
from ...io.masks import read_binary_mask, read_label_map
from ...io.pictures import read_image
from ..mappers.base import Mapper
from ..records import File, record_files
from . import damaged as health
from .damaged import ERRORS, NAMED, Damaged, DamagedDataError, SkipDamaged
from .label_cache import file_state

logger = logging.getLogger(__name__)
_verified = set()  # files that were read without error, with size and time


def fault(file: File, full: bool = True) -> str | None:
    """Why a file cannot be used, in one line that names it; None if it can be used. ``full`` reads
    the file, else it is only looked for."""
    if not PathManager.isfile(file.path):
        return f"no such file: {file.path}"
    if not full:
        return None
    try:
        read = {"image": read_image, "mask": read_binary_mask, "labels": read_label_map}
        pixels = read[file.kind](file.path)
    except ERRORS as error:
        return health.one_line(error)
    known = file.labels if file.kind == "labels" else None
    unknown = [] if known is None else sorted(set(np.unique(pixels).tolist()) - known)
    if not unknown:
        return None
    return f"{file.path} shows the ids {unknown[:5]}, which its dataset does not name"


def label_check(mapper: Mapper) -> Callable[[Mapping[str, Any]], list[str]] | None:
    """A function of an item that returns why its label map is damaged, for mappers that leave it to
    the evaluator; None if the mapper names no ``labels``."""
    labels = mapper.labels
    return None if labels is None else functools.partial(_label_faults, labels)


def _label_faults(labels, record):
    files = [file for file in record_files(record, labels) if file.kind == "labels"]
    return [reason for reason in map(fault, files) if reason]


def verify_loader(cfg: CfgNode, loader: DataLoader[Any]) -> None:
    """Read or look for (``TEST.VERIFY``) all files behind a test loader of ``data.build``, each
    process its own part. In every process, DamagedDataError names what any of them found, and what
    was noted (``health.damaged``) when the dataset was loaded."""
    if getattr(loader, "verified", False):
        return  # before its references were encoded
    full = cfg.TEST.VERIFY == "full"
    damaged = []
    if cfg.TEST.VERIFY != "none" and hasattr(loader, "items"):
        items, mapper = loader.items, loader.mapper
        number, world, rank = len(items), comm.get_world_size(), comm.get_rank()
        own = range(number * rank // world, number * (rank + 1) // world)
        if full and mapper.tells_more:
            logger.info("reading %d items before the run", len(own))
            faults, workers = _Faults(items, mapper), loader.num_workers
            found = DataLoader(faults, sampler=own, batch_size=None, num_workers=workers)
            damaged = [item for item in found if item is not None]
        else:
            files = dict.fromkeys(file for i in own for file in mapper.files(items[i]))
            damaged = verify_files(files, full)
    damaged = health.noted() + [d for part in comm.all_gather(damaged) for d in part]
    if damaged:
        raise DamagedDataError(
            health.message(damaged) + ". TEST.DAMAGED 'skip' leaves such items out"
        )
    loader.verified = True


def verify_files(files: Iterable[File], full: bool = True) -> list[Damaged]:
    """Look at files, several at a time: the ``Damaged`` ones, in their order. ``full`` reads them,
    and passes over those that were read before and have not changed."""
    states = {file: (file, *file_state(file.path)) for file in files}
    new = [file for file, state in states.items() if state not in _verified]
    if new:
        logger.info("%s %d files before the run", "reading" if full else "looking for", len(new))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        faults = list(pool.map(functools.partial(fault, full=full), new))
    found = dict(zip(new, faults, strict=True))
    if full:
        _verified.update(states[f] for f, reason in found.items() if reason is None)
    return [Damaged(f.path, reason) for f, reason in found.items() if reason]


class _Faults(Dataset):
    """Maps an item to ``Damaged``, or to None if its mapper can read it."""

    def __init__(self, items, mapper):
        self.items, self.mapper = items, SkipDamaged(mapper)

    def __getitem__(self, i):
        found = self.mapper(self.items[i])
        return found if isinstance(found, Damaged) else None


def report_gaps(dataset_name: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Inside of ``leaving_out`` note classes of a benchmark's COCO file that no image shows (LVIS
    has such by design, and of a labelling tool's the log tells them), and images of a folder that
    have no label map."""
    if health.is_left_out():
        health.note(_empty_classes(dataset_name, records) + _lost_masks(dataset_name, records))


def _empty_classes(name, records):
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes")
    annotated = all("annotations" in r for r in records)
    if metadata.get("evaluator_type") == "lvis" or not names or not annotated:
        return []
    shown = {a["category_id"] for r in records for a in r["annotations"]}
    asked = metadata.get("kept_classes", range(len(names)))
    file = metadata.get("json_file", f"dataset {name!r}")
    absent = [c for c in asked if c not in shown]
    if absent and format_of(name):  # of people, whose labelling tools keep all names
        some = ", ".join(names[c] for c in absent[:NAMED])
        text = "%s: %d classes without an object are left out: %s"
        logger.warning(text, name, len(absent), some)
        return []
    return [
        Damaged(f"class {c} ({names[c]})", f"class {c} ({names[c]}) has no image in {file}")
        for c in absent
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
