"""The folds of all benchmarks as names for ``DATASETS.TEST``: coco20i_fold0, fss1000_test, …"""

import re

from detectron2.data import DatasetCatalog, MetadataCatalog

from .base import BENCHMARK_REGISTRY, list_episodes


def dataset_name(benchmark: str, fold: int = 0) -> str:
    """``coco20i_fold3``; of a benchmark with a single split ``fss1000_test``."""
    folds = BENCHMARK_REGISTRY.get(benchmark).folds
    return f"{benchmark}_fold{fold}" if folds > 1 else f"{benchmark}_test"


def find_fold(name: str) -> tuple[str, int] | None:
    """(benchmark, fold) of a name of ``dataset_name``, or None."""
    found = re.fullmatch(r"(?P<benchmark>\w+?)_(fold(?P<fold>\d+)|test)", name)
    if not found or found["benchmark"] not in BENCHMARK_REGISTRY:
        return None
    key = found["benchmark"], int(found["fold"] or 0)
    return key if dataset_name(*key) == name else None


def register_folds() -> None:
    """Register every fold of every benchmark that is not registered yet. Such a dataset is its
    1-shot episodes as dicts ``episode``, ``class_id``, ``target``, ``references``; "few_shot" reads
    the pixels."""
    for benchmark, function in BENCHMARK_REGISTRY:
        for fold in range(function.folds):
            name = dataset_name(benchmark, fold)
            if name in DatasetCatalog:
                continue
            DatasetCatalog.register(name, lambda b=benchmark, f=fold: _records(b, f))
            metadata = MetadataCatalog.get(name)
            metadata.set(benchmark=benchmark, fold=fold, evaluator_type="few_shot")
            if function.classes:
                metadata.set(thing_classes=list(function.classes))


def _records(benchmark, fold):
    episodes = list_episodes(benchmark, fold)
    metadata = MetadataCatalog.get(dataset_name(benchmark, fold))
    if metadata.get("thing_classes") is None:  # in the order of the ids, for their texts
        metadata.set(thing_classes=list(episodes.classes.values()))
    return [
        {"episode": n, "class_id": e.class_id, "target": e.target, "references": list(e.references)}
        for n, e in enumerate(episodes.episodes)
    ]
