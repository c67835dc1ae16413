"""References of all classes of a dataset, for evaluation with one fixed context."""

import itertools
import logging
import os
from dataclasses import dataclass, replace
from functools import lru_cache

from detectron2.data import DatasetFromList, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler

from .augmentation import apply_soft
from .damaged import ERRORS, NAMED, Damaged, one_line, report
from .episodes import generator
from .evaluation_mapper import OneShotMapper
from .index import Source, background_ids, class_names, load_records
from .verify import record_files, verify_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferencePlan:
    """Which images show which classes to the model.

    Attributes:
        sources: the datasets that are drawn from, as ``Source``.
        picks: {class id: [(source's position, image, the class's id there), …]} of each class that
            has any, by ascending class id; in the order in which they were drawn.
        names: {class id: name} of all classes of the target dataset but its background.
    """

    sources: list
    picks: dict
    names: dict

    def file(self, pick):
        """The image file of a pick."""
        return self.sources[pick[0]].files[pick[1]]

    def first(self, shots, damaged=()):
        """The plan with up to ``shots`` picks of each class, without damaged (source, image)."""
        usable = ((c, [p for p in own if p[:2] not in damaged]) for c, own in self.picks.items())
        return replace(self, picks={c: own[:shots] for c, own in usable if own})

    def readable(self, shots, full=True):
        """``first``, of images whose files can be read; the others that were drawn are reported
        (``damaged.py``), and the next ones of the class take their places.

        Args:
            full: see :func:`~segic_d2.data.verify.verify_files`.

        Returns:
            the plan, and the list of :class:`~segic_d2.data.damaged.Damaged` files.

        Raises:
            DamagedDataError: naming all that was drawn and is damaged, unless it is left out.
        """
        damaged, left_out = set(), []
        while True:
            plan = self.first(shots, damaged)
            files = {}
            for pick in itertools.chain(*plan.picks.values()):
                for file in record_files(self.sources[pick[0]].records[pick[1]]):
                    files.setdefault(file, pick[:2])
            found = {d.item: d for d in verify_files(files, full)}
            if not found:
                return plan, left_out
            report(list(found.values()))
            left_out += found.values()
            damaged |= {image for file, image in files.items() if file.path in found}


def plan_references(cfg, dataset_names, target_dataset):
    """Draw the images of every class of a dataset with ``TEST.SEED``; no picture is read.

    Classes are matched by name across datasets; lists that are the same, but for a background in
    front of one, by position, because a name may stand in them twice.

    Args:
        cfg: config.
        dataset_names: registered datasets to draw from.
        target_dataset: the dataset to be segmented, whose ids are used.

    Returns:
        :class:`ReferencePlan` of all images of each class.

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
    missing = [target_names[i] for i, pool in pools.items() if not pool]
    if len(missing) == len(pools):
        raise ValueError(f"{tuple(dataset_names)} show no class of dataset {target_dataset!r}")
    if missing:
        shown = ", ".join(map(str, missing[:NAMED]))
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        logger.warning("no references, so never predicted: %s%s", shown, more)
    picks = {}
    for class_id, pool in pools.items():
        if pool:
            order = generator(cfg.TEST.SEED, class_id).permutation(len(pool))
            picks[class_id] = [pool[i] for i in order]
    return ReferencePlan(sources, picks, {i: target_names[i] for i in pools})


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
    plan = plan_references(cfg, dataset_names, target)
    mappers = _mappers(cfg, plan, cache)
    references, names = [], {}
    for class_id, picks in plan.picks.items():
        for reference in itertools.islice(_readable(mappers, picks), cfg.TEST.SHOTS):
            references.append({**reference, "entity_ids": [class_id]})
            names[class_id] = plan.names[class_id]
    return references, names


def _readable(mappers, picks):
    """References of a class in an order; a damaged one is reported (``damaged.py``)."""
    for number, image, own_id in picks:
        try:
            reference = mappers[number].plain_reference(image, own_id)
        except ERRORS as error:
            file = mappers[number].records[image]["file_name"]
            report([Damaged(file, one_line(error))], [error])
        else:
            yield reference


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
        plan: :class:`ReferencePlan`, cut to ``shots``.
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
