"""Writes the splits of the composites. The files are the same for any number of processes."""

import functools
import io
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
from PIL import Image

from composites.choice import CHAPTER, LEAST, cast_of, plan_choice
from composites.cutouts import cutouts_root, prepare_object, read_view, view_files
from composites.photographed import read_cutouts
from composites.plan import Vocabulary, plan_scene
from composites.scene import render_scene
from composites.sources import read_background
from composites.table import categories_of, objects_of_split, read_backgrounds, read_objects
from segic_d2.utils.files import whole_folder, write_picture

SIZES = {"train": 3000, "seen": 300, "novel": 300}  # scenes
CHOICE = {"choice_train": 3000, "choice_val": 300}  # scenes of composites.choice
SIZES |= CHOICE
SEED = 0
QUALITY = (60, 96)  # of the JPEG
PHOTOGRAPH = 1200  # px, longer side of a background in memory
CHUNK = 8  # scenes per task


def photograph(item, sources):
    """Read a background: uint8 (h, w, 3), RGB. ValueError names one that cannot be read."""
    data = read_background(item, sources)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (PHOTOGRAPH, PHOTOGRAPH))
            image = image.convert("RGB")
    except OSError as error:
        raise ValueError(f"{item.file} is no picture that can be read: {error}") from error
    image.thumbnail((PHOTOGRAPH, PHOTOGRAPH))
    return np.asarray(image)


class Studio:
    """Holds all that the scenes of a split are made of. Every process has its own.

    Args:
        split: one of ``SIZES``.
        sources: folder of sources, for the backgrounds.
        cutouts: folder of prepared views.
        objects, backgrounds: the tables.
        seed: int ≥ 0.
    """

    def __init__(self, split, sources, cutouts, objects, backgrounds, seed):
        cv2.setNumThreads(0)  # processes share the cores already
        self.place, self.choice = (seed, tuple(SIZES).index(split)), split in CHOICE
        self.cutouts = cutouts
        self.objects = objects_of_split(objects, split)
        self.vocabulary = Vocabulary(self.objects)
        # backgrounds of tests are others than those of training
        chosen = [
            b for i, b in enumerate(backgrounds) if (i % 5 == 4) == (not split.endswith("train"))
        ]
        chosen = chosen or backgrounds
        self.backgrounds = [(b.shows, photograph(b, sources)) for b in chosen]
        self.read = functools.lru_cache(2048)(read_view)

    def view(self, item, rng):
        files = view_files(item, self.cutouts)
        return self.read(files[int(rng.integers(len(files)))])

    def photographs(self, categories):
        """Backgrounds that show none of these categories; all of them if there is no such one."""
        fit = [p for shows, p in self.backgrounds if not shows & categories]
        return fit or [p for _, p in self.backgrounds]

    def focal(self, number):
        """The object that a scene is about. Categories take turns, and so do their objects."""
        names = self.vocabulary.categories
        group = self.vocabulary.by_category[names[number % len(names)]]
        return group[number // len(names) % len(group)]

    def scene(self, number):
        """Render the scene of a number, from 0. It depends on seed, split and number alone."""
        rng = np.random.default_rng((*self.place, number))
        plan, least = functools.partial(plan_scene, self.vocabulary, self.focal(number)), 0.0
        if self.choice:
            plan = functools.partial(plan_choice, self.vocabulary, self.cast(number), number)
            least = LEAST
        scene = render_scene(plan, self.photographs, self.view, rng, least)
        return scene, int(rng.integers(*QUALITY))

    def cast(self, number):
        """The categories of a scene's chapter."""
        chapter = np.random.default_rng((*self.place, number // CHAPTER, CHAPTER))
        return cast_of(self.vocabulary, chapter)


def generate(
    root,
    sources,
    sizes=None,
    seed=SEED,
    processes=None,
    objects=None,
    backgrounds=None,
    things=None,
):
    """Write the splits below a folder. A split of 0 scenes is left out.

    Args:
        root: folder; none of the splits may be there yet.
        sources: folder of sources, see ``composites.sources``.
        sizes: dict split → number of scenes; None: ``SIZES`` without ``CHOICE``.
        processes: None: one per core. The files are the same for any number.
        objects, backgrounds: tables; None: the reviewed ones.
        things: table of cut-outs for ``CHOICE``, numbered on from ``objects``; None: the reviewed
            ones.

    Raises:
        FileNotFoundError, ValueError: naming the source file that is missing, another or damaged,
            a split that is there already, or an unknown split or negative size.
    """
    root, sizes = Path(root), dict(sizes or {s: n for s, n in SIZES.items() if s not in CHOICE})
    for split, size in sizes.items():
        if split not in SIZES or size < 0:
            raise ValueError(f"{size} scenes of the split {split!r}; splits are {tuple(SIZES)}")
        if size and (root / split).exists():
            raise ValueError(f"{root / split} exists already; generate into a new folder")
    objects = read_objects() if objects is None else objects
    backgrounds = read_backgrounds() if backgrounds is None else backgrounds
    if things is None and any(sizes.get(split) for split in CHOICE):
        things = read_cutouts(objects)
    cutouts = cutouts_root(objects)
    cutouts.mkdir(parents=True, exist_ok=True)
    processes = processes or os.cpu_count()
    prepare = functools.partial(prepare_object, sources=sources, root=cutouts)
    _mapped(prepare, [*objects, *(things or ())], processes)
    for split, size in sizes.items():
        if size:
            shown = [*objects, *things] if split in CHOICE else objects
            about = (split, sources, cutouts, shown, backgrounds, seed)
            with whole_folder(root / split) as folder:
                _write_split(folder, size, about, processes)


def _mapped(function, values, processes, initializer=None, arguments=()):
    """Map values with a function, in order, by a number of processes: a list."""
    if processes == 1:
        if initializer:
            initializer(*arguments)
        return [function(value) for value in values]
    # elsewhere than on Linux a forked process may not use the system's libraries
    context = get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(processes, context, initializer, arguments) as pool:
        return list(pool.map(function, values, chunksize=CHUNK))


_STUDIO = None  # of this process


def _open_studio(*about):
    global _STUDIO
    _STUDIO = Studio(*about)


def _write_scene(folder, number):
    """Write a scene's picture; returns its COCO record and its annotations, without ids."""
    scene, quality = _STUDIO.scene(number)
    name = f"{number + 1:05d}.jpg"
    write_picture(folder / "images" / name, Image.fromarray(scene.image), quality=quality)
    height, width = scene.owner.shape
    chapter = number // CHAPTER + 1
    record = {"id": number + 1, "file_name": name, "height": height, "width": width}
    found = []
    for index, thing in enumerate(scene.things, 1):
        rle = pycocotools.mask.encode(np.asfortranarray(scene.owner == index, np.uint8))
        found.append(
            {
                "image_id": number + 1,
                "category": thing.item.category + (f" #{chapter}" if _STUDIO.choice else ""),
                "object": thing.item.number,
                "bbox": pycocotools.mask.toBbox(rle).tolist(),
                "area": int(pycocotools.mask.area(rle)),
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return {**record, "kind": scene.kind}, found


def _write_split(folder, size, about, processes):
    (folder / "images").mkdir()
    write = functools.partial(_write_scene, folder)
    results = _mapped(write, range(size), processes, _open_studio, about)
    images = [record for record, _ in results]
    found = [a for _, annotations in results for a in annotations]
    chosen = objects_of_split(about[3], about[0])
    named = categories_of(chosen)
    if about[0] in CHOICE:  # a chapter's classes are its own
        groups = dict(named)
        shown = {tuple(a["category"].split(" #")) for a in found}
        shown = sorted(shown, key=lambda c: (int(c[1]), c[0]))
        named = [(f"{name} #{chapter}", groups[name]) for name, chapter in shown]
    categories = [
        {"id": i, "name": name, "supercategory": group} for i, (name, group) in enumerate(named, 1)
    ]
    ids = {c["name"]: c["id"] for c in categories}
    items = [{"id": o.number + 1, "name": o.name, "supercategory": o.category} for o in chosen]
    for name, listed, key in (
        ("instances", categories, lambda a: ids[a["category"]]),
        ("objects", items, lambda a: a["object"] + 1),
    ):
        annotations = [
            {"id": i, "category_id": key(a), **{k: v for k, v in a.items() if k != "category"}}
            for i, a in enumerate(found, 1)
        ]
        data = {"images": images, "annotations": annotations, "categories": listed}
        (folder / f"{name}.json").write_text(json.dumps(data))
