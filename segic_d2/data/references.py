"""References of all classes of a dataset, for evaluation with one fixed context."""

import logging
from itertools import islice

from .damaged import ERRORS, Damaged, one_line, report
from .episodes import generator
from .evaluation_mapper import OneShotMapper
from .index import Source, background_ids, class_names, load_records

logger = logging.getLogger(__name__)


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
    sources = [Source(name) for name in dataset_names]
    target = target_dataset or dataset_names[0]
    target_names = class_names(target, load_records(target))
    # class id → (source, image, the class's id there)
    wanted = set(range(len(target_names))) - background_ids(target, target_names)
    pools = {i: [] for i in sorted(wanted)}
    for number, source in enumerate(sources):
        same = source.names == target_names
        ids = {n: i for i, n in enumerate(target_names)}
        for image, classes in enumerate(source.presence):
            for c in classes:
                class_id = c if same else ids.get(source.names[c])
                if class_id in pools:
                    pools[class_id].append((number, image, c))
    missing = [target_names[i] for i, pool in pools.items() if not pool]
    if len(missing) == len(pools):
        raise ValueError(f"{tuple(dataset_names)} show no class of dataset {target!r}")
    if missing:
        logger.warning("no references, so never predicted: %s", ", ".join(map(str, missing)))

    mappers = [OneShotMapper(cfg, source) for source in sources]
    for mapper in mappers:
        mapper.cache = cache
    references, names = [], {}
    for class_id, pool in pools.items():
        rng = generator(cfg.TEST.SEED, class_id)
        order = iter(rng.permutation(len(pool)))
        for reference in islice(_readable(mappers, pool, order), cfg.TEST.SHOTS):
            references.append({**reference, "entity_ids": [class_id]})
            names[class_id] = target_names[class_id]
    return references, names


def _readable(mappers, pool, order):
    """References of a class in an order; a damaged one is reported (``damaged.py``)."""
    for pick in order:
        number, image, own_id = pool[pick]
        try:
            reference = mappers[number].plain_reference(image, own_id)
        except ERRORS as error:
            file = mappers[number].records[image]["file_name"]
            report([Damaged(file, one_line(error))], [error])
        else:
            yield reference
