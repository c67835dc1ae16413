"""Mappers turn plans of episodes into pixels and masks. Importing this package registers them."""

from ...compat import register_as
from .base import EPISODE_MAPPER_REGISTRY
from .instance import InstanceMapper
from .one_shot import OneShotMapper
from .semantic import SemanticMapper
from .target import LabelledTargetMapper, TargetMapper

__all__ = ["EPISODE_MAPPER_REGISTRY", "InstanceMapper", "SemanticMapper"]

register_as(EPISODE_MAPPER_REGISTRY, "instance", InstanceMapper)
register_as(EPISODE_MAPPER_REGISTRY, "labelled_target", LabelledTargetMapper)
register_as(EPISODE_MAPPER_REGISTRY, "one_shot", OneShotMapper)
register_as(EPISODE_MAPPER_REGISTRY, "semantic", SemanticMapper)
register_as(EPISODE_MAPPER_REGISTRY, "target", TargetMapper)
