"""One-shot instance segmentation, scored by Detectron2's COCO and LVIS evaluators."""

import math
from collections import OrderedDict

from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_context
from torch import nn

from ...data import build_target_loader
from ...data.health.verify import verify_loader
from ...data.references.instance import InstanceReferences
from ...evaluation import build_coco_evaluator, build_lvis_evaluator
from ...evaluation.few_shot import write_results
from ...modeling import Context
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from .base import EVALUATION_REGISTRY
from .result_names import conditions

CLASSES_AT_ONCE = 16  # whose references are in memory together


class InstanceFinder(nn.Module):
    """A model that is given its classes once and searches every batch for their objects."""

    def __init__(self, model, context, limit):
        super().__init__()
        self.model, self.context, self.limit = model, context, limit

    def forward(self, batched_inputs):
        return self.model.find_instances(batched_inputs, self.context, self.limit)


def instance_context(model, references):
    """The context of all classes, task "instance". References are encoded a few at a time.

    Args:
        model: ``SegIC``; its mode is restored.
        references: ``InstanceReferences``.
    """
    contexts, classes = [], list(references.names)
    with inference_context(model):
        for start in range(0, len(classes), CLASSES_AT_ONCE):
            part = classes[start : start + CLASSES_AT_ONCE]
            shown = [r for c in part for r in references.of_class(c)]
            names = {c: references.names[c] for c in part}
            contexts.append(model.encode_context(shown, names, task="instance"))
    return Context.joined(contexts)


def _evaluate(cfg, model, dataset_name, output_dir, build_evaluator, benchmark):
    model = getattr(model, "module", model)  # out of DDP
    cache = open_feature_cache(cfg, model)
    loader = build_target_loader(cfg, dataset_name, cache)
    if not MetadataCatalog.get(dataset_name).get("json_file"):
        raise ValueError(
            f"TEST.EVALUATORS has {benchmark!r}, which needs a file of annotated objects "
            f"(json_file); the dataset {dataset_name!r} has none"
        )
    evaluator = build_evaluator(dataset_name, output_dir)  # may lack its package: before the work
    sources = cfg.DATASETS.REFERENCE or cfg.DATASETS.TRAIN
    references = InstanceReferences(cfg, sources, dataset_name, cache)
    # the text is one sentence for all: the name of no class is given, with META or without
    seen, text = conditions(cfg, references.names.values()).split("-")[0], "no_text"
    if cfg.TEST.DAMAGED == "error":  # before all references are encoded
        verify_loader(cfg, loader)
    context = instance_context(model, references)
    finder = InstanceFinder(model, context, cfg.TEST.DETECTIONS_PER_IMAGE)
    found = run_inference(cfg, finder, loader, evaluator, output_dir)
    if not found:
        return {}
    content = {
        "benchmark": benchmark,
        "dataset": dataset_name,
        "shots": cfg.TEST.SHOTS,
        "seen": seen,
        "text": text,
        "images": len(loader.dataset),
        "standard": False,  # nobody publishes which objects are the references
        # a class without objects has no AP, and JSON no NaN
        "metrics": {k: None if math.isnan(v) else v for k, v in found["segm"].items()},
        "skipped": references.missing,
        "references": {references.names[c]: files for c, files in references.files.items()},
    }
    write_results(output_dir, content)
    task = f"instances-{dataset_name}-{cfg.TEST.SHOTS}shot-{seen}-{text}"
    return OrderedDict({task: found["segm"]})


@EVALUATION_REGISTRY.register()
def coco_instances(cfg, model, dataset_name, output_dir):
    """Find objects of every class; COCOEvaluator gives the mask AP."""
    return _evaluate(cfg, model, dataset_name, output_dir, build_coco_evaluator, "coco_instances")


@EVALUATION_REGISTRY.register()
def lvis_instances(cfg, model, dataset_name, output_dir):
    """As ``coco_instances``; LVISEvaluator knows that LVIS does not label everything."""
    return _evaluate(cfg, model, dataset_name, output_dir, build_lvis_evaluator, "lvis_instances")
