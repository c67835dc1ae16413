"""Loaders: mixed training, one-shot test episodes, bare targets, and references for them.

Training is an endless stream of positions 0, 1, 2, …. The episode at a position depends on
(``cfg.SEED``, position) alone. In iteration i all processes together take the positions
[i·B, (i+1)·B), where B is ``SOLVER.IMS_PER_BATCH``. The numbers of processes and workers change
nothing.
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
    """Yields the positions start, start + 1, …; process r of W takes every W-th, from the r-th on.

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
    """Maps a position to the plan of an episode: which dataset, which images, which classes.

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
    """Maps a plan to its episode with the mapper of the dataset that the plan names."""

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
    """Build the loader of training episodes, endless and mixed over ``DATASETS.TRAIN``.

    Args:
        cfg: config; ``DATASETS.TRAIN``, ``.EPISODE_MAPPERS``, ``.DRAW``, ``.WEIGHTS``, ``SEED``
            (below 0: a random one, shared by the processes), ``SOLVER.IMS_PER_BATCH``,
            ``DATALOADER.NUM_WORKERS``.
        start: position of the first episode; it is i·``IMS_PER_BATCH`` to resume at iteration i.

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
    """Let a training loader look its recurring views up in a feature cache (None: no cache). Call
    it before the loader is iterated."""
    for mapper in loader.dataset.mappers:
        mapper.cache = cache
        if cache is not None and not getattr(mapper, "recurs", False):
            logger.warning(
                "INPUT.FEATURE_CACHE is on, but no view of dataset %r comes twice: it is augmented "
                "at random and INPUT.VIEWS_POOL is 0. Nothing of it is kept",
                getattr(mapper, "dataset", ""),
            )


def training_pictures(cfg, count, cache=None):
    """Yield training episodes of the first ``count`` different targets, or fewer if there are not
    so many. They depend neither on processes nor on workers.

    Args:
        cache: ``FeatureCache`` for views that recur, or None.
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
    """The most entities that an episode of a training loader can have, or None if unknown."""
    each = [getattr(mapper, "most_entities", None) for mapper in loader.dataset.mappers]
    return None if None in each else max(each)


def set_start(loader, position):
    """Let a training loader begin at a position. Call it before the loader is iterated."""
    loader.dataset.sampler.start = position


def build_one_shot_loader(cfg, dataset_name, cache=None):
    """Build the loader of a dataset's test episodes, which depend on ``TEST.SEED`` alone.

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
    """Build the loader of a benchmark's episodes, which it splits over the processes.

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
    """The range of items that this process takes; it begins and ends where batches do."""
    batches, world, rank = -(-number // size), comm.get_world_size(), comm.get_rank()
    share, more = divmod(batches, world)
    start = rank * share + min(rank, more)
    stop = start + share + (rank < more)
    return range(start * size, min(stop * size, number))


def build_target_loader(cfg, dataset_name, cache=None, mapper="target"):
    """Build the loader of all images of a dataset, without references, for stock evaluators.

    Args:
        mapper: "target"; or "labelled_target", which adds the classes that each image shows.
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
    """Gives each process a part of the items, from its ``start``-th item on, and no item twice.

    Detectron2's sampler cuts anywhere. Here a part ends where a batch does, so the batches are the
    same with any number of processes. (The last bit of a feature depends on its batch.)
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
    """A test loader with ``items``, ``mapper`` and a sampler whose ``start`` may be set."""
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
    """Build the loader of a dataset's pairs, which it splits over the processes.

    Raises:
        ValueError: the dataset, which is named, has no pairs.
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
