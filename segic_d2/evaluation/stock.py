"""Detectron2's own evaluators, set up to run on numpy 2 and without compiled operators."""

import numpy as np
from detectron2.evaluation import COCOEvaluator, SemSegEvaluator
from detectron2.utils.file_io import PathManager
from PIL import Image


def read_label_file(file_name, copy=False, dtype=None):
    """A label map as an array; SemSegEvaluator's own reader fails on numpy 2 (copy=False)."""
    with PathManager.open(file_name, "rb") as f:
        return np.asarray(Image.open(f)).astype(dtype or np.int64)


def build_sem_seg_evaluator(dataset_name, output_dir=None):
    """The stock SemSegEvaluator of a registered sem_seg dataset."""
    return SemSegEvaluator(dataset_name, output_dir=output_dir, sem_seg_loading_fn=read_label_file)


def build_coco_evaluator(dataset_name, output_dir=None):
    """The stock COCOEvaluator of a registered COCO dataset, masks only, by the official API."""
    return COCOEvaluator(dataset_name, tasks=("segm",), output_dir=output_dir, use_fast_impl=False)
