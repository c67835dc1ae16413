"""Finished label maps, scored by Detectron2's own SemSegEvaluator."""

from collections import OrderedDict

import numpy as np
import torch
from detectron2.evaluation import SemSegEvaluator

from .stock import read_label_file


class Decided:
    """A label map that stands in place of scores (classes, H, W).

    SemSegEvaluator takes the arg-max of scores and reads nothing else of them. Scores of 847
    classes at an image's own size would be gigabytes.
    """

    def __init__(self, labels):
        self.labels = labels

    def argmax(self, dim=0):
        """The labels, int64 (H, W)."""
        return self.labels.long()


class LabelMapEvaluator(SemSegEvaluator):
    """Runs the stock evaluator on label maps (H, W) of ids, ``output["label_maps"][mode]``.

    A predicted pixel with the dataset's ignored label belongs to no class, and counts as a miss of
    the true class. (The stock evaluator would take it out of the count, so that saying nothing
    would cost nothing.) To the stock code it is one more class, which never occurs and so enters
    no mean.

    Classes that could not be asked for are left out and do not count as missed. Their pixels are
    ignored in the images concerned; a class that is ignored everywhere enters no mean.

    There is no boundary IoU, because it depends on the numbers of the classes.

    Args:
        dataset_name: a registered and loaded dataset of label maps.
        mode: which label map of an output is scored.
        task: key of the results.
        never: ids of classes without any reference.
        left_out: {file name of an image: ids that could not be asked for in it}.
        output_dir: as of the stock evaluator.
    """

    def __init__(self, dataset_name, mode, task, never=(), left_out=None, output_dir=None):
        super().__init__(dataset_name, output_dir=output_dir, sem_seg_loading_fn=self._truth)
        self.mode, self.task = mode, task
        self.never, self.left_out = list(never), left_out or {}
        self._hidden = self.never
        self.nothing = self._num_classes
        self._num_classes += 1
        self._compute_boundary_iou = False
        self._class_names = [*self._class_names, "nothing"]
        if self._contiguous_id_to_dataset_id is not None:
            self._contiguous_id_to_dataset_id[self.nothing] = self._ignore_label

    def process(self, inputs, outputs):
        for x, out in zip(inputs, outputs, strict=True):
            self._hidden = [*self.never, *self.left_out.get(x["file_name"], ())]
            labels = torch.as_tensor(out["label_maps"][self.mode])
            labels = torch.where(labels == self._ignore_label, self.nothing, labels)
            super().process([x], [{"sem_seg": Decided(labels)}])

    def _truth(self, file_name, copy=False, dtype=None):
        labels = read_label_file(file_name, dtype=dtype)
        labels[np.isin(labels, self._hidden)] = self._ignore_label
        return labels

    def evaluate(self):
        """{task: the stock figures}. Classes that do not occur are NaN, as in the stock figures."""
        found = super().evaluate()
        if not found:
            return found
        metrics = {k: v for k, v in found["sem_seg"].items() if not k.endswith("-nothing")}
        return OrderedDict({self.task: OrderedDict(metrics)})
