"""The evaluation "few_shot": published episodes of a benchmark, and the mean over its folds."""

import json
import logging
import os
from collections import OrderedDict
from dataclasses import replace

import numpy as np
from detectron2.evaluation import print_csv_format
from detectron2.utils.file_io import PathManager

from ...data import build_few_shot_loader
from ...data.benchmarks import (
    BENCHMARK_REGISTRY,
    READER_REGISTRY,
    dataset_name,
    find_fold,
    list_episodes,
)
from ...evaluation import FewShotEvaluator
from ...evaluation.few_shot import write_results
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from .base import EVALUATION_REGISTRY
from .reference_memory import RememberedReferences
from .result_names import conditions

logger = logging.getLogger(__name__)


@EVALUATION_REGISTRY.register()
def few_shot(cfg, model, dataset_name, output_dir):
    """mIoU and FB-IoU over the episodes of one fold of a benchmark, ``TEST.SHOTS`` shots.

    The key of the results states the conditions, as in
    ``few_shot-coco20i_fold0-1shot-unseen-text``: the shots, whether training named the classes,
    whether their names are given, and whether episodes or masks are not the published ones.

    Raises:
        ValueError: the dataset is no fold of a benchmark.
    """
    found = find_fold(dataset_name)
    if found is None:
        raise ValueError(
            f"TEST.EVALUATORS has 'few_shot', which needs folds of a benchmark such as "
            f"'coco20i_fold0'; {dataset_name!r} is none. 'one_shot' evaluates every dataset"
        )
    benchmark, fold = found
    episodes = first(list_episodes(benchmark, fold, cfg.TEST.SHOTS), cfg.TEST.FIRST_EPISODES)
    reader = READER_REGISTRY.get(benchmark)(episodes, None)
    for what in (*episodes.skipped, episodes.note, reader.note):
        if what:
            logger.warning(f"{dataset_name}: {what}")
    about, task = describe(cfg, dataset_name, episodes, reader)
    model = getattr(model, "module", model)  # out of DDP
    loader = build_few_shot_loader(cfg, episodes, reader, open_feature_cache(cfg, model))
    evaluator = FewShotEvaluator(task, episodes.classes, about, output_dir)
    return run_inference(cfg, RememberedReferences(model), loader, evaluator, output_dir)


def first(episodes, number):
    """An ``EpisodeList`` cut to a number of first episodes; 0 leaves it as it is."""
    if not 0 < number < len(episodes.episodes):
        return episodes
    note = f"only the first {number} of {len(episodes.episodes)} episodes"
    note = f"{episodes.note}; {note}" if episodes.note else note
    return replace(episodes, episodes=episodes.episodes[:number], standard=False, note=note)


def describe(cfg, name, episodes, reader):
    """The conditions for ``results.json``, and the key of the results."""
    seen, text = conditions(cfg, episodes.classes.values()).split("-")
    about = {
        "benchmark": episodes.benchmark,
        "fold": episodes.fold,
        "shots": episodes.shots,
        "seen": seen,
        "text": text,
        "standard": episodes.standard and not reader.note,
        "note": "; ".join(note for note in (episodes.note, reader.note) if note),
        "mask_size": cfg.TEST.MASK_SIZE,
        "own_episodes": not episodes.standard,
        "own_masks": bool(reader.note),
        "skipped": list(episodes.skipped),
    }
    return about, task_name(name, about)


def task_name(name, about):
    """``few_shot-<name>-1shot-unseen-text``, with marks for what is not as published."""
    own = [f"-{key}" for key in ("own_episodes", "own_masks") if about[key]]
    return f"few_shot-{name}-{about['shots']}shot-{about['seen']}-{about['text']}{''.join(own)}"


def mean_over_folds(cfg):
    """Print and write the mean of each benchmark all of whose folds stand in ``DATASETS.TEST``.
    Call it in the main process, after the folds.

    Returns:
        OrderedDict {"<benchmark>_mean": {task: {"mIoU", "FB_IoU", "mIoU_fold0" …}}}.
    """
    means = OrderedDict()
    if "few_shot" not in cfg.TEST.EVALUATORS:
        return means
    for benchmark in dict.fromkeys(f[0] for f in map(find_fold, cfg.DATASETS.TEST) if f):
        folds = BENCHMARK_REGISTRY.get(benchmark).folds
        names = [dataset_name(benchmark, fold) for fold in range(folds)]
        if folds < 2 or not set(names) <= set(cfg.DATASETS.TEST):
            continue
        about, metrics = _mean([_read(cfg, name) for name in names])
        name = f"{benchmark}_mean"
        write_results(_folder(cfg, name), {**about, "metrics": metrics})
        means[name] = OrderedDict({task_name(name, about): metrics})
        logger.info(f"{name}: the mean over {folds} folds:")
        print_csv_format(means[name])
    return means


def _mean(folds):
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
    metrics = OrderedDict()
    for key in ("mIoU", "FB_IoU"):
        metrics[key] = float(np.mean([fold["metrics"][key] for fold in folds]))
    for fold in folds:
        metrics[f"mIoU_fold{fold['fold']}"] = fold["metrics"]["mIoU"]
    return about, metrics


def _folder(cfg, name):
    return os.path.join(cfg.OUTPUT_DIR, "inference", name, "few_shot")


def _read(cfg, name):
    with PathManager.open(os.path.join(_folder(cfg, name), "results.json")) as f:
        return json.load(f)
