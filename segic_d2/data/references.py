"""References of all classes of a dataset, for evaluation with one fixed context."""

import logging
import os
from dataclasses import dataclass
from functools import lru_cache

from detectron2.data import DatasetFromList, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler

from .augmentation import apply_soft
from .episodes import generator
from .evaluation_mapper import OneShotMapper
from .index import Source, background_ids, class_names, load_records

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferencePlan:
    """Which images show which classes to the model.

    Attributes:
        sources: the datasets that are drawn from, as ``Source``.
        picks: {class id: [(source's position, image, the class's id there), …]}, up to ``shots``
            of each class that has any, by ascending class id.
        names: {class id: name} of these classes.
        missing: {class id: name} of the classes without a reference.
    """

    sources: list
    picks: dict
    names: dict
    missing: dict

    def file(self, pick):
        """The image file of a pick."""
        return self.sources[pick[0]].files[pick[1]]


def plan_references(cfg, dataset_names, target_dataset, shots):
    """Draw up to ``shots`` images of every class of a dataset with ``TEST.SEED``; none is read.

    Classes are matched by name across datasets; lists that are the same, but for a background in
    front of one, by position, because a name may stand in them twice. More shots keep the first.

    Args:
        cfg: config.
        dataset_names: registered datasets to draw from.
        target_dataset: the dataset to be segmented, whose ids are used.
        shots: references per class.

    Raises:
        ValueError: if the datasets show no class of the target dataset.
    """
    sources = [Source(name) for name in dataset_names]
    target_names = class_names(target_dataset, load_records(target_dataset))
    hidden = background_ids(target_dataset, target_names)
    pools = {i: [] for i in range(len(target_names)) if i not in hidden}
    for number, source in enumerate(sources):
        ids = _same_classes(source.names, target_names)
        for image, classes in enumerate(source.presence):
            for c in classes:
                if ids.get(c) in pools:
                    pools[ids[c]].append((number, image, c))
    missing = {i: target_names[i] for i, pool in pools.items() if not pool}
    if len(missing) == len(pools):
        raise ValueError(f"{tuple(dataset_names)} show no class of dataset {target_dataset!r}")
    if missing:
        shown = ", ".join(map(str, missing.values()))
        logger.warning("no references, so never predicted: %s", shown)
    picks = {}
    for class_id, pool in pools.items():
        order = generator(cfg.TEST.SEED, class_id).permutation(len(pool))[:shots]
        if pool:
            picks[class_id] = [pool[i] for i in order]
    return ReferencePlan(sources, picks, {i: target_names[i] for i in picks}, missing)


def _same_classes(names, target_names):
    """{class id in one list: class id in the target's}."""
    for shift, own in ((0, names), (1, names[1:])):
        if own == target_names:
            return {i + shift: i for i in range(len(own))}
    if names == target_names[1:]:
        return {i: i + 1 for i in range(len(names))}
    ids = {n: i for i, n in enumerate(target_names)}
    return {i: ids[n] for i, n in enumerate(names) if n in ids}


def load_references(cfg, dataset_names, target_dataset=None, cache=None):
    """``TEST.SHOTS`` references of every class, drawn with ``TEST.SEED`` from the datasets' images.

    Classes are matched by name across datasets; ids are those of the target dataset. A class with
    fewer images gets as many references as it has images; the images come in plain views, longest
    side at the canvas.

    Args:
        cfg: config.
        dataset_names: registered datasets to draw from.
        target_dataset: the dataset to be segmented; default: the first of ``dataset_names``.
        cache: :class:`~segic_d2.data.feature_cache.FeatureCache` for the pictures, or None.

    Returns:
        references: list of dicts ``image`` (3, h, w), ``masks`` float32 (1, h, w),
        ``entity_ids`` ([class id]), ``file_name``, by class id.
        names: dict class id → class name.

    Raises:
        ValueError: if the datasets show no class of the target dataset.
    """
    target = target_dataset or dataset_names[0]
    plan = plan_references(cfg, dataset_names, target, cfg.TEST.SHOTS)
    mappers = _mappers(cfg, plan, cache)
    references = []
    for class_id, picks in plan.picks.items():
        for number, image, own_id in picks:
            reference = mappers[number].plain_reference(image, own_id)
            references.append({**reference, "entity_ids": [class_id]})
    return references, plan.names


def _mappers(cfg, plan, cache):
    mappers = [OneShotMapper(cfg, source) for source in plan.sources]
    for mapper in mappers:
        mapper.cache = cache
    return mappers


class ReferenceGroups:
    """A group of images → their references, each image once with all classes that it stands for."""

    def __init__(self, mappers):
        self.mappers = mappers

    def __call__(self, group):
        return [self._reference(*image) for image in group]

    def _reference(self, number, image, entities):
        mapper = self.mappers[number]
        own_ids, entity_ids = zip(*entities, strict=True)
        record, picture, masks, _ = mapper.read_classes(image, list(own_ids))
        transforms = picture.draw(mapper.plain, 0)
        view = picture.view(transforms, recurs=True)
        return mapper.reference(record, view, apply_soft(transforms, masks), entity_ids)


def build_reference_loader(cfg, plan, shots, cache=None):
    """The references of a plan, group by group and split over the processes, so that hundreds of
    pictures are never held at once.

    Each image comes once, whatever number of classes it stands for. Which images share a group
    does not depend on the number of processes.

    Args:
        cfg: config; ``MODEL.SEGIC.IMAGE_CHUNK`` images are a group.
        plan: :func:`plan_references`.
        shots: most references of a class in it. Shot k of class c is the entity c·shots + k.
        cache: :class:`~segic_d2.data.feature_cache.FeatureCache` for the pictures, or None.

    Returns:
        loader of lists of references, as of :func:`load_references` but with ``masks`` (n, h, w)
        and n ``entity_ids``.
    """
    images = {}
    for class_id, picks in plan.picks.items():
        for shot, (number, image, own_id) in enumerate(picks):
            images.setdefault((number, image), []).append((own_id, class_id * shots + shot))
    items = [(*image, entities) for image, entities in images.items()]
    size = cfg.MODEL.SEGIC.IMAGE_CHUNK
    groups = [items[i : i + size] for i in range(0, len(items), size)]
    return build_detection_test_loader(
        DatasetFromList(groups, copy=False),
        mapper=ReferenceGroups(_mappers(cfg, plan, cache)),
        sampler=InferenceSampler(len(groups)),
        batch_size=1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_only,
    )


def _only(batch):
    (group,) = batch
    return group


def same_file(path):
    """A file's name that is the same through whichever link its folder is reached."""
    folder, name = os.path.split(str(path))
    return os.path.join(_real(folder), name)


@lru_cache(maxsize=1024)
def _real(folder):
    return os.path.realpath(folder)
