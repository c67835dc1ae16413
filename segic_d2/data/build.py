"""Loaders: mixed training, one-shot test episodes, bare targets, and pairs.

Training is an endless stream of positions. The episode at a position depends on (``cfg.SEED``,
position) alone, not on processes and workers; in iteration i all processes together take the
positions [i·B, (i+1)·B), B = ``SOLVER.IMS_PER_BATCH``. A batch of a test loader is a list of up to
``TEST.BATCH_SIZE`` items.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from detectron2.config import CfgNode, get_cfg
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..config.keys import check_config
from ..structures.episode import Episode
from .augmentation.feature_cache import FeatureCache
from .benchmarks.base import EpisodeList
from .datasets.annotated import AnnotatedRecords
from .episodes import generator, one_shot_episodes
from .health.damaged import SkipDamaged
from .health.verify import label_check, report_gaps
from .index import Source, load_records
from .mappers.base import EPISODE_MAPPER_REGISTRY, TrainingMapper
from .mappers.few_shot import FewShotMapper
from .mappers.pairs import PairMapper

logger = logging.getLogger(__name__)


class EpisodeSampler(TrainingSampler):
    """Yields the positions start, start + 1, …; process r of W takes every W-th, from the r-th on.
    ``start`` may be set until the iterator is made."""

    def __init__(self, start: int = 0) -> None:
        super().__init__(size=1, shuffle=False, seed=0)
        self.start = start

    def _infinite_indices(self):
        yield from itertools.count(self.start)


_TRIES = 4  # episodes looked at per picture that is wanted


class EpisodeStream(Dataset):
    """Maps a position to the plan of an episode: which dataset, which images, which classes.
    ``weights`` are the shares of the mappers on any scale; empty: uniform."""

    def __init__(
        self, mappers: Sequence[TrainingMapper], weights: Sequence[float] = (), seed: int = 0
    ) -> None:
        self.mappers = mappers
        shares = np.asarray(weights if len(weights) else [1.0] * len(mappers), dtype=np.float64)
        if len(shares) != len(mappers) or (shares < 0).any() or not shares.sum() > 0:
            raise ValueError(
                f"DATASETS.WEIGHTS must be {len(mappers)} numbers ≥ 0, one per DATASETS.TRAIN and "
                f"not all 0, not {tuple(weights)}"
            )
        self.thresholds = np.cumsum(shares / shares.sum())[:-1]
        self.seed = seed

    def __len__(self) -> int:
        # nominal: the stream is endless, and the sampler decides where it is read
        return sum(len(m.records) for m in self.mappers)

    def __getitem__(self, position: int) -> Episode:
        rng = generator(self.seed, position)
        seed = int(rng.integers(2**63))
        dataset = int(np.searchsorted(self.thresholds, rng.random(), side="right"))
        plan = self.mappers[dataset].draw(rng)
        return {**plan, "dataset": dataset, "seed": seed}

    def episode(self, plan: dict[str, Any]) -> Episode:
        """The episode of a plan, by the mapper of its dataset."""
        return self.mappers[plan["dataset"]](plan)


def _training_mappers(cfg):
    check_config(cfg, "INPUT", "DATASETS")
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
    sources = {name: Source(name) for name in dict.fromkeys(datasets)}  # one may serve two mappers
    for source in sources.values():
        source.look_for_files()
    mappers = []
    for name, dataset, draw in zip(names, datasets, draws, strict=True):
        own = cfg.clone()
        own.defrost()
        own.INPUT.SEMANTIC.DRAW = draw
        mapper = EPISODE_MAPPER_REGISTRY.get(name)(own, sources[dataset])
        if not isinstance(mapper, TrainingMapper):
            raise ValueError(f"DATASETS.EPISODE_MAPPERS: {name!r} is not a mapper for training")
        mappers.append(mapper)
    return mappers


def build_train_loader(cfg: CfgNode, start: int = 0) -> Iterable[list[Episode]]:
    """Build Detectron2's train loader of episodes, endless and mixed over ``DATASETS.TRAIN``. A
    batch is a list of ``IMS_PER_BATCH`` / processes episodes. ``start`` is the first position:
    i·``IMS_PER_BATCH`` to resume at iteration i. ``SEED`` below 0: a random one, shared by the
    processes.

    It serves Detectron2's own DefaultTrainer as it is. What that trainer does not know, beside
    ``engine.EpisodeTrainer``: schedules in samples (``engine.settle_schedule(cfg)`` converts them;
    a warning says so), AdamW (``build_optimizer = EpisodeTrainer.build_optimizer``), our
    evaluations (``test = EpisodeTrainer.test``), bf16, AMP on CPUs, averaged weights, the mean
    feature of ``SIMILARITY.CENTER`` "fixed" (register ``FeatureMeanHook``). Its checkpoints hold
    the backbone too, and a resumed run begins the stream of episodes anew.
    """
    _warn_of_samples(cfg)
    mappers = _training_mappers(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    stream = EpisodeStream(mappers, cfg.DATASETS.WEIGHTS, seed)
    loader = build_detection_train_loader(
        stream,
        mapper=stream.episode,
        sampler=EpisodeSampler(start),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    loader.dataset.mappers = mappers  # for set_cache
    return loader


def _warn_of_samples(cfg):
    """Our trainers have settled the schedule by now; Detectron2's looks at its own keys alone."""
    samples, iterations = cfg.SOLVER.MAX_SAMPLES, cfg.SOLVER.MAX_ITER
    if samples and iterations in (0, get_cfg().SOLVER.MAX_ITER):  # not chosen, or cleared
        logger.warning(
            "SOLVER.MAX_SAMPLES is %d, which Detectron2's own trainers do not know: they take "
            "SOLVER.MAX_ITER, %d; cfg = segic_d2.engine.settle_schedule(cfg) converts the schedule",
            samples,
            iterations,
        )


def set_cache(loader: Any, cache: FeatureCache | None) -> None:
    """Let a training loader look its views up in a cache, before it is iterated; None: in none."""
    for mapper in loader.dataset.mappers:
        mapper.with_cache(cache)
        if cache is not None and not mapper.recurs:
            logger.warning(
                "INPUT.FEATURE_CACHE is on, but no view of dataset %r comes twice: it is augmented "
                "at random and INPUT.VIEWS_POOL is 0. Nothing of it is kept",
                mapper.dataset,
            )


def training_pictures(
    cfg: CfgNode, count: int, cache: FeatureCache | None = None
) -> Iterator[Episode]:
    """Yield training episodes of the first ``count`` different targets, or fewer if there are not
    so many, the same with any processes and workers."""
    mappers = [mapper.with_cache(cache) for mapper in _training_mappers(cfg)]
    plans, seen = EpisodeStream(mappers, cfg.DATASETS.WEIGHTS, max(cfg.SEED, 0)), set()
    for position in range(_TRIES * count):
        plan = plans[position]
        picture = plan["dataset"], plan["target"]
        if picture not in seen:
            seen.add(picture)
            yield plans.episode(plan)
        if len(seen) == count:
            return


def most_entities(loader: Any) -> int | None:
    """The most entities that an episode of a training loader can have, or None if unknown."""
    each = [mapper.most_entities for mapper in loader.dataset.mappers]
    return None if None in each else max(each)


def set_start(loader: Any, position: int) -> None:
    """Let a training loader begin at a position. Call it before the loader is iterated."""
    loader.dataset.sampler.start = position


def build_one_shot_loader(
    cfg: CfgNode, dataset_name: str, cache: FeatureCache | None = None
) -> DataLoader[Any]:
    """Build the loader of a dataset's test episodes, which depend on ``TEST.SEED`` alone: as many
    as ``TEST.EPISODES`` says, but no more than there are pairs of a target and a reference.
    ValueError: a class has one image and ``DATASETS.SINGLE_IMAGE_CLASSES`` is "error"."""
    source = Source(dataset_name)
    report_gaps(dataset_name, source.records)
    index = source.class_index(cfg.DATASETS.SINGLE_IMAGE_CLASSES)
    number = min(cfg.TEST.EPISODES, index.pairs)
    if number < cfg.TEST.EPISODES:
        logger.info(
            "%s has %d pairs of target and reference: so many episodes", dataset_name, number
        )
    plans = one_shot_episodes(index, number, cfg.TEST.SHOTS, cfg.TEST.SEED)
    mapper = EPISODE_MAPPER_REGISTRY.get("one_shot")(cfg, source)
    return _test_loader(cfg, plans, mapper.with_cache(cache))


def build_few_shot_loader(
    cfg: CfgNode, episodes: EpisodeList, reader: Any, cache: FeatureCache | None = None
) -> DataLoader[Any]:
    """Build the loader of a benchmark's episodes; ``reader`` is the same one's
    (``READER_REGISTRY``)."""
    mapper = FewShotMapper(cfg, episodes.classes, reader).with_cache(cache)
    items = [{"episode": i, **asdict(plan)} for i, plan in enumerate(episodes.episodes)]
    return _test_loader(cfg, items, mapper)


def build_grouped_loader(
    cfg: CfgNode, episodes: EpisodeList, mapper: FewShotMapper, most: int
) -> DataLoader[Any]:
    """Build the loader of a benchmark's episodes, up to ``most`` of one target in an item. Such a
    run cannot go on after an interruption, for which episodes are counted."""
    groups = {}
    for i, plan in enumerate(episodes.episodes):
        groups.setdefault(plan.target, []).append({"episode": i, **asdict(plan)})
    items = [own[i : i + most] for own in groups.values() for i in range(0, len(own), most)]
    return _test_loader(cfg, items, mapper)


def _flat(batch):
    return [x for item in batch for x in (item if isinstance(item, list) else [item])]


def _whole_batches(number, size):
    """The range of items that this process takes; it begins and ends where batches do."""
    batches, world, rank = -(-number // size), comm.get_world_size(), comm.get_rank()
    share, more = divmod(batches, world)
    start = rank * share + min(rank, more)
    stop = start + share + (rank < more)
    return range(start * size, min(stop * size, number))


def build_target_loader(
    cfg: CfgNode, dataset_name: str, cache: FeatureCache | None = None, mapper: str = "target"
) -> DataLoader[Any]:
    """Build the loader of all images of a dataset, without references, for stock evaluators:
    dataset dicts with ``image`` (3, H, W), ``height``, ``width``. ``mapper`` is "target" or
    "labelled_target", which adds the classes that each image shows."""
    records = load_records(dataset_name)
    report_gaps(dataset_name, records)
    mapper = EPISODE_MAPPER_REGISTRY.get(mapper)(cfg, dataset_name)
    return _test_loader(cfg, records, mapper.with_cache(cache))


class ResumableSampler(InferenceSampler):
    """Gives each process a part of the items, from its ``start``-th item on, and no item twice. A
    part ends where a batch does, unlike Detectron2's, so the batches are the same with any number
    of processes. (The last bit of a feature depends on its batch.)"""

    start = 0

    def __init__(self, size: int, batch_size: int) -> None:
        super().__init__(size)
        self.own = _whole_batches(size, batch_size)

    def __iter__(self) -> Iterator[int]:
        yield from self.own[self.start :]

    def __len__(self) -> int:
        return max(len(self.own) - self.start, 0)


def _test_loader(cfg, items, mapper):
    """A test loader with ``items``, ``mapper`` and a sampler whose ``start`` may be set."""
    packed = isinstance(items, AnnotatedRecords)
    dataset = DatasetFromList(items, copy=False, serialize=not packed)
    skip = cfg.TEST.DAMAGED == "skip"
    loader = build_detection_test_loader(
        dataset,
        mapper=SkipDamaged(mapper, label_check(mapper)) if skip else mapper,
        sampler=ResumableSampler(len(dataset), cfg.TEST.BATCH_SIZE),
        batch_size=cfg.TEST.BATCH_SIZE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_flat,
    )
    loader.items, loader.mapper = dataset, mapper
    return loader


def build_pair_loader(
    cfg: CfgNode, dataset_name: str, cache: FeatureCache | None = None
) -> DataLoader[Any]:
    """Build the loader of a dataset's pairs. ValueError: the dataset, which is named, has none."""
    records = load_records(dataset_name)
    if not all("source_keypoints" in r for r in records):
        raise ValueError(
            f"TEST.EVALUATORS has 'pck', which needs pairs with key points (spair71k_test); the "
            f"dataset {dataset_name!r} has none"
        )
    return _test_loader(cfg, list(enumerate(records)), PairMapper(cfg).with_cache(cache))
