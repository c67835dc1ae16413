"""The trainer of episodes, its hooks, and the evaluations."""

from .episode_trainer import EpisodeTrainer
from .evaluations import EVALUATION_REGISTRY, evaluate, find_evaluations, mean_over_folds
from .hooks.feature_cache import FeatureCacheHook, open_feature_cache
from .requirements import find_missing
from .schedule import settle_schedule
from .trainer import Trainer, create_ddp_model

__all__ = [
    "EVALUATION_REGISTRY",
    "EpisodeTrainer",
    "FeatureCacheHook",
    "Trainer",
    "create_ddp_model",
    "evaluate",
    "find_evaluations",
    "find_missing",
    "mean_over_folds",
    "open_feature_cache",
    "settle_schedule",
]
