"""Episodes from registered datasets; importing registers the mappers and the datasets."""

from . import benchmarks, datasets  # noqa: F401
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
from .mappers import EPISODE_MAPPER_REGISTRY
from .references.plan import plan_references, same_file
from .references.semantic import build_reference_loader, load_references

__all__ = [
    "EPISODE_MAPPER_REGISTRY",
    "build_few_shot_loader",
    "build_one_shot_loader",
    "build_reference_loader",
    "build_target_loader",
    "build_train_loader",
    "check_data",
    "load_references",
    "plan_references",
    "register_folder_dataset",
    "same_file",
    "set_cache",
    "set_start",
]
