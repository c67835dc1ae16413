"""PASCAL-5i as HSNet defined it: four folds of five classes, 1,000 episodes each.

Fold f tests the classes 5f … 5f+4. Episode n has entry n (modulo the list's length) as its target;
the references are drawn: numpy's legacy generator, seed 0. Masks are SegmentationClassAug, whose
boundaries (255) are not scored.
"""

import re
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from ...io.masks import read_label_map
from ...utils.files import AnyPath
from ..records import File
from . import base
from .base import EpisodeList, FewShotEpisode, Sample, datasets_root

FOLDS, CLASSES_PER_FOLD, EPISODES, BOUNDARY = 4, 5, 1000, 255
FOLDER = "VOC2012"
PUBLISHED = "039747fc847ff351", "6fa79fa0dfb7d98d", "b53e0942b6f42e38", "44b84a999055cbd7"
NAMES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]


def list_names(fold: int) -> list[str]:
    """Where the list of a fold may stand in a folder of lists, first choice first."""
    names = [f"{folder}val/fold{fold}.txt" for folder in ("", "pascal/", "splits/pascal/")]
    return [*names, f"splits/val/fold{fold}.txt", f"pascal5i_val_fold{fold}.txt"]


@base.register_benchmark(
    "pascal5i",
    FOLDS,
    classes=NAMES,
    folders=(f"{FOLDER}/JPEGImages", f"{FOLDER}/SegmentationClassAug"),
    one_of=lambda fold: [f"{FOLDER}/{name}" for name in list_names(fold)],
)
def pascal5i(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The 1,000 episodes of a fold, from the list under ``lists`` or
    ``$DETECTRON2_DATASETS/VOC2012`` (``splits/pascal/val/fold0.txt``, as HSNet has it).
    FileNotFoundError: it is not there; ValueError: naming the line that does not fit."""
    folder = lists or datasets_root() / FOLDER
    file = base.find_list(folder, list_names(fold))
    if file is None:
        raise FileNotFoundError(
            f"PASCAL-5i fold {fold}: none of {', '.join(list_names(fold))} in {folder}"
        )
    entries = read_list(file, fold)
    published = base.is_published(entries, PUBLISHED[fold])
    images = {c: [] for c in range(CLASSES_PER_FOLD * fold, CLASSES_PER_FOLD * (fold + 1))}
    for name, class_id in entries:
        images[class_id].append(name)
    usable, skipped = base.without_single(images, NAMES)
    entries = [(name, class_id) for name, class_id in entries if class_id in usable]
    if not entries:
        raise ValueError(f"{file}: no class has two images")
    rng = np.random.RandomState(0)
    episodes = [
        FewShotEpisode(class_id, name, base.draw_references(rng, usable[class_id], name, shots))
        for name, class_id in islice(cycle(entries), EPISODES)
    ]
    classes = {c: NAMES[c] for c in usable}
    note = "" if published else f"{file} is not the published list"
    return EpisodeList("pascal5i", fold, shots, classes, episodes, published, note, skipped)


def read_list(file: Path, fold: int) -> list[tuple[str, int]]:
    """The lines ``2007_000033__01`` (image, class from 01) as (name, class id from 0)."""
    entries = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(?P<name>.+)__(?P<number>\d\d)", line.strip())
        class_id = int(found["number"]) - 1 if found else -1
        if class_id // CLASSES_PER_FOLD != fold:
            raise ValueError(
                f"{file}, line {number}: expected an image name, __ and a class of fold {fold} "
                f"({CLASSES_PER_FOLD * fold + 1:02} to {CLASSES_PER_FOLD * (fold + 1):02}), "
                f"found {line!r}"
            )
        entries.append((found["name"], class_id))
    return entries


@base.register_reader("pascal5i")
class Pascal5iReader:
    """Masks of SegmentationClassAug: value = class id + 1, 0 background, 255 not scored."""

    note = ""

    def __init__(self, episodes: EpisodeList, lists: AnyPath | None = None) -> None:
        self.root = str(datasets_root() / FOLDER)

    def read(self, file_name: str, class_id: int, object: int | None = None) -> Sample:
        image, file = self._paths(file_name)
        labels = read_label_map(file)
        unknown = np.setdiff1d(labels, [*range(len(NAMES) + 1), BOUNDARY])
        if len(unknown):
            raise ValueError(
                f"{file} has the value {unknown[0]}; expected 0 to {len(NAMES)} and {BOUNDARY}"
            )
        boundary = labels == BOUNDARY
        return Sample(image, labels == class_id + 1, boundary if boundary.any() else None)

    def files(self, file_name: str) -> list[File]:
        image, labels = self._paths(file_name)
        return [File(image, "image"), File(labels, "labels")]

    def _paths(self, file_name):
        home = self.root
        return f"{home}/JPEGImages/{file_name}.jpg", f"{home}/SegmentationClassAug/{file_name}.png"
