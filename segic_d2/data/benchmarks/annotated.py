"""Annotations by class and image, from which LVIS-92i, PASCAL-Part and PACO-Part draw.

Of a class an image shows either all instances together, without a box; or, in the benchmarks of
parts, one or more objects, each with its box and the masks of that part.
"""

import json
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...io.pictures import image_size
from ...io.rle import decode
from ..health.verify import File
from .base import EpisodeList, FewShotEpisode, Sample, choose, draw_references

SEED = 0  # of numpy's legacy generator, set once before the first episode of a fold


class Shown(NamedTuple):
    """What an image shows of a class.

    Attributes:
        box: (x0, y0, x1, y1) px of the object that the part belongs to, or None: the whole image.
        segmentations: tuple of COCO segmentations, whose union is the mask.
    """

    box: tuple | None
    segmentations: tuple


@dataclass(frozen=True)
class Annotated:
    """Annotations of a benchmark, in the order of the file that they come from.

    Attributes:
        names: dict class id → class name, of every class, also of those without an image.
        shown: dict class id → dict image file name → list of ``Shown``.
        note: one sentence that says why the episodes are not the published ones.
        masks_note: one sentence that says why the masks are not the published ones; "": they are.
    """

    names: dict
    shown: dict
    note: str
    masks_note: str = ""

    def enough_images(self, class_ids, least):
        """The classes that have at least a number of images, in the given order.

        Returns:
            (list of class ids, tuple of messages: one per class left out, and a last one that
            names all that have no image).
        """
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


def draw_episodes(annotated, class_ids, number, shots):
    """Draw episodes. Episode i asks for class i mod n.

    The generator is seeded once. For each episode it draws the target and the target's object. Then
    it draws each reference, until that is not the target, and the reference's object. Every draw is
    HSNet's call (``choose``). Where the whole image is taken, no object is drawn.

    Args:
        annotated: ``Annotated``.
        class_ids: the n classes of the fold, each with at least two images.
        number: episodes.
        shots: references per episode; they may repeat, but are never the target.

    Returns:
        list of ``number`` ``FewShotEpisode``.
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


def episode_list(benchmark, fold, shots, annotated, class_ids, number, skipped):
    """The episodes of a fold, drawn by ``draw_episodes``.

    They are never called standard, because it is not documented how the published ones were drawn.
    """
    return EpisodeList(
        benchmark=benchmark,
        fold=fold,
        shots=shots,
        classes={c: annotated.names[c] for c in class_ids},
        episodes=draw_episodes(annotated, class_ids, number, shots),
        standard=False,
        note=annotated.note,
        skipped=skipped,
    )


class AnnotatedReader:
    """Reads masks from annotations. It keeps those of the images that the episodes name.

    Args:
        annotated: ``Annotated``.
        episodes: ``EpisodeList`` of the same annotations.
        root: folder of the images.
        locate: function (root, file name as in the list) → path of the image.
    """

    def __init__(self, annotated, episodes, root, locate=os.path.join):
        self.root, self.locate = str(root), locate
        self.note = annotated.masks_note
        self.shown = {
            (e.class_id, name): annotated.shown[e.class_id][name]
            for e in episodes.episodes
            for name in (e.target, *e.references)
        }

    def read(self, file_name, class_id, object=None):
        """The class's mask in an image, or that of one object's part with the object's box.

        Returns:
            ``Sample``.

        Raises:
            FileNotFoundError: naming the missing image.
            ValueError: naming the image, if a mask has another size.
        """
        path = self.locate(self.root, file_name)
        height, width = image_size(path)
        box, segmentations = self.shown[class_id, file_name][object or 0]
        mask = np.zeros((height, width), dtype=bool)
        for segmentation in segmentations:
            mask |= decode(segmentation, height, width, path)
        return Sample(path, mask, box=box)

    def files(self, file_name):
        """See ``READER_REGISTRY``."""
        return [File(self.locate(self.root, file_name), "image")]


def objects_shown(parts):
    """(object id, box, segmentation) of one class and image → list of ``Shown``, one per
    object."""
    objects = {}
    for key, box, segmentation in parts:
        objects.setdefault(key, (box, []))[1].append(segmentation)
    return [Shown(box, tuple(masks)) for box, masks in objects.values()]


def corners(xywh):
    """COCO's (x, y, width, height) as (x0, y0, x1, y1)."""
    x, y, width, height = xywh
    return x, y, x + width, y + height


def stamp(path):
    """A stamp that changes when a file is written again."""
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def read_json(path):
    """The content of a JSON file.

    Raises:
        ValueError: naming the file, if it is no JSON.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"cannot read {path} as JSON: {error}") from error


class CocoFile:
    """A JSON file in COCO's form, with its ids looked up.

    Attributes:
        categories, images: dicts id → entry, in the order of the file.
        annotations: list of entries, of which every ``image_id`` and ``category_id`` exists.

    Raises:
        ValueError: naming the file, and the key that is missing or the annotation that refers to
            an image or a category that is not there.
    """

    def __init__(self, path):
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
