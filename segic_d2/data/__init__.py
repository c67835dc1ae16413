"""Episodes from registered datasets; importing registers the mappers and the datasets."""

from . import benchmarks, datasets, videos  # noqa: F401
from .build import (
    build_few_shot_loader,
    build_one_shot_loader,
    build_target_loader,
    build_train_loader,
    set_cache,
    set_start,
)
from .datasets import register_folder_dataset
from .health.check import check_data
from .mappers import EPISODE_MAPPER_REGISTRY, InstanceMapper, SemanticMapper
from .references.plan import plan_references, same_file
from .references.semantic import build_reference_loader

__all__ = ["EPISODE_MAPPER_REGISTRY", "InstanceMapper", "SemanticMapper"]
__all__ += ["build_few_shot_loader", "build_one_shot_loader"]
__all__ += ["build_reference_loader", "build_target_loader", "build_train_loader", "check_data"]
__all__ += ["plan_references", "register_folder_dataset", "same_file"]
__all__ += ["set_cache", "set_start"]
