"""Loaders: mixed training, one-shot test episodes, bare targets, and references for them.

Training is an endless stream of positions 0, 1, 2, …; what stands at a position follows from
(``cfg.SEED``, position) alone. Iteration i of all processes together takes the positions
[i·B, (i+1)·B), B = ``SOLVER.IMS_PER_BATCH``, whatever the numbers of processes and workers.
"""

import itertools
import logging
from dataclasses import asdict

import numpy as np
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Dataset

from ..config.ranges import check_ranges
from .episodes import generator, one_shot_episodes
from .health.damaged import SkipDamaged
from .health.verify import known_labels, label_check, report_gaps
from .index import Source, load_records
from .mappers.base import EPISODE_MAPPER_REGISTRY
from .mappers.few_shot import FewShotMapper
from .mappers.pairs import PairMapper

logger = logging.getLogger(__name__)


class EpisodeSampler(TrainingSampler):
    """Positions start, start + 1, …, of which process r of W takes every W-th, from the r-th on.

    Args:
        start: first position; may be set until the loader's iterator is made.
    """

    def __init__(self, start=0):
        super().__init__(size=1, shuffle=False, seed=0)
        self.start = start

    def _infinite_indices(self):
        yield from itertools.count(self.start)


_TRIES = 4  # episodes looked at per picture that is wanted


class EpisodeStream(Dataset):
    """Position → plan of an episode: which dataset, which images, which classes.

    Args:
        mappers: one training mapper per dataset.
        weights: share of each dataset, any positive scale; empty: uniform.
        seed: int ≥ 0.
    """

    def __init__(self, mappers, weights=(), seed=0):
        self.mappers = mappers
        shares = np.asarray(weights if len(weights) else [1.0] * len(mappers), dtype=np.float64)
        if len(shares) != len(mappers) or (shares < 0).any() or not shares.sum() > 0:
            raise ValueError(
                f"DATASETS.WEIGHTS must be {len(mappers)} numbers ≥ 0, one per DATASETS.TRAIN and "
                f"not all 0, not {tuple(weights)}"
            )
        self.thresholds = np.cumsum(shares / shares.sum())[:-1]
        self.seed = seed

    def __len__(self):
        # nominal: the stream is endless, and the sampler decides where it is read
        return sum(len(m.records) for m in self.mappers)

    def __getitem__(self, position):
        rng = generator(self.seed, position)
        seed = int(rng.integers(2**63))
        dataset = int(np.searchsorted(self.thresholds, rng.random(), side="right"))
        plan = self.mappers[dataset].draw(rng)
        return {**plan, "dataset": dataset, "seed": seed}


class MixedMapper:
    """Plan → episode, by the mapper of the dataset that the plan names."""

    def __init__(self, mappers):
        self.mappers = mappers

    def __call__(self, plan):
        return self.mappers[plan["dataset"]](plan)


def _training_mappers(cfg):
    check_ranges(cfg, "INPUT")
    datasets = cfg.DATASETS.TRAIN
    names = cfg.DATASETS.EPISODE_MAPPERS or ("semantic",) * len(datasets)
    draws = cfg.DATASETS.DRAW or (cfg.INPUT.SEMANTIC.DRAW,) * len(datasets)
    if not len(datasets):
        raise ValueError("DATASETS.TRAIN is empty; name at least one registered dataset")
    for key, values in (("EPISODE_MAPPERS", names), ("DRAW", draws)):
        if len(values) != len(datasets):
            raise ValueError(
                f"DATASETS.{key} has {len(values)} entries {tuple(values)}, "
                f"DATASETS.TRAIN has {len(datasets)} {tuple(datasets)}"
            )
    for draw in draws:
        if draw not in ("class", "image"):
            key = "DATASETS.DRAW" if len(cfg.DATASETS.DRAW) else "INPUT.SEMANTIC.DRAW"
            raise ValueError(f"{key} must be 'class' or 'image', not {draw!r}")
    sources = {name: Source(name) for name in dict.fromkeys(datasets)}  # one may serve two mappers
    mappers = []
    for name, dataset, draw in zip(names, datasets, draws, strict=True):
        own = cfg.clone()
        own.defrost()
        own.INPUT.SEMANTIC.DRAW = draw
        mapper = EPISODE_MAPPER_REGISTRY.get(name)(own, sources[dataset])
        if not hasattr(mapper, "draw"):
            raise ValueError(f"DATASETS.EPISODE_MAPPERS: {name!r} is not a mapper for training")
        mappers.append(mapper)
    return mappers


def build_train_loader(cfg, start=0):
    """Endless batches of training episodes, mixed over ``DATASETS.TRAIN``.

    Args:
        cfg: config; ``DATASETS.TRAIN``, ``.EPISODE_MAPPERS``, ``.DRAW``, ``.WEIGHTS``, ``SEED``
            (below 0: a random one, shared by the processes), ``SOLVER.IMS_PER_BATCH``,
            ``DATALOADER.NUM_WORKERS``.
        start: position of the first episode; resuming at iteration i: i·``IMS_PER_BATCH``.

    Returns:
        Detectron2's train loader; a batch is a list of ``IMS_PER_BATCH`` / processes episodes.
    """
    mappers = _training_mappers(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    loader = build_detection_train_loader(
        EpisodeStream(mappers, cfg.DATASETS.WEIGHTS, seed),
        mapper=MixedMapper(mappers),
        sampler=EpisodeSampler(start),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    loader.dataset.mappers = mappers  # for set_cache
    return loader


def set_cache(loader, cache):
    """Let the views of a loader of ``build_train_loader`` that recur come from a feature cache
    (None: none); before it is iterated."""
    for mapper in loader.dataset.mappers:
        mapper.cache = cache
        if cache is not None and not getattr(mapper, "recurs", False):
            logger.warning(
                "INPUT.FEATURE_CACHE is on, but no view of dataset %r comes twice: it is augmented "
                "at random and INPUT.VIEWS_POOL is 0. Nothing of it is kept",
                getattr(mapper, "dataset", ""),
            )


def training_pictures(cfg, count, cache=None):
    """Views of the first ``count`` different targets of the training episodes, as the backbone
    takes them; they depend neither on processes nor on workers. Fewer where there are not so many.

    Args:
        cache: ``FeatureCache`` for views that recur, or None.

    Yields:
        episodes.
    """
    mappers = _training_mappers(cfg)
    for mapper in mappers:
        mapper.cache = cache
    plans, seen = EpisodeStream(mappers, cfg.DATASETS.WEIGHTS, max(cfg.SEED, 0)), set()
    for position in range(_TRIES * count):
        plan = plans[position]
        picture = plan["dataset"], plan["target"]
        if picture not in seen:
            seen.add(picture)
            yield MixedMapper(mappers)(plan)
        if len(seen) == count:
            return


def most_entities(loader):
    """Entities of an episode of a training loader, at most; None: not known."""
    each = [getattr(mapper, "most_entities", None) for mapper in loader.dataset.mappers]
    return None if None in each else max(each)


def set_start(loader, position):
    """Let a loader of ``build_train_loader`` begin at a position; before it is iterated."""
    loader.dataset.sampler.start = position


def build_one_shot_loader(cfg, dataset_name, cache=None):
    """The test episodes of a dataset, split over the processes; they depend on TEST.SEED alone.

    Args:
        cache: ``FeatureCache`` for the pictures, or None.

    Returns:
        Detectron2's test loader; a batch is a list of up to ``TEST.BATCH_SIZE`` episodes.

    Raises:
        ValueError: if a class has one image and ``DATASETS.SINGLE_IMAGE_CLASSES`` is "error".
    """
    source = Source(dataset_name)
    report_gaps(dataset_name, source.records)
    index = source.class_index(cfg.DATASETS.SINGLE_IMAGE_CLASSES)
    plans = one_shot_episodes(index, cfg.TEST.EPISODES, cfg.TEST.SHOTS, cfg.TEST.SEED)
    mapper = EPISODE_MAPPER_REGISTRY.get("one_shot")(cfg, source)
    mapper.cache = cache
    return _test_loader(cfg, DatasetFromList(plans, copy=False), mapper)


def build_few_shot_loader(cfg, episodes, reader, cache=None):
    """The episodes of a benchmark, split over the processes.

    Args:
        episodes: ``EpisodeList``.
        reader: of the same benchmark, see ``READER_REGISTRY``.
        cache: ``FeatureCache`` for the pictures, or None.

    Returns:
        Detectron2's test loader; a batch is a list of up to ``TEST.BATCH_SIZE`` episodes.
    """
    mapper = FewShotMapper(cfg, episodes.classes, reader)
    mapper.cache = cache
    items = [{"episode": i, **asdict(plan)} for i, plan in enumerate(episodes.episodes)]
    return _test_loader(cfg, DatasetFromList(items, copy=False), mapper)


def _whole_batches(number, size):
    """This process's part of ``number`` items, cut where batches of ``size`` end: a range."""
    batches, world, rank = -(-number // size), comm.get_world_size(), comm.get_rank()
    share, more = divmod(batches, world)
    start = rank * share + min(rank, more)
    stop = start + share + (rank < more)
    return range(start * size, min(stop * size, number))


def build_target_loader(cfg, dataset_name, cache=None, mapper="target"):
    """All images of a dataset without references, for the stock evaluators.

    Args:
        mapper: "target", or "labelled_target", which says which classes each image shows.
        cache: ``FeatureCache`` for the pictures, or None.

    Returns:
        Detectron2's test loader; a batch is a list of up to ``TEST.BATCH_SIZE`` dataset dicts with
        ``image`` (3, H, W), ``height``, ``width`` and the records' own fields.
    """
    records = load_records(dataset_name)
    report_gaps(dataset_name, records)
    mapper = EPISODE_MAPPER_REGISTRY.get(mapper)(cfg, dataset_name)
    mapper.cache = cache
    mapper.labels = known_labels(dataset_name)
    return _test_loader(cfg, DatasetFromList(records, copy=False), mapper)


class ResumableSampler(InferenceSampler):
    """Each process its own part of the items, no item twice; from the ``start``-th of it on.

    Detectron2 cuts anywhere; here parts end where batches of ``batch_size`` do, so that batches,
    of which features depend in the last bit, are the same with any number of processes.
    """

    start = 0

    def __init__(self, size, batch_size):
        super().__init__(size)
        self._local_indices = _whole_batches(size, batch_size)

    def __iter__(self):
        yield from self._local_indices[self.start :]

    def __len__(self):
        return max(len(self._local_indices) - self.start, 0)


def _test_loader(cfg, dataset, mapper):
    """A test loader that can start anywhere (``sampler.start``) and knows ``items``, ``mapper``."""
    skip = cfg.TEST.DAMAGED == "skip"
    loader = build_detection_test_loader(
        dataset,
        mapper=SkipDamaged(mapper, label_check(mapper)) if skip else mapper,
        sampler=ResumableSampler(len(dataset), cfg.TEST.BATCH_SIZE),
        batch_size=cfg.TEST.BATCH_SIZE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    loader.items, loader.mapper = dataset, mapper
    return loader


def build_pair_loader(cfg, dataset_name, cache=None):
    """All pairs of a registered dataset, split over the processes.

    Raises:
        ValueError: naming the dataset, if it has no pairs.
    """
    records = load_records(dataset_name)
    if not all("source_keypoints" in r for r in records):
        raise ValueError(
            f"TEST.EVALUATORS has 'pck', which needs pairs with key points (spair71k_test); the "
            f"dataset {dataset_name!r} has none"
        )
    mapper = PairMapper(cfg)
    mapper.cache = cache
    return _test_loader(cfg, DatasetFromList(list(enumerate(records)), copy=False), mapper)
