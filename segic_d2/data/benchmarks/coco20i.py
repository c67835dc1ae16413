"""COCO-20i as HSNet defined it: four folds of 20 classes, 1,000 episodes each.

Fold f tests the classes f + 4v of COCO's contiguous ids. The published sequence is numpy's legacy
generator with seed 0 over the published lists: class, target, then references by rejection.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from ...utils.files import AnyPath
from ..datasets.coco_folds import FOLDS, fold_classes
from . import base
from .base import EpisodeList, FewShotEpisode, choose, find_list
from .safe_pickle import read_plain_pickle

EPISODES = 1000
PUBLISHED = "e7ca97c610639ab1", "41e79aec286bbf87", "db1ef53f96947830", "0d5a58f3968d6dda"
NAMES = list(MetadataCatalog.get("coco_2014_val").thing_classes)
OWN = (
    "the published image lists were not found: images come from the COCO 2014 validation "
    "annotations, so these are not the standard episodes"
)


def list_names(fold: int) -> list[str]:
    """Where the list of a fold may stand in a folder of lists, first choice first."""
    names = [f"{folder}val/fold{fold}.pkl" for folder in ("", "coco/", "splits/coco/", "splits/")]
    return [*names, *(f"coco20i_val_fold{fold}{end}" for end in (".pkl", ".json.gz", ".json"))]


def annotation_names(split: str = "val") -> list[str]:
    """Where the instance annotations may stand in a folder of lists."""
    file = f"instances_{split}2014.json"
    return [f"annotations/{file}", file]


@base.register_benchmark(
    "coco20i",
    FOLDS,
    classes=NAMES,
    folders=("coco/val2014",),
    one_of=lambda fold: [f"coco/{name}" for name in (*list_names(fold), *annotation_names())],
)
def coco20i(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The 1,000 episodes of a fold, from the list under ``lists`` or ``$DETECTRON2_DATASETS/coco``,
    as HSNet has it (``splits/coco/val/fold0.pkl``) or as JSON; failing it, from
    ``annotations/instances_val2014.json`` (not standard). FileNotFoundError: neither is there;
    ValueError: naming the list of anything but file names of this fold's classes."""
    folder = lists or base.datasets_root() / "coco"
    file = find_list(folder, list_names(fold))
    if file is not None:
        images = read_list(file, fold)
    else:
        annotations = find_list(folder, annotation_names())
        if annotations is None:
            raise FileNotFoundError(
                f"COCO-20i fold {fold}: {folder} has neither a list ({', '.join(list_names(fold))})"
                f" nor {' or '.join(annotation_names())}"
            )
        images = images_from_annotations(annotations, fold)
    published = file is not None and base.is_published(list(images.items()), PUBLISHED[fold])
    usable, skipped = base.without_single(images, NAMES)
    if not usable:
        raise ValueError(f"COCO-20i fold {fold}: no class of {file or annotations} has two images")
    classes, episodes = {c: NAMES[c] for c in usable}, draw(usable, shots)
    note = OWN if file is None else "" if published else f"{file} is not the published list"
    return EpisodeList("coco20i", fold, shots, classes, episodes, published, note, skipped)


def draw(
    images: Mapping[int, Sequence[str]], shots: int, episodes: int = EPISODES
) -> list[FewShotEpisode]:
    """The published sequence over a dict class id → file names: list of ``FewShotEpisode``."""
    rng, found = np.random.RandomState(0), []
    for _ in range(episodes):
        class_id = choose(rng, list(images))
        target = choose(rng, images[class_id])
        references = base.draw_references(rng, images[class_id], target, shots)
        found.append(FewShotEpisode(class_id, target, references))
    return found


def read_list(file: Path, fold: int) -> dict[int, list[str]]:
    """A published list as dict class id → file names, in the order of ``fold_classes``. ValueError:
    naming the file, if a class of the fold is missing or an entry is no text."""
    if file.suffix == ".pkl":
        content = read_plain_pickle(file)
    else:
        try:
            text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            content = json.loads(text)
        except (OSError, EOFError, ValueError, RecursionError) as error:
            raise ValueError(f"cannot read the list {file}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a dict class → images")
    content = {int(key): names for key, names in content.items() if str(key).isdigit()}
    images = {}
    for class_id in fold_classes(fold):
        names = content.get(class_id)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"{file}: class {class_id} ({NAMES[class_id]}) of fold {fold} has no list of "
                "image names"
            )
        images[class_id] = names
    return images


def read_annotations(file: Path) -> dict[str, Any]:
    """COCO's instance annotations: dict of images, annotations and categories. ValueError: naming
    the file that is no JSON of this form or not of COCO's 80 classes."""
    try:
        content = json.loads(file.read_bytes())
        ids = sorted(c["id"] for c in content["categories"])
        content["contiguous"] = {category: i for i, category in enumerate(ids)}
        content["images"], content["annotations"]  # noqa: B018  must be there
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no file of COCO instance annotations: {error!r}") from error
    if len(ids) != len(NAMES):
        raise ValueError(f"{file} has {len(ids)} categories, COCO has {len(NAMES)}")
    return content


def images_from_annotations(file: Path, fold: int) -> dict[int, list[str]]:
    """Validation images that show an object of each class, by image id: dict class → file names."""
    content = read_annotations(file)
    shown = {class_id: set() for class_id in fold_classes(fold)}
    for annotation in content["annotations"]:
        class_id = content["contiguous"][annotation["category_id"]]
        if class_id in shown and not annotation.get("iscrowd"):
            shown[class_id].add(annotation["image_id"])
    names = {image["id"]: f"val2014/{image['file_name']}" for image in content["images"]}
    return {class_id: [names[i] for i in sorted(ids)] for class_id, ids in shown.items()}
