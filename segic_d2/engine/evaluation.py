"""Which loader, which outputs and which evaluator belong together (``TEST.EVALUATORS``)."""

import logging
import os
import re
from collections import OrderedDict
from functools import partial

from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_context, print_csv_format
from detectron2.utils import comm
from detectron2.utils.registry import Registry
from torch import nn

from ..data import build_one_shot_loader, build_target_loader, load_references
from ..data.background import background_ids
from ..evaluation import OneShotEvaluator, build_coco_evaluator, build_sem_seg_evaluator
from .feature_cache import open_feature_cache
from .inference import run_inference
from .skipped import evaluate_without_damaged

EVALUATION_REGISTRY = Registry("EVALUATION")
EVALUATION_REGISTRY.__doc__ = """
Ways to evaluate a dataset by name (``TEST.EVALUATORS``): callables (cfg, model, dataset_name,
output_dir) → results of an evaluator.
"""


def evaluate(cfg, model, dataset_name):
    """Run every evaluation of ``TEST.EVALUATORS`` on a dataset and print its table.

    Returns:
        OrderedDict {task: {metric: value}}; empty on all but the main process.
    """
    results = OrderedDict()
    for name in cfg.TEST.EVALUATORS:
        # the name may hold a path ("folder:/data/x"): no part of it may lead out of the folder
        safe = re.sub(r"[^\w-]+", "_", dataset_name).strip("_")
        folder = os.path.join(cfg.OUTPUT_DIR, "inference", safe, name)
        run = partial(EVALUATION_REGISTRY.get(name), cfg, model, dataset_name, folder)
        found = evaluate_without_damaged(cfg, dataset_name, folder, run)
        if comm.is_main_process():
            logging.getLogger(__name__).info(f"{name} on {dataset_name}:")
            print_csv_format(found)
            results.update(found)
    return results


class FixedContext(nn.Module):
    """A model whose references are given once: every batch is segmented with the same context."""

    def __init__(self, model, context, outputs, **sem_seg):
        super().__init__()
        self.model, self.context, self.outputs, self.sem_seg = model, context, outputs, sem_seg

    def forward(self, batched_inputs):
        return self.model.inference(batched_inputs, self.context, self.outputs, **self.sem_seg)


def _with_references(cfg, model, dataset_name, outputs, **sem_seg):
    model = getattr(model, "module", model)  # out of DDP
    sources = cfg.DATASETS.REFERENCE or cfg.DATASETS.TRAIN
    cache = open_feature_cache(cfg, model)
    references, names = load_references(cfg, sources, dataset_name, cache)
    with inference_context(model):
        context = model.encode_context(references, names)
    return FixedContext(model, context, outputs, **sem_seg)


def _needs(dataset_name, evaluator, what, key):
    if not hasattr(MetadataCatalog.get(dataset_name), key):
        raise ValueError(
            f"TEST.EVALUATORS has {evaluator!r}, which needs {what}; the dataset {dataset_name!r} "
            "has none. 'one_shot' evaluates every dataset"
        )


@EVALUATION_REGISTRY.register()
def one_shot(cfg, model, dataset_name, output_dir):
    """Episodes of one target and its references; pooled mIoU and FB-IoU."""
    loader = build_one_shot_loader(cfg, dataset_name, open_feature_cache(cfg, model))
    return run_inference(cfg, model, loader, OneShotEvaluator(dataset_name, output_dir), output_dir)


@EVALUATION_REGISTRY.register()
def sem_seg(cfg, model, dataset_name, output_dir):
    """All classes competing in one label map, by Detectron2's own SemSegEvaluator."""
    meta = MetadataCatalog.get(dataset_name)
    cache = open_feature_cache(cfg, model)
    loader = build_target_loader(cfg, dataset_name, cache)  # loading the dataset fills its metadata
    _needs(dataset_name, "sem_seg", "label maps of all classes (stuff_classes)", "stuff_classes")
    classes = list(meta.stuff_classes)
    background = min(background_ids(dataset_name, classes), default=None)
    fixed = _with_references(
        cfg, model, dataset_name, ("sem_seg",), num_classes=len(classes), background=background
    )
    return run_inference(
        cfg, fixed, loader, build_sem_seg_evaluator(dataset_name, output_dir), output_dir
    )


@EVALUATION_REGISTRY.register()
def coco(cfg, model, dataset_name, output_dir):
    """One instance per entity found, by Detectron2's own COCOEvaluator."""
    loader = build_target_loader(cfg, dataset_name, open_feature_cache(cfg, model))
    _needs(dataset_name, "coco", "COCO instances (json_file)", "json_file")
    fixed = _with_references(cfg, model, dataset_name, ("instances",))
    return run_inference(
        cfg, fixed, loader, build_coco_evaluator(dataset_name, output_dir), output_dir
    )
