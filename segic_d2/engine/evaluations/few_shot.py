"""The evaluation "few_shot": published episodes of a benchmark, and the mean over its folds."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import print_csv_format
from torch.utils.data import DataLoader

from ...data import build_few_shot_loader
from ...data.benchmarks import (
    BENCHMARK_REGISTRY,
    READER_REGISTRY,
    EpisodeList,
    dataset_name,
    find_fold,
    list_episodes,
)
from ...evaluation import OneShotEvaluator
from .base import FILE, Evaluation, Results, write_results
from .reference_memory import RememberedReferences
from .result_names import conditions

logger = logging.getLogger(__name__)


class FewShot(Evaluation, name="few_shot"):
    """mIoU and FB-IoU over the episodes of one fold of a benchmark, ``TEST.SHOTS`` shots. The key
    of the results states the conditions; see ``task_name``."""

    def build_loader(self) -> DataLoader[Any]:
        """The loader of the fold's episodes. ValueError: the dataset is no fold of a benchmark."""
        cfg, found = self.cfg, find_fold(self.dataset_name)
        if found is None:
            raise ValueError(
                f"TEST.EVALUATORS has 'few_shot', which needs folds of a benchmark such as "
                f"'coco20i_fold0'; {self.dataset_name!r} is none. 'one_shot' evaluates every "
                "dataset"
            )
        benchmark, fold = found
        episodes = first(list_episodes(benchmark, fold, cfg.TEST.SHOTS), cfg.TEST.FIRST_EPISODES)
        reader = READER_REGISTRY.get(benchmark)(episodes, None)
        for what in (*episodes.skipped, episodes.note, reader.note):
            if what:
                logger.warning(f"{self.dataset_name}: {what}")
        self.classes, self.about = episodes.classes, describe(cfg, episodes, reader)
        return build_few_shot_loader(cfg, episodes, reader, self.cache)

    def build_evaluator(self) -> OneShotEvaluator:
        task = task_name(self.dataset_name, self.about)
        self.evaluator = OneShotEvaluator(self.dataset_name, task, self.classes)
        return self.evaluator

    def build_model(self) -> RememberedReferences:
        return RememberedReferences(self.model)

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        metrics = dict(found[self.evaluator.task])
        return found, {
            **self.about,
            "episodes": metrics.pop("episodes"),
            "without_episode": self.evaluator.without_episode,
            "metrics": metrics,
        }


def first(episodes: EpisodeList, number: int) -> EpisodeList:
    """The first episodes of a list; 0 leaves it as it is."""
    if not 0 < number < len(episodes.episodes):
        return episodes
    note = f"only the first {number} of {len(episodes.episodes)} episodes"
    note = f"{episodes.note}; {note}" if episodes.note else note
    return replace(episodes, episodes=episodes.episodes[:number], standard=False, note=note)


def describe(cfg: CfgNode, episodes: EpisodeList, reader: Any) -> dict[str, Any]:
    """The conditions for ``results.json``."""
    seen, text = conditions(cfg, episodes.classes.values())
    return {
        "benchmark": episodes.benchmark,
        "fold": episodes.fold,
        "seen": seen,
        "text": text,
        "standard": episodes.standard and not reader.note,
        "note": "; ".join(note for note in (episodes.note, reader.note) if note),
        "skipped": list(episodes.skipped),
        "shots": episodes.shots,
        "mask_size": cfg.TEST.MASK_SIZE,
        "own_episodes": not episodes.standard,
        "own_masks": bool(reader.note),
    }


def task_name(name: str, about: Mapping[str, Any]) -> str:
    """``few_shot-<fold>-1shot-unseen-text``, with marks for episodes or masks that are not the
    published ones."""
    own = [f"-{key}" for key in ("own_episodes", "own_masks") if about[key]]
    return f"few_shot-{name}-{about['shots']}shot-{about['seen']}-{about['text']}{''.join(own)}"


def mean_over_folds(cfg: CfgNode) -> OrderedDict[str, Any]:
    """Print and write the mean of each benchmark all of whose folds stand in ``DATASETS.TEST``, in
    the main process: {"<benchmark>_mean": {task: {"mIoU", "FB_IoU", "mIoU_fold0" …}}}."""
    means: OrderedDict[str, Any] = OrderedDict()
    if "few_shot" not in cfg.TEST.EVALUATORS:
        return means
    for benchmark in dict.fromkeys(f[0] for f in map(find_fold, cfg.DATASETS.TEST) if f):
        folds = BENCHMARK_REGISTRY.get(benchmark).folds
        names = [dataset_name(benchmark, fold) for fold in range(folds)]
        if folds < 2 or not set(names) <= set(cfg.DATASETS.TEST):
            continue
        parent = os.path.join(cfg.OUTPUT_DIR, "inference")
        files = [Path(parent, name, "few_shot", FILE) for name in names]
        about, metrics = _mean([json.loads(file.read_text(encoding="utf-8")) for file in files])
        name = f"{benchmark}_mean"
        content = {**about, "dataset": name, "metrics": metrics}
        write_results(os.path.join(parent, name, "few_shot"), content)
        means[name] = OrderedDict({task_name(name, about): metrics})
        logger.info(f"{name}: the mean over {folds} folds:")
        print_csv_format(means[name])
    return means


def _mean(folds: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], OrderedDict[str, float]]:
    about = {k: v for k, v in folds[0].items() if k not in ("metrics", "without_episode")}
    seen = {fold["seen"] for fold in folds}
    about.update(
        fold="mean",
        seen=seen.pop() if len(seen) == 1 else "mixed",
        standard=all(fold["standard"] for fold in folds),
        note="; ".join(dict.fromkeys(fold["note"] for fold in folds if fold["note"])),
        episodes=sum(fold["episodes"] for fold in folds),
        skipped=list(dict.fromkeys(what for fold in folds for what in fold["skipped"])),
        **{k: any(fold[k] for fold in folds) for k in ("own_episodes", "own_masks")},
    )
    metrics = OrderedDict(
        (k, float(np.mean([fold["metrics"][k] for fold in folds]))) for k in ("mIoU", "FB_IoU")
    )
    metrics.update((f"mIoU_fold{fold['fold']}", fold["metrics"]["mIoU"]) for fold in folds)
    return about, metrics
