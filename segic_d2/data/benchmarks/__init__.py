"""Few-shot benchmarks; importing registers them."""

from . import (  # noqa: F401
    coco20i,
    coco20i_masks,
    fss1000,
    lvis92i,
    paco_part,
    pascal5i,
    pascal_part,
)
from .base import (
    BENCHMARK_REGISTRY,
    READER_REGISTRY,
    EpisodeList,
    FewShotEpisode,
    Sample,
    list_episodes,
    missing_files,
    register_benchmark,
    register_reader,
)
from .registered import dataset_name, find_fold, register_folds

register_folds()

__all__ = [
    "BENCHMARK_REGISTRY",
    "READER_REGISTRY",
    "EpisodeList",
    "FewShotEpisode",
    "Sample",
    "dataset_name",
    "find_fold",
    "list_episodes",
    "missing_files",
    "register_benchmark",
    "register_folds",
    "register_reader",
]
