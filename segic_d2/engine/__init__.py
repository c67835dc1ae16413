from .evaluation import EVALUATION_REGISTRY, FixedContext, evaluate
from .trainer import EpisodeTrainer, create_ddp_model

__all__ = ["EVALUATION_REGISTRY", "EpisodeTrainer", "FixedContext", "create_ddp_model", "evaluate"]
