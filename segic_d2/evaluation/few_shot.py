"""Scores of a few-shot benchmark, with the conditions of their measurement."""

import json
import os
from collections import OrderedDict

from detectron2.utils.file_io import PathManager

from .one_shot import OneShotEvaluator


class FewShotEvaluator(OneShotEvaluator):
    """Names and writes the mIoU and FB-IoU of ``OneShotEvaluator`` with their conditions.

    Args:
        task: key of the results, which states the conditions.
        classes: dict class id → name, of every class of the fold.
        about: dict that goes into ``results.json`` before the metrics.
        output_dir: where ``results.json`` is written; None: nowhere.
    """

    def __init__(self, task, classes, about, output_dir=None):
        super().__init__(task, output_dir)
        self.task, self.classes, self.about = task, classes, about

    def class_name(self, class_id):
        return self.classes[class_id]

    def evaluate(self):
        """Percentages {task: {"mIoU", "FB_IoU", "episodes", "IoU-<class>" …}}. The mean is over the
        classes that had an episode; ``results.json`` names the others."""
        totals = self.gather()
        if totals is None:
            return None
        result = self.metrics(totals)
        if self.output_dir:
            metrics = dict(result)
            found = {**self.about, "episodes": metrics.pop("episodes"), "metrics": metrics}
            found["without_episode"] = [n for c, n in self.classes.items() if c not in totals]
            write_results(self.output_dir, found)
        return OrderedDict({self.task: result})


def write_results(folder, content):
    """Write ``results.json`` into a folder, which is made if it is missing."""
    PathManager.mkdirs(folder)
    with PathManager.open(os.path.join(folder, "results.json"), "w") as f:
        json.dump(content, f, indent=1)
