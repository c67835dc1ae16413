"""A few-shot benchmark is a list of episodes by name, made from lists and annotations alone, so
that it can be printed and compared without an image, and a reader of their masks."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.utils.registry import Registry

from ...compat import register_as
from ...utils.files import AnyPath

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
    """One target with its references (one per shot, repeats are allowed), by file names as in the
    list. ``objects``, in benchmarks of parts: index of the chosen object in the target, then in
    each reference; None: the whole image."""

    class_id: int
    target: str
    references: tuple[str, ...]
    objects: tuple[int, ...] | None = None


@dataclass(frozen=True)
class EpisodeList:
    """The episodes of one fold of a benchmark, in order, and {class id: name} of every class that
    it evaluates. ``standard`` tells whether the published numbers were measured on exactly these
    episodes, and ``note`` why not; ``skipped`` names the classes left out, each with the reason."""

    benchmark: str
    fold: int
    shots: int
    classes: dict[int, str]
    episodes: list[FewShotEpisode]
    standard: bool
    note: str = ""
    skipped: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One image (a path) as a reader returns it: ``mask``, bool (H, W), has the class's pixels of
    the whole image, ``ignore`` those that are not scored. Image and masks are cropped to ``box``,
    (x0, y0, x1, y1) in px."""

    image: str
    mask: np.ndarray
    ignore: np.ndarray | None = None
    box: tuple[float, ...] | None = None


def register_benchmark(
    name: str,
    folds: int,
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    folders: Sequence[str] = (),
    one_of: Callable[[int], Sequence[str]] | None = None,
) -> Callable[[Any], Any]:
    """Decorator: register a function in ``BENCHMARK_REGISTRY``, with facts that need no file: how
    many folds; names of the classes by id, where they are known; folders of images, relative to
    ``$DETECTRON2_DATASETS``; and, of a fold, relative paths of which one must be a file."""

    def register(function):
        function.folds, function.classes = folds, classes
        function.folders, function.one_of = folders, one_of
        register_as(BENCHMARK_REGISTRY, name, function)
        return function

    return register


def register_reader(name: str) -> Callable[[type], type]:
    """Decorator: register a class in ``READER_REGISTRY`` under its benchmark's name."""

    def register(reader):
        register_as(READER_REGISTRY, name, reader)
        return reader

    return register


def missing_files(benchmark: str, fold: int) -> str:
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


def list_episodes(
    benchmark: str, fold: int = 0, shots: int = 1, lists: AnyPath | None = None
) -> EpisodeList:
    """The episodes of a fold. ValueError: a benchmark that is not registered, a fold that it lacks,
    or shots < 1; FileNotFoundError, which says what was tried: neither lists nor annotations are
    found."""
    if benchmark not in BENCHMARK_REGISTRY:
        known = ", ".join(sorted(name for name, _ in BENCHMARK_REGISTRY))
        raise ValueError(f"no benchmark {benchmark!r}; there are: {known}")
    function = BENCHMARK_REGISTRY.get(benchmark)
    if fold not in range(function.folds):
        raise ValueError(f"{benchmark} has the folds 0 to {function.folds - 1}, not {fold}")
    if shots < 1:
        raise ValueError(f"{benchmark}: shots must be at least 1, not {shots}")
    return function(fold, shots, lists)


def datasets_root() -> Path:
    """``$DETECTRON2_DATASETS``, by default ./datasets: the folder that holds all datasets."""
    return Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))


def find_list(folder: AnyPath, candidates: Iterable[str]) -> Path | None:
    """The first of several relative names that is a file in a folder, as a Path, or None."""
    return next((p for p in (Path(folder) / name for name in candidates) if p.is_file()), None)


def is_published(entries: Sequence[Any], digest: str) -> bool:
    """Whether a list is the published one: the SHA-256 of its nested entries as JSON begins with
    these 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16] == digest


def choose(rng: np.random.RandomState, values: Sequence[Any]) -> Any:
    """``rng.choice(values, 1, replace=False)[0]`` of numpy's legacy generator, for any sequence.
    The published sequences were drawn with this call; ``choice(values)`` draws others. Choosing an
    index takes the same random numbers and spares converting long lists to arrays."""
    return values[int(rng.choice(len(values), 1, replace=False)[0])]


def draw_references(
    rng: np.random.RandomState, names: Sequence[str], target: str, shots: int
) -> tuple[str, ...]:
    """References by rejection: drawn until ``shots`` of them are not the target. Repeats are part
    of the convention. ValueError: no name differs from the target, so the drawing would never end.
    """
    if not any(name != target for name in names):
        raise ValueError(f"{target}: the class has no other image that could be its reference")
    references = []
    while len(references) < shots:
        name = choose(rng, names)
        if name != target:
            references.append(name)
    return tuple(references)


def without_single(
    images_of_class: Mapping[int, Sequence[str]], names: Sequence[str] | Mapping[int, str]
) -> tuple[dict[int, Sequence[str]], tuple[str, ...]]:
    """Classes that can be evaluated, in the given order: those with at least two different images;
    and a message per class left out."""
    usable, skipped = {}, []
    for class_id, images in images_of_class.items():
        count = len(set(images))
        if count >= 2:
            usable[class_id] = images
            continue
        what = f"one image only ({images[0]})" if count else "no image"
        skipped.append(f"class {class_id} ({names[class_id]}) has {what}")
    return usable, tuple(skipped)
