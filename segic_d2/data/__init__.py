"""Episodes from registered datasets; importing registers the mappers and the datasets."""

from . import (  # noqa: F401
    datasets,
    evaluation_mapper,
    instance_mapper,
    labelled_target,
    semantic_mapper,
)
from .build import (
    build_few_shot_loader,
    build_one_shot_loader,
    build_target_loader,
    build_train_loader,
    set_cache,
    set_start,
)
from .check import check_data
from .datasets import register_folder_dataset
from .episode_mapper import EPISODE_MAPPER_REGISTRY
from .image_io import read_image, read_label_map
from .masks import soft_resize
from .reference_plan import plan_references, same_file
from .references import build_reference_loader, load_references

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
    "read_image",
    "read_label_map",
    "register_folder_dataset",
    "same_file",
    "set_cache",
    "set_start",
    "soft_resize",
]
