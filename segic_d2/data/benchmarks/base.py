"""A few-shot benchmark is a list of episodes by name, and a reader of their masks.

An episode list is made from lists and annotations alone, so it can be printed and compared without
an image. The reader alone reads pixels.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.utils.registry import Registry

BENCHMARK_REGISTRY = Registry("BENCHMARK")
BENCHMARK_REGISTRY.__doc__ = """
Few-shot benchmarks by name: functions (fold: int, shots: int, lists: str | None) → EpisodeList.
``lists`` is the folder that holds the lists or annotations; None: the benchmark's place under
``$DETECTRON2_DATASETS``. What ``register_benchmark`` was told stands in their attributes.
"""

READER_REGISTRY = Registry("BENCHMARK_READER")
READER_REGISTRY.__doc__ = """
Readers of pixels by the benchmark's name: classes (episodes: EpisodeList, lists: str | None) with

- ``read(file_name, class_id, object=None)`` → ``Sample``;
- ``files(file_name)`` → list of the ``File`` s that ``read`` opens;
- ``note``: "" where the masks are those of the published numbers, else one sentence;
- ``root``: the folder in which the images are looked for (str).
"""


@dataclass(frozen=True)
class FewShotEpisode:
    """One target with its references, by name.

    Attributes:
        class_id: the class asked for, as the benchmark numbers it.
        target: file name as in the list.
        references: file names as in the list, one per shot; repeats are allowed.
        objects: benchmarks of parts: index of the chosen object in the target, then in each
            reference; None: the whole image.
    """

    class_id: int
    target: str
    references: tuple
    objects: tuple | None = None


@dataclass(frozen=True)
class EpisodeList:
    """The episodes of one fold of a benchmark.

    Attributes:
        benchmark, fold, shots: which.
        classes: dict class id → class name, of every class that the fold evaluates.
        episodes: list of ``FewShotEpisode``, in order.
        standard: whether the published numbers were measured on exactly these episodes.
        note: one sentence that says why they are not standard.
        skipped: one string per class with a single image, which says why it is left out.
    """

    benchmark: str
    fold: int
    shots: int
    classes: dict
    episodes: list
    standard: bool
    note: str = ""
    skipped: tuple = ()


class Sample(NamedTuple):
    """One image as a reader returns it.

    Attributes:
        image: path of the image file.
        mask: bool (H, W), the class's pixels, of the whole image.
        ignore: bool (H, W), pixels that are not scored, or None.
        box: (x0, y0, x1, y1) in px, floats or ints, to which image and masks are cropped, or None.
    """

    image: str
    mask: np.ndarray
    ignore: np.ndarray | None = None
    box: tuple | None = None


def register_benchmark(name, folds, *, classes=None, folders=(), one_of=None):
    """Decorator: register a function in ``BENCHMARK_REGISTRY``, with facts that need no file.

    Args:
        name: of the benchmark.
        folds: how many; 1 where there is a single split.
        classes: names of the classes by id, where they are known without files: for texts.
        folders: where the images are, relative to ``$DETECTRON2_DATASETS``.
        one_of: function fold → relative paths of which at least one must be a file.
    """

    def register(function):
        function.folds, function.classes = folds, classes
        function.folders, function.one_of = tuple(folders), one_of
        BENCHMARK_REGISTRY._do_register(name, function)
        return function

    return register


def register_reader(name):
    """Decorator: register a class in ``READER_REGISTRY`` under its benchmark's name."""

    def register(reader):
        READER_REGISTRY._do_register(name, reader)
        return reader

    return register


def missing_files(benchmark, fold):
    """The first thing that a benchmark lacks under ``$DETECTRON2_DATASETS``; "" if all is there."""
    function, root = BENCHMARK_REGISTRY.get(benchmark), datasets_root()
    for folder in function.folders:
        if not (root / folder).is_dir():
            return f"no folder {root / folder}"
        if not any(os.scandir(root / folder)):
            return f"nothing in the folder {root / folder}"
    files = function.one_of(fold) if function.one_of else ()
    if files and find_list(root, files) is None:
        return f"no file {root / files[0]}" + (
            f", nor any of {', '.join(files[1:])}" if len(files) > 1 else ""
        )
    return ""


def list_episodes(benchmark, fold=0, shots=1, lists=None):
    """The episodes of a fold.

    Raises:
        ValueError: a benchmark that is not registered, a fold that it lacks, or shots < 1.
        FileNotFoundError: neither lists nor annotations are found; the message says what was tried.
    """
    if benchmark not in BENCHMARK_REGISTRY:
        known = ", ".join(sorted(name for name, _ in BENCHMARK_REGISTRY))
        raise ValueError(f"no benchmark {benchmark!r}; there are: {known}")
    function = BENCHMARK_REGISTRY.get(benchmark)
    if fold not in range(function.folds):
        raise ValueError(f"{benchmark} has the folds 0 to {function.folds - 1}, not {fold}")
    if shots < 1:
        raise ValueError(f"{benchmark}: shots must be at least 1, not {shots}")
    return function(fold, shots, lists)


def datasets_root():
    """``$DETECTRON2_DATASETS``, by default ./datasets: the folder that holds all datasets."""
    return Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))


def find_list(folder, candidates):
    """The first of several relative names that is a file in a folder, as a Path, or None."""
    return next((p for p in (Path(folder) / name for name in candidates) if p.is_file()), None)


def is_published(entries, digest):
    """Whether a list is the published one: its entries, in order, have this digest.

    Args:
        entries: nested lists of str and int.
        digest: the first 16 hexadecimal digits of the SHA-256 of their JSON.
    """
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16] == digest


def choose(rng, values):
    """``rng.choice(values, 1, replace=False)[0]`` of numpy's legacy generator, for any sequence.

    The published sequences were drawn with this exact call; ``choice(values)`` draws another one.
    Choosing an index takes the same random numbers and spares converting long lists to arrays.

    Args:
        rng: ``numpy.random.RandomState``.
    """
    return values[int(rng.choice(len(values), 1, replace=False)[0])]


def draw_references(rng, names, target, shots):
    """References by rejection: drawn until ``shots`` of them are not the target.

    Repeats among the references are part of the convention; a reference is never the target.

    Raises:
        ValueError: no name differs from the target, so that the drawing would never end.
    """
    if not any(name != target for name in names):
        raise ValueError(f"{target}: the class has no other image that could be its reference")
    references = []
    while len(references) < shots:
        name = choose(rng, names)
        if name != target:
            references.append(name)
    return tuple(references)


def without_single(images_of_class, names):
    """Classes that can be evaluated: those with at least two different images.

    Args:
        images_of_class: dict class id → list of file names.
        names: dict class id → class name.

    Returns:
        (dict of the usable classes in the given order, tuple of one message per class left out).
    """
    usable, skipped = {}, []
    for class_id, images in images_of_class.items():
        count = len(set(images))
        if count >= 2:
            usable[class_id] = images
            continue
        what = f"one image only ({images[0]})" if count else "no image"
        skipped.append(f"class {class_id} ({names[class_id]}) has {what}")
    return usable, tuple(skipped)
