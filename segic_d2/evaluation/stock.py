"""Detectron2's own evaluators, set up to run on numpy 2 and without compiled operators."""

from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.evaluation import COCOEvaluator, LVISEvaluator, SemSegEvaluator

from ..structures.picture import read_labels


def read_label_file(file_name: str, dtype: npt.DTypeLike | None = None) -> np.ndarray:
    """Read a label map as training does. (SemSegEvaluator's own reader takes one channel alone, and
    fails on numpy 2: copy=False.)"""
    return read_labels(file_name).astype(dtype or np.int64)


def build_sem_seg_evaluator(dataset_name: str, output_dir: str | None = None) -> SemSegEvaluator:
    """The stock SemSegEvaluator of a registered sem_seg dataset."""
    return SemSegEvaluator(dataset_name, output_dir=output_dir, sem_seg_loading_fn=read_label_file)


def build_coco_evaluator(dataset_name: str, output_dir: str | None = None) -> COCOEvaluator:
    """The stock COCOEvaluator of a registered COCO dataset, masks only, by the official API."""
    return COCOEvaluator(dataset_name, tasks=("segm",), output_dir=output_dir, use_fast_impl=False)


class OldNumpyLVISEvaluator(LVISEvaluator):
    """The stock LVISEvaluator: lvis 0.5.3 calls ``numpy.float``, which numpy 1.24 removed."""

    def evaluate(self) -> dict[str, Any] | None:
        if hasattr(np, "float"):
            return super().evaluate()
        np.float = float  # type: ignore[attr-defined]
        try:
            return super().evaluate()
        finally:
            del np.float  # type: ignore[attr-defined]


def build_lvis_evaluator(dataset_name: str, output_dir: str | None = None) -> LVISEvaluator:
    """The stock LVISEvaluator of a registered LVIS dataset, masks only. ImportError: the optional
    package ``lvis`` is missing."""
    try:
        return OldNumpyLVISEvaluator(dataset_name, tasks=("segm",), output_dir=output_dir)
    except ImportError as error:
        raise ImportError(
            f"evaluating {dataset_name!r} needs the package lvis (pip install 'segic_d2[lvis]'): "
            f"{error}"
        ) from error
