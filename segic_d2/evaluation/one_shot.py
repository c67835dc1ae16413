"""mIoU and FB-IoU of K-shot episodes, as few-shot segmentation reports them."""

import logging
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from detectron2.utils.logger import create_small_table

from .pooling import EpisodeCounts, Report


class OneShotEvaluator(EpisodeCounts):
    """Pools intersection I and union U per class over all episodes. The IoU of a class is ΣI /
    max(ΣU, 1). mIoU is the mean over the classes that occurred. FB-IoU is the mean of the
    foreground's and the background's IoU, each pooled over all classes (HSNet's convention).
    Ignored pixels count nowhere. ``classes`` {id: name} are all that could occur (None: the
    dataset's); after ``evaluate``, ``without_episode`` names those that did not."""

    key = "masks"

    def __init__(
        self, dataset_name: str, task: str = "one_shot", classes: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(dataset_name)
        self.task, self.classes = task, classes
        self.without_episode: list[str] = []

    def class_name(self, class_id: int) -> str:
        return super().class_name(class_id) if self.classes is None else self.classes[class_id]

    def count(self, mask: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
        """(foreground I, foreground U, background I, background U) of bool vectors."""
        inside, either = (mask & truth).sum().item(), (mask | truth).sum().item()
        return np.array([inside, either, len(mask) - either, len(mask) - inside], dtype=np.int64)

    def evaluate(self) -> Report | None:
        """Percentages {task: {"mIoU", "FB_IoU", "episodes", "IoU-<class>" …}}; None on all but the
        main process."""
        totals = self.gather()
        if totals is None:
            return None
        self.without_episode = [n for c, n in (self.classes or {}).items() if c not in totals]
        counts = np.stack(list(totals.values()))
        iou = counts[:, 0] / np.maximum(counts[:, 1], 1)
        pooled = counts.sum(0)
        foreground, background = (pooled[i] / max(pooled[i + 1], 1) for i in (0, 2))
        fb_iou = 100 * (foreground + background) / 2
        result = OrderedDict(mIoU=100 * iou.mean(), FB_IoU=fb_iou, episodes=self.episodes)
        per_class = {self.class_name(c): 100 * v for c, v in zip(totals, iou, strict=True)}
        table = create_small_table({k: f"{v:.1f}" for k, v in list(per_class.items())[:12]})
        logging.getLogger(__name__).info(f"IoU of the first classes:\n{table}")
        result.update({f"IoU-{name}": value for name, value in per_class.items()})
        return OrderedDict({self.task: result})
