"""mIoU and FB-IoU of one-shot (or K-shot) episodes, as few-shot segmentation reports them."""

import json
import logging
import os
from collections import OrderedDict

import numpy as np
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from .pooling import EpisodeCounts


class OneShotEvaluator(EpisodeCounts):
    """Pools intersection I and union U per class over all episodes.

    The IoU of a class is ΣI / max(ΣU, 1). mIoU is the mean over the classes that occurred. FB-IoU
    is the mean of the foreground's and the background's IoU, each pooled over all classes (HSNet's
    convention). Ignored pixels count nowhere.
    """

    key = "masks"

    def count(self, mask, truth):
        """(foreground I, foreground U, background I, background U) of bool vectors."""
        inside, either = (mask & truth).sum().item(), (mask | truth).sum().item()
        return np.array([inside, either, len(mask) - either, len(mask) - inside], dtype=np.int64)

    def evaluate(self):
        """Percentages {"one_shot": {"mIoU", "FB_IoU", "episodes", "IoU-<class>" …}}."""
        totals = self.gather()
        if totals is None:
            return None
        result = self.metrics(totals)
        if self.output_dir:
            PathManager.mkdirs(self.output_dir)
            with PathManager.open(os.path.join(self.output_dir, "one_shot.json"), "w") as f:
                json.dump(result, f, indent=1)
        return OrderedDict(one_shot=result)

    def metrics(self, totals):
        """The report of ``evaluate`` for summed counts {class id: int64 (4,)}."""
        counts = np.stack(list(totals.values()))
        iou = counts[:, 0] / np.maximum(counts[:, 1], 1)
        pooled = counts.sum(0)
        foreground, background = (pooled[i] / max(pooled[i + 1], 1) for i in (0, 2))
        result = OrderedDict()
        result["mIoU"] = 100 * iou.mean()
        result["FB_IoU"] = 100 * (foreground + background) / 2
        result["episodes"] = self.episodes
        per_class = {self.class_name(c): 100 * v for c, v in zip(totals, iou, strict=True)}
        table = create_small_table({k: f"{v:.1f}" for k, v in list(per_class.items())[:12]})
        logging.getLogger(__name__).info(f"IoU of the first classes:\n{table}")
        result.update({f"IoU-{name}": value for name, value in per_class.items()})
        return result
