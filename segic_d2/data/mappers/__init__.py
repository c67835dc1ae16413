"""Plans of episodes to their pixels and masks; importing registers the mappers."""

from . import instance, labelled_target, one_shot, semantic, target  # noqa: F401
from .base import EPISODE_MAPPER_REGISTRY

__all__ = ["EPISODE_MAPPER_REGISTRY"]
