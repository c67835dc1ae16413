"""Evaluations by name (``TEST.EVALUATORS``). Importing registers them."""

from . import few_shot, instances, one_shot, pck, semantic, video  # noqa: F401
from .base import EVALUATION_REGISTRY, evaluate, find_evaluations
from .few_shot import mean_over_folds

__all__ = ["EVALUATION_REGISTRY", "evaluate", "find_evaluations", "mean_over_folds"]
