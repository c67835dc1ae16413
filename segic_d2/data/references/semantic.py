"""References of all classes of a dataset, for evaluation with one fixed context."""

import itertools

from detectron2.data import DatasetFromList, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler

from ..health.damaged import ERRORS, Damaged, one_line, report
from ..mappers.one_shot import OneShotMapper
from .plan import plan_references


def load_references(cfg, dataset_names, target_dataset=None, cache=None):
    """Read ``TEST.SHOTS`` references of every class, drawn with ``TEST.SEED``.

    Classes are matched by name across datasets; ids are those of the target dataset. A class with
    fewer images gets as many references as it has images. References come in plain views.

    Args:
        cfg: config.
        dataset_names: registered datasets to draw from.
        target_dataset: the dataset to be segmented; default: the first of ``dataset_names``.
        cache: ``FeatureCache`` for the pictures, or None.

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
    """Yield references of a class in order; a damaged one is reported (``health.damaged``)."""
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
    """Maps a group of images to their references, one per image with all classes that it shows.

    ``INPUT.REFERENCE_ZOOM`` cuts about all of these classes together.
    """

    def __init__(self, mappers):
        self.mappers = mappers

    def __call__(self, group):
        return [self._reference(*image) for image in group]

    def _reference(self, number, image, entities):
        mapper = self.mappers[number]
        own_ids, entity_ids = zip(*entities, strict=True)
        record, picture, masks, _ = mapper.read_classes(image, list(own_ids))
        return mapper.reference(record, mapper.input.reference(picture, masks), entity_ids)


def build_reference_loader(cfg, plan, shots, cache=None):
    """Build a loader of a plan's references, group by group and split over the processes.

    So hundreds of pictures are never held at once. Each image comes once, with all classes that it
    stands for. The groups do not depend on the number of processes.

    Args:
        cfg: config; ``MODEL.SEGIC.IMAGE_CHUNK`` images are a group.
        plan: ``ReferencePlan``, cut to ``shots``.
        shots: most references of a class in it. Shot k of class c is the entity c·shots + k.
        cache: ``FeatureCache`` for the pictures, or None.

    Returns:
        loader of lists of references, as of ``load_references`` but with ``masks`` (n, h, w)
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
