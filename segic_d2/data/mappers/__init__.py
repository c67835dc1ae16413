"""Mappers turn plans of episodes into pixels and masks; importing registers them."""

from . import instance, labelled_target, one_shot, semantic, target  # noqa: F401
from .base import EPISODE_MAPPER_REGISTRY

__all__ = ["EPISODE_MAPPER_REGISTRY"]
