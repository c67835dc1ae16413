"""Plans of episodes: which target goes with which references. No image is read. Every draw takes a
numpy ``Generator`` made from a seed and a position, so an episode depends neither on workers, nor
on processes, nor on the episodes before it."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


def generator(*keys: int) -> np.random.Generator:
    """A numpy ``Generator`` that depends on the given ints ≥ 0 alone, e.g. (seed, position)."""
    return np.random.default_rng(np.random.SeedSequence(keys))


def derive_seed(*keys: int) -> int:
    """A 63-bit seed that depends on the given ints ≥ 0 alone."""
    return int(generator(*keys).integers(2**63))


class ClassIndex:
    """Looks up the images of a class and the classes of an image, in flat int64 arrays.

    ``classes_of_image`` has for each image the contiguous ids of the classes it shows, ``shown`` a
    dict class id → set of the objects of that class that it shows: references then show other
    objects than the target, where there are any. A class with one image, so without a reference, is
    an ``"error"`` (ValueError, as where no class remains), or ``single_image`` is ``"skip"``, or
    ``"keep"`` where targets come from elsewhere. ``names``, ``dataset`` and ``file_names`` are for
    messages.

    ``classes`` are the usable class ids, ``images`` the indices of images that show any of them,
    both ascending; ``most_classes`` is the most usable classes that any image shows.
    """

    def __init__(
        self,
        classes_of_image: Sequence[Collection[int]],
        *,
        names: Sequence[str] | Mapping[int, str] | None = None,
        dataset: str = "",
        file_names: Sequence[str] | None = None,
        single_image: str = "error",
        shown: Sequence[Mapping[int, set[int]]] | None = None,
    ) -> None:
        pairs = [(c, i) for i, classes in enumerate(classes_of_image) for c in set(classes)]
        pairs = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        classes, counts = np.unique(pairs[:, 0], return_counts=True)
        single = classes[counts == 1] if single_image != "keep" else classes[:0]
        for class_id in single.tolist():
            image = int(pairs[pairs[:, 0] == class_id, 1][0])
            what = (
                f"class {class_id} ({names[class_id] if names else 'unnamed'}) of dataset "
                f"{dataset!r} has one image only "
                f"({file_names[image] if file_names else f'number {image}'})"
            )
            if single_image == "error":
                raise ValueError(
                    f"{what}, so no other image can be its reference; add an image, or set "
                    "DATASETS.SINGLE_IMAGE_CLASSES to 'skip' to leave such classes out"
                )
            logger.warning("%s: left out", what)
        pairs = pairs[~np.isin(pairs[:, 0], single)]
        if not len(pairs):
            raise ValueError(f"dataset {dataset!r} has no class to draw episodes from")

        self.shown = shown
        # compressed rows: objects per image would be copied into every worker by reference counts
        self.classes, starts = np.unique(pairs[:, 0], return_index=True)
        self._class_starts, self._images = np.append(starts, len(pairs)), pairs[:, 1].copy()
        by_image = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        self.images, starts = np.unique(by_image[:, 1], return_index=True)
        self._image_starts, self._classes = np.append(starts, len(pairs)), by_image[:, 0].copy()
        self.most_classes = int(np.diff(self._image_starts).max())

    def images_of(self, class_id: int) -> np.ndarray:
        """Ascending indices of the images that show a class: int64 array."""
        row = int(np.searchsorted(self.classes, class_id))
        return self._images[self._class_starts[row] : self._class_starts[row + 1]]

    @property
    def pairs(self) -> int:
        """How many (class, target, another image of the class) there are."""
        counts = np.diff(self._class_starts)
        return int((counts * (counts - 1)).sum())

    def references_of(self, class_id: int, target: int) -> np.ndarray:
        """Ascending indices of the images that may be a target's reference: int64 array."""
        images = self.images_of(class_id)
        images = images[images != target]
        if self.shown is None:
            return images
        own = self.shown[target].get(class_id, ())
        other = [not self.shown[i][class_id].intersection(own) for i in images.tolist()]
        return images[other] if any(other) else images

    def classes_of(self, image: int) -> np.ndarray:
        """Ascending usable class ids that an image shows, perhaps none: int64 array."""
        row = int(np.searchsorted(self.images, image))
        if row == len(self.images) or self.images[row] != image:
            return self._classes[:0]
        return self._classes[self._image_starts[row] : self._image_starts[row + 1]]


def pick(rng: np.random.Generator, values: Sequence[Any] | np.ndarray) -> Any:
    """One of the values, uniformly."""
    return int(values[int(rng.integers(len(values)))])


def draw_references(
    rng: np.random.Generator, index: ClassIndex, class_id: int, target: int, shots: int
) -> list[int]:
    """``shots`` indices of images of a class other than the target. Repeats appear only after every
    other image was taken; where the index knows objects, other objects are shown."""
    others = index.references_of(class_id, target)
    if len(others) <= 4 * shots:
        distinct = rng.permutation(others)[:shots]
    else:  # a class may have 40,000 images: do not shuffle them for one reference
        distinct = others[rng.choice(len(others), size=shots, replace=False)]
    repeats = [pick(rng, others) for _ in range(shots - len(distinct))]
    return [int(i) for i in distinct] + repeats


def draw_semantic(
    rng: np.random.Generator,
    index: ClassIndex,
    *,
    draw: str = "class",
    max_entities: int = 1,
    max_shots: int = 1,
    absent_prob: float = 0.0,
    target: int | None = None,
) -> dict[str, Any]:
    """One semantic training episode (config ``INPUT.SEMANTIC``): ``target`` (image index),
    ``entities`` (class ids), ``references`` (list of (image index, class id), entity by entity).

    ``draw`` is ``"class"``: class, then target, each uniform; or ``"image"``: target, then class.
    Where a ``target`` is given, it is that one, and its class is drawn.
    The target's classes are 1 to ``max_entities``, as far as it shows them, with 1 to ``max_shots``
    references each, one number for the episode. With probability ``absent_prob`` the target lacks
    the first entity, by what the index knows; where there is no such target (or class, see
    ``draw``), the episode is as usual.
    """
    absent = absent_prob > 0 and rng.random() < absent_prob
    if draw == "class" and target is None:
        first = pick(rng, index.classes)
        shown = index.images_of(first)
        target = pick(rng, _without(index.images, shown) if absent else shown)
    else:
        target = pick(rng, index.images) if target is None else target
        shown = index.classes_of(target)
        first = pick(rng, _without(index.classes, shown) if absent else shown)
    number = int(rng.integers(1, max_entities + 1))
    shots = int(rng.integers(1, max_shots + 1))
    others = index.classes_of(target)
    others = rng.permutation(others[others != first])[: number - 1]
    entities = [first, *(int(c) for c in others)]
    references = [
        (image, class_id)
        for class_id in entities
        for image in draw_references(rng, index, class_id, target, shots)
    ]
    return {"target": target, "entities": entities, "references": references}


def _without(values, some):
    """Ascending ``values`` without ``some`` of them; ``some`` themselves if nothing is left."""
    kept = np.ones(len(values), dtype=bool)
    kept[np.searchsorted(values, some)] = False
    return values[kept] if kept.any() else some


def draw_instance(
    rng: np.random.Generator,
    counts: np.ndarray,
    *,
    max_masks: int = 10,
    cap: str = "fixed",
    target: int | None = None,
) -> dict[str, Any]:
    """One instance training episode: an image (``target``; None: any), and the order in which its
    objects (``counts`` per image) are taken. The mapper takes the first ``cap`` of ``order``, a
    permutation, that both views show, so the choice among visible ones is uniform. ``cap`` "fixed":
    up to ``max_masks``; "random": up to a number uniform in 0…``max_masks``, at least one (the
    released code)."""
    target = pick(rng, np.flatnonzero(counts)) if target is None else target
    limit = max_masks if cap == "fixed" else int(rng.integers(max_masks + 1))
    order = [int(i) for i in rng.permutation(int(counts[target]))]
    return {"target": target, "order": order, "cap": max(limit, 1)}


def one_shot_episodes(index: ClassIndex, num: int, shots: int, seed: int) -> list[dict[str, Any]]:
    """The test episodes of a dataset: class uniform, target uniform, references ≠ target. They
    depend on the seed and their number alone, so a longer list begins with the shorter one."""
    episodes = []
    for number in range(num):
        rng = generator(seed, number)
        class_id = pick(rng, index.classes)
        target = pick(rng, index.images_of(class_id))
        shown = draw_references(rng, index, class_id, target, shots)
        plan = {"episode": number, "class": class_id, "target": target, "references": shown}
        episodes.append(plan)
    return episodes


# first key after an episode's seed, by what is drawn
TARGET, REFERENCE, TEXT = 0, 1, 2
