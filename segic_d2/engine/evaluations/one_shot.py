"""The evaluation "one_shot": random episodes of a dataset, one target and its references each."""

from typing import Any

from torch.utils.data import DataLoader

from ...data import build_one_shot_loader
from ...evaluation import OneShotEvaluator
from .base import Evaluation, Results
from .result_names import conditions, training_classes


class OneShot(Evaluation, name="one_shot"):
    """Pooled mIoU and FB-IoU over ``TEST.EPISODES`` episodes."""

    def build_loader(self) -> DataLoader[Any]:
        return build_one_shot_loader(self.cfg, self.dataset_name, self.cache)

    def build_evaluator(self) -> OneShotEvaluator:
        return OneShotEvaluator(self.dataset_name)

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        metrics = dict(found["one_shot"])
        # the datasets of training may be elsewhere, and are not read for a word
        seen, _ = conditions(self.cfg, training_classes(self.dataset_name), read=False)
        return found, {"seen": seen, "episodes": metrics.pop("episodes"), "metrics": metrics}
