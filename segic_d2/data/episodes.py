"""Plans of episodes: which target goes with which references. No image is read.

Every draw takes a numpy ``Generator``, which ``generator`` makes from a seed and a position. So an
episode depends neither on workers, nor on processes, nor on the episodes before it.
"""

import logging

import numpy as np

logger = logging.getLogger(__name__)


def generator(*keys):
    """A numpy ``Generator`` that depends on the given ints ≥ 0 alone, e.g. (seed, position)."""
    return np.random.default_rng(np.random.SeedSequence(keys))


def derive_seed(*keys):
    """A 63-bit seed that depends on the given ints ≥ 0 alone."""
    return int(generator(*keys).integers(2**63))


class ClassIndex:
    """Looks up the images of a class and the classes of an image.

    It holds flat arrays, whose memory forked workers share.

    Args:
        classes_of_image: for each image, the contiguous ids of the classes it shows.
        names: list or dict class id → name, for messages.
        dataset: name of the dataset, for messages.
        file_names: file name per image, for messages.
        single_image: what to do with a class that has one image, and so no reference beside its
            target: ``"error"`` or ``"skip"`` it (``DATASETS.SINGLE_IMAGE_CLASSES``), or ``"keep"``
            it where targets come from elsewhere.
        shown: for each image, dict class id → set of the objects of that class that it shows.
            References then show other objects than the target, where there are any. None: unknown.

    Attributes:
        classes: int64 array of the usable class ids, ascending.
        images: int64 array of the indices of images that show any of them, ascending.
        most_classes: the most usable classes that any image shows.

    Raises:
        ValueError: if a class has one image and that is an error, or if no class remains.
    """

    def __init__(
        self,
        classes_of_image,
        *,
        names=None,
        dataset="",
        file_names=None,
        single_image="error",
        shown=None,
    ):
        if single_image not in ("error", "skip", "keep"):
            raise ValueError(
                f"DATASETS.SINGLE_IMAGE_CLASSES must be 'error' or 'skip', not {single_image!r}"
            )
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
        self._class_starts, self._images = (np.append(starts, len(pairs)), pairs[:, 1].copy())
        by_image = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
        self.images, starts = np.unique(by_image[:, 1], return_index=True)
        self._image_starts, self._classes = (np.append(starts, len(pairs)), by_image[:, 0].copy())
        self.most_classes = int(np.diff(self._image_starts).max())

    def images_of(self, class_id):
        """Ascending indices of the images that show a class: int64 array."""
        row = int(np.searchsorted(self.classes, class_id))
        return self._images[self._class_starts[row] : self._class_starts[row + 1]]

    def references_of(self, class_id, target):
        """Ascending indices of the images that may be a target's reference: int64 array."""
        images = self.images_of(class_id)
        images = images[images != target]
        if self.shown is None:
            return images
        own = self.shown[target].get(class_id, ())
        other = [not self.shown[i][class_id].intersection(own) for i in images.tolist()]
        return images[other] if any(other) else images

    def classes_of(self, image):
        """Ascending usable class ids that an image shows: int64 array."""
        row = int(np.searchsorted(self.images, image))
        return self._classes[self._image_starts[row] : self._image_starts[row + 1]]


def pick(rng, values):
    """One of the values, uniformly."""
    return int(values[int(rng.integers(len(values)))])


def draw_references(rng, index, class_id, target, shots):
    """``shots`` images of a class other than the target; distinct as far as the class has them.

    Where the index knows objects, the references show other objects than the target.

    Returns:
        list of ``shots`` image indices; repeats appear only after every other image was taken.
    """
    others = index.references_of(class_id, target)
    distinct = rng.permutation(others)[:shots] if len(others) <= 4 * shots else None
    if distinct is None:  # a class may have 40,000 images: do not shuffle them for one reference
        distinct = others[rng.choice(len(others), size=shots, replace=False)]
    repeats = [pick(rng, others) for _ in range(shots - len(distinct))]
    return [int(i) for i in distinct] + repeats


def draw_semantic(rng, index, *, draw="class", max_entities=1, max_shots=1, absent_prob=0.0):
    """One semantic training episode (config ``INPUT.SEMANTIC``).

    Args:
        rng: numpy ``Generator``.
        index: ``ClassIndex``.
        draw: ``"class"``: class, then target, each uniform; ``"image"``: target, then class.
        max_entities: 1 to this many classes of the target, as far as it shows them.
        max_shots: 1 to this many references per entity, one number for the episode.
        absent_prob: probability that the target lacks the first entity, by what the index knows; it
            shows the others. ``"class"`` draws a class, then a target without it; ``"image"`` draws
            a target, then a class that it lacks. Where there is none, the episode is as usual.

    Returns:
        dict ``target`` (image index), ``entities`` (class ids), ``references`` (list of
        (image index, class id), entity by entity).
    """
    absent = absent_prob > 0 and rng.random() < absent_prob
    if draw == "class":
        first = pick(rng, index.classes)
        shown = index.images_of(first)
        target = pick(rng, _without(index.images, shown) if absent else shown)
    elif draw == "image":
        target = pick(rng, index.images)
        shown = index.classes_of(target)
        first = pick(rng, _without(index.classes, shown) if absent else shown)
    else:
        raise ValueError(f"INPUT.SEMANTIC.DRAW must be 'class' or 'image', not {draw!r}")
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


def draw_instance(rng, counts, *, max_masks=10, cap="fixed"):
    """One instance training episode: an image, and the order in which its objects are taken.

    The mapper takes the first ``cap`` objects of ``order`` that both views show, so the choice
    among visible objects is uniform.

    Args:
        rng: numpy ``Generator``.
        counts: int array, objects with a mask per image.
        max_masks: most objects per episode.
        cap: ``"fixed"``: up to ``max_masks``; ``"random"``: up to a number uniform in
            0…``max_masks``, at least one (the released code).

    Returns:
        dict ``target`` (image index), ``order`` (permutation of its objects), ``cap``.
    """
    if cap not in ("fixed", "random"):
        raise ValueError(f"INPUT.INSTANCE.CAP must be 'fixed' or 'random', not {cap!r}")
    target = pick(rng, np.flatnonzero(counts))
    limit = max_masks if cap == "fixed" else int(rng.integers(max_masks + 1))
    order = [int(i) for i in rng.permutation(int(counts[target]))]
    return {"target": target, "order": order, "cap": max(limit, 1)}


def one_shot_episodes(index, num, shots, seed):
    """The test episodes of a dataset: class uniform, target uniform, references ≠ target.

    Args:
        index: ``ClassIndex``.
        num: number of episodes.
        shots: references per episode.
        seed: the list depends on this alone. Episode n depends on n too, so a longer list begins
            with the shorter one.

    Returns:
        list of dict ``episode`` (its number), ``class``, ``target``, ``references`` (list).
    """
    episodes = []
    for number in range(num):
        rng = generator(seed, number)
        class_id = pick(rng, index.classes)
        target = pick(rng, index.images_of(class_id))
        references = draw_references(rng, index, class_id, target, shots)
        episodes.append(
            {"episode": number, "class": class_id, "target": target, "references": references}
        )
    return episodes


# first key after an episode's seed, by what is drawn
TARGET, REFERENCE, TEXT = 0, 1, 2
