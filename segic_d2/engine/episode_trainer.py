"""The trainer of episodes."""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from ..data.build import build_train_loader, most_entities, set_start
from ..structures.episode import Episode
from .evaluations.base import evaluate, find_evaluations
from .evaluations.few_shot import mean_over_folds
from .hooks.feature_cache import FeatureCacheHook
from .hooks.feature_mean import FeatureMeanHook
from .trainer import Trainer, share_weights


class EpisodeTrainer(Trainer):
    """A ``Trainer`` whose batches are episodes. A resumed run continues exactly: the position in
    the stream of episodes follows from the iteration."""

    def __init__(self, cfg: CfgNode) -> None:
        find_evaluations(cfg)  # a wrong name is no matter of the last step
        super().__init__(cfg)
        model = getattr(self.model, "module", self.model)  # out of DDP
        if getattr(model, "cross_entity", False) and most_entities(self.data_loader) == 1:
            logging.getLogger(__name__).warning(
                "MODEL.SEGIC.CROSS_ENTITY is on, but no training episode has several entities "
                "(INPUT.SEMANTIC.MAX_ENTITIES, INPUT.INSTANCE.MAX_MASKS, classes per image): "
                "inference with several would use an embedding that is never trained. "
                "Set MODEL.SEGIC.CROSS_ENTITY.ENABLED to False"
            )

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the last checkpoint or load ``MODEL.WEIGHTS``; then place the data stream."""
        super().resume_or_load(resume)
        set_start(self.data_loader, self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH)

    def build_hooks(self) -> list[HookBase]:
        return [FeatureCacheHook(), FeatureMeanHook(), *super().build_hooks()]

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[Episode]]:
        return build_train_loader(cfg)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict[str, Any]:
        """Evaluate every dataset of ``DATASETS.TEST``, and the mean of a benchmark's folds:
        {dataset: {task: {metric: value}}}, or the inner dict for a single dataset, as
        DefaultTrainer does."""
        share_weights(model)
        results = OrderedDict((name, evaluate(cfg, model, name)) for name in cfg.DATASETS.TEST)
        if comm.is_main_process():
            results.update(mean_over_folds(cfg))
        return next(iter(results.values())) if len(results) == 1 else results
