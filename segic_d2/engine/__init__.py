"""The trainer of episodes, its hooks, and the evaluations."""

from .evaluations import EVALUATION_REGISTRY, evaluate, mean_over_folds
from .evaluations.one_shot import FixedContext
from .hooks.feature_cache import FeatureCacheHook, open_feature_cache
from .trainer import EpisodeTrainer, create_ddp_model

__all__ = [
    "EVALUATION_REGISTRY",
    "EpisodeTrainer",
    "FeatureCacheHook",
    "FixedContext",
    "create_ddp_model",
    "evaluate",
    "mean_over_folds",
    "open_feature_cache",
]
