"""The registry of evaluations, and the loop over those that a config names."""

import logging
import os
import re
from collections import OrderedDict
from functools import partial

from detectron2.data import MetadataCatalog
from detectron2.evaluation import print_csv_format
from detectron2.utils import comm
from detectron2.utils.registry import Registry

from ..loop.skipped import evaluate_without_damaged

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


def _needs(dataset_name, evaluator, what, key):
    if not hasattr(MetadataCatalog.get(dataset_name), key):
        raise ValueError(
            f"TEST.EVALUATORS has {evaluator!r}, which needs {what}; the dataset {dataset_name!r} "
            "has none. 'one_shot' evaluates every dataset"
        )
