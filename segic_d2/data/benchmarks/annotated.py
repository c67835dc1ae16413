"""Annotations by class and image, from which LVIS-92i, PASCAL-Part and PACO-Part draw. Of a class
an image shows all instances together, without a box; or, in the benchmarks of parts, one or more
objects, each with its box and the masks of that part."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...io.pictures import image_size
from ...utils.files import AnyPath
from ..records import File, union
from .base import EpisodeList, FewShotEpisode, Sample, choose, draw_references

SEED = 0  # of numpy's legacy generator, set once before the first episode of a fold
# notes of ``Annotated``: of the published file, and of another one in place of it
PUBLISHED_NOTE = (
    "classes and images are the published ones, but it is not verified that {} are drawn in the "
    "published order"
)
OWN_NOTE = (
    "{} was not found: episodes are drawn by the protocol's rule from {}, in the order of its "
    "annotations"
)


class Shown(NamedTuple):
    """What an image shows of a class: the COCO ``segmentations``, whose union is the mask, and the
    ``box`` (x0, y0, x1, y1) px of the object that the part belongs to, or None: the whole image."""

    box: tuple[float, ...] | None
    segmentations: tuple[Any, ...]


@dataclass(frozen=True)
class Annotated:
    """Annotations of a benchmark, in the order of the file that they come from.

    ``names`` is {class id: name} of every class, also of those without an image, and ``shown``
    {class id: {image file name: list of ``Shown``}}. ``note`` is one sentence that says why the
    episodes are not the published ones, ``masks_note`` why the masks are not; "": they are.
    """

    names: dict[int, str]
    shown: dict[int, dict[str, list[Shown]]]
    note: str
    masks_note: str = ""

    def enough_images(
        self, class_ids: Iterable[int], least: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """The classes that have at least a number of images, in the given order, and messages: one
        per class left out, and a last one that names all that have no image."""
        usable, skipped, without = [], [], []
        for class_id in class_ids:
            images = list(self.shown.get(class_id, ()))
            name = f"{class_id} ({self.names[class_id]})"
            if len(images) >= least:
                usable.append(class_id)
            elif not images:
                without.append(name)
            elif len(images) == 1:
                skipped.append(f"class {name} has one image only ({images[0]})")
            else:
                skipped.append(f"class {name} has {len(images)} images, not {least}")
        if without:
            skipped.append(f"no image shows the classes {', '.join(without)}")
        return usable, tuple(skipped)


def draw_episodes(
    annotated: Annotated, class_ids: Sequence[int], number: int, shots: int
) -> list[FewShotEpisode]:
    """Draw episodes. Episode i asks for class i mod n of the fold, each with at least two images.

    For each episode the target and the target's object are drawn, then each reference, until that
    is not the target, and its object; references may repeat. Every draw is HSNet's call
    (``choose``). Where the whole image is taken, no object is drawn.
    """
    rng = np.random.RandomState(SEED)
    images = {c: list(annotated.shown[c]) for c in class_ids}

    def draw_object(class_id, name):
        found = annotated.shown[class_id][name]
        return None if found[0].box is None else choose(rng, range(len(found)))

    episodes = []
    for i in range(number):
        class_id = class_ids[i % len(class_ids)]
        target = choose(rng, images[class_id])
        objects, references = [draw_object(class_id, target)], []
        for _ in range(shots):
            references += draw_references(rng, images[class_id], target, 1)
            objects.append(draw_object(class_id, references[-1]))
        objects = None if objects[0] is None else tuple(objects)
        episodes.append(FewShotEpisode(class_id, target, tuple(references), objects))
    return episodes


def episode_list(
    benchmark: str,
    fold: int,
    shots: int,
    annotated: Annotated,
    class_ids: Sequence[int],
    number: int,
    skipped: tuple[str, ...],
) -> EpisodeList:
    """The episodes of a fold by ``draw_episodes``. They are never called standard, because it is
    not documented how the published ones were drawn."""
    classes = {c: annotated.names[c] for c in class_ids}
    episodes = draw_episodes(annotated, class_ids, number, shots)
    return EpisodeList(benchmark, fold, shots, classes, episodes, False, annotated.note, skipped)


class AnnotatedReader:
    """Reads masks from annotations. It keeps those of the images that the episodes name. ``locate``
    is a function (``root``, file name as in the list) → path of the image."""

    def __init__(
        self,
        annotated: Annotated,
        episodes: EpisodeList,
        root: AnyPath,
        locate: Callable[[str, str], str] = os.path.join,
    ) -> None:
        self.root, self.locate = str(root), locate
        self.note = annotated.masks_note
        self.shown = {
            (e.class_id, name): annotated.shown[e.class_id][name]
            for e in episodes.episodes
            for name in (e.target, *e.references)
        }

    def read(self, file_name: str, class_id: int, object: int | None = None) -> Sample:
        """The class's mask in an image, or that of one object's part with the object's box.
        FileNotFoundError: naming the missing image; ValueError: naming the image, if a mask has
        another size."""
        path = self.locate(self.root, file_name)
        size = image_size(path)
        box, segmentations = self.shown[class_id, file_name][object or 0]
        return Sample(path, union(segmentations, size, path), box=box)

    def files(self, file_name: str) -> list[File]:
        return [File(self.locate(self.root, file_name), "image")]


def objects_shown(parts: Iterable[tuple[Any, Sequence[float] | None, Any]]) -> list[Shown]:
    """(object id, its box xywh or None, segmentation) of one class and image, one per object."""
    objects = {}
    for key, xywh, segmentation in parts:
        box = xywh
        if xywh is not None:
            x, y, width, height = xywh
            box = x, y, x + width, y + height
        objects.setdefault(key, (box, []))[1].append(segmentation)
    return [Shown(box, tuple(masks)) for box, masks in objects.values()]


def by_class_and_image(
    classes: Iterable[int], parts: Iterable[tuple[int, str, Any]]
) -> dict[int, dict[str, list[Shown]]]:
    """``Annotated.shown`` of (class id, image, what ``objects_shown`` takes), in their order."""
    found = {c: {} for c in classes}
    for class_id, image, part in parts:
        found[class_id].setdefault(image, []).append(part)
    return {c: {i: objects_shown(v) for i, v in images.items()} for c, images in found.items()}


def kept(read: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function of files: its last result is kept until one is written again."""

    @lru_cache(maxsize=1)
    def cached(files, stamps):
        return read(*files)

    def reader(*files):
        stats = map(os.stat, files)
        return cached(files, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))

    return reader


def read_json(path: AnyPath) -> Any:
    """The content of a JSON file. ValueError: naming the file, if it is no JSON."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"cannot read {path} as JSON: {error}") from error


class CocoFile:
    """A JSON file in COCO's form: ``categories`` and ``images`` by id, in the order of the file,
    and ``annotations``. ValueError: naming the file, and the key that it lacks or the annotation of
    an image or a category that is not there."""

    def __init__(self, path: AnyPath) -> None:
        data = read_json(path)
        for key in ("categories", "images", "annotations"):
            if not isinstance(data, dict) or not isinstance(data.get(key), list):
                raise ValueError(f"{path} has no list of {key!r}, so it is not in COCO's form")
        self.categories = {c["id"]: c for c in data["categories"]}
        self.images = {i["id"]: i for i in data["images"]}
        self.annotations = data["annotations"]
        for a in self.annotations:
            for key, known in (("image_id", self.images), ("category_id", self.categories)):
                if a.get(key) not in known:
                    raise ValueError(
                        f"{path}: annotation {a.get('id')} has the {key} {a.get(key)}, "
                        "which the file does not list"
                    )


def coco2017_image(root: AnyPath, name: str) -> str:
    """Path of an image of COCO 2017 below ``root``. ``name`` is a URL or a path that ends in
    ``val2017/000000000139.jpg``, or the bare file name, looked for in val2017 and then in
    train2017."""
    parts = name.split("/")[-2:]
    if len(parts) == 2:
        return os.path.join(root, *parts)
    found = (os.path.join(root, folder, name) for folder in ("val2017", "train2017"))
    return next((path for path in found if os.path.isfile(path)), os.path.join(root, name))
