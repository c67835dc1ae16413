"""Few-shot benchmarks; importing registers them."""

from . import coco20i, coco20i_masks, fss1000, lvis92i, paco_part, pascal5i, pascal_part  # noqa: F401
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

__all__ = ["BENCHMARK_REGISTRY", "READER_REGISTRY", "EpisodeList", "FewShotEpisode", "Sample"]
__all__ += ["dataset_name", "find_fold", "list_episodes", "missing_files", "register_benchmark"]
__all__ += ["register_folds", "register_reader"]
