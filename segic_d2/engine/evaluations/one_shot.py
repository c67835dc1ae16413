"""The evaluations "one_shot" (random episodes), "sem_seg" and "coco" (a fixed context)."""

from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_context
from torch import nn

from ...data import build_one_shot_loader, build_target_loader, load_references
from ...data.datasets.class_list import background_ids
from ...evaluation import OneShotEvaluator, build_coco_evaluator, build_sem_seg_evaluator
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from .base import EVALUATION_REGISTRY, _needs


class FixedContext(nn.Module):
    """A model that segments every batch with the same context."""

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


@EVALUATION_REGISTRY.register()
def one_shot(cfg, model, dataset_name, output_dir):
    """Segment episodes of one target and its references; mIoU and FB-IoU are pooled."""
    loader = build_one_shot_loader(cfg, dataset_name, open_feature_cache(cfg, model))
    return run_inference(cfg, model, loader, OneShotEvaluator(dataset_name, output_dir), output_dir)


@EVALUATION_REGISTRY.register()
def sem_seg(cfg, model, dataset_name, output_dir):
    """Let all classes compete in one label map; Detectron2's SemSegEvaluator scores it."""
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
    """Find at most one instance per class; Detectron2's COCOEvaluator scores them."""
    loader = build_target_loader(cfg, dataset_name, open_feature_cache(cfg, model))
    _needs(dataset_name, "coco", "COCO instances (json_file)", "json_file")
    fixed = _with_references(cfg, model, dataset_name, ("instances",))
    return run_inference(
        cfg, fixed, loader, build_coco_evaluator(dataset_name, output_dir), output_dir
    )
