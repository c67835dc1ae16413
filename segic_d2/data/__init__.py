"""Episodes from registered datasets; importing registers the mappers and the datasets."""

from . import datasets, evaluation_mapper, instance_mapper, semantic_mapper  # noqa: F401
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
from .references import load_references

__all__ = [
    "EPISODE_MAPPER_REGISTRY",
    "build_few_shot_loader",
    "build_one_shot_loader",
    "build_target_loader",
    "build_train_loader",
    "check_data",
    "load_references",
    "read_image",
    "read_label_map",
    "register_folder_dataset",
    "set_cache",
    "set_start",
    "soft_resize",
]
