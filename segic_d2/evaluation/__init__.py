"""Evaluators that Detectron2 lacks, and its stock evaluators set up for episodes."""

from .label_maps import LabelMapEvaluator
from .object_scores import summarize
from .one_shot import OneShotEvaluator
from .pck import PCKEvaluator
from .stock import build_coco_evaluator, build_lvis_evaluator, build_sem_seg_evaluator
from .switches import identity_switches
from .threshold import BestThresholdEvaluator
from .video import score_frames, score_video

__all__ = [
    "BestThresholdEvaluator",
    "LabelMapEvaluator",
    "OneShotEvaluator",
    "PCKEvaluator",
    "build_coco_evaluator",
    "build_lvis_evaluator",
    "build_sem_seg_evaluator",
    "identity_switches",
    "score_frames",
    "score_video",
    "summarize",
]
