"""Finished label maps, scored by Detectron2's own SemSegEvaluator."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator

from ..compat import add_class
from .pooling import Dicts, Report
from .stock import read_label_file


class Decided:
    """A label map that stands in place of scores (classes, H, W). SemSegEvaluator reads only their
    arg-max, and scores of 847 classes at an image's own size would be gigabytes."""

    def __init__(self, labels: torch.Tensor) -> None:
        self.labels = labels

    def argmax(self, dim: int = 0) -> torch.Tensor:
        """The labels, int64 (H, W)."""
        return self.labels.long()


class LabelMapEvaluator(SemSegEvaluator):
    """Runs the stock evaluator on label maps (H, W) of ids, ``output["label_maps"][mode]``. A
    predicted pixel with the dataset's ignored label belongs to no class, and counts as a miss of
    the true class. (The stock evaluator would leave it out: saying nothing would cost nothing.) To
    the stock code it is one more class, which never occurs and so enters no mean. Classes that
    could not be asked for, ``never`` in any image and ``left_out`` in those of these file names, do
    not count as missed: their pixels are ignored, and a class that is ignored everywhere enters no
    mean. There is no boundary IoU, which depends on the classes' numbers."""

    def __init__(
        self,
        dataset_name: str,
        mode: str,
        task: str,
        never: Sequence[int] = (),
        left_out: Mapping[str, Sequence[int]] | None = None,
        output_dir: str | None = None,
    ) -> None:
        super().__init__(dataset_name, output_dir=output_dir, sem_seg_loading_fn=self._truth)
        self.mode, self.task = mode, task
        self.never, self.left_out = list(never), left_out or {}
        self._hidden = self.never
        self.ignored = MetadataCatalog.get(dataset_name).ignore_label
        self.nothing = add_class(self, "nothing", self.ignored)

    def process(self, inputs: Dicts, outputs: Dicts) -> None:
        for x, out in zip(inputs, outputs, strict=True):
            self._hidden = [*self.never, *self.left_out.get(x["file_name"], ())]
            labels = torch.as_tensor(out["label_maps"][self.mode])
            labels = torch.where(labels == self.ignored, self.nothing, labels)
            super().process([x], [{"sem_seg": Decided(labels)}])

    def _truth(self, file_name: str, dtype: npt.DTypeLike | None = None) -> np.ndarray:
        labels = read_label_file(file_name, dtype=dtype)
        labels[np.isin(labels, self._hidden)] = self.ignored
        return labels

    def evaluate(self) -> Report | None:
        """{task: the stock figures}. Classes that do not occur are NaN, as in the stock figures."""
        found = super().evaluate()
        if not found:
            return found
        metrics = {k: v for k, v in found["sem_seg"].items() if not k.endswith("-nothing")}
        return OrderedDict({self.task: OrderedDict(metrics)})
