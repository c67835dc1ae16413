from . import evaluate_instances, evaluate_pck, evaluate_semantic  # noqa: F401
from .evaluate_few_shot import mean_over_folds
from .evaluation import EVALUATION_REGISTRY, FixedContext, evaluate
from .feature_cache import FeatureCacheHook, open_feature_cache
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
