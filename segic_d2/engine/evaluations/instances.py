"""One-shot instance segmentation, scored by Detectron2's COCO and LVIS evaluators."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    LVISEvaluator,
    inference_context,
)
from torch import nn
from torch.utils.data import DataLoader

from ...compat import truth_of
from ...data import build_target_loader
from ...data.datasets.annotated import give_truth_file
from ...data.references.instance import InstanceReferences
from ...evaluation import build_coco_evaluator, build_lvis_evaluator
from ...io.rle import mask_fault
from ...modeling.protocol import InContextModel
from ...structures.context import Context
from ...utils.remote import first_line
from .base import Evaluation, Results
from .result_names import conditions

CLASSES_AT_ONCE = 16  # whose references are in memory together


class InstanceFinder(nn.Module):
    """A model that is given its classes once and searches every batch for their objects."""

    def __init__(self, model: Any, context: Context, limit: int) -> None:
        super().__init__()
        self.model, self.context, self.limit = model, context, limit

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return self.model.find_instances(batched_inputs, self.context, self.limit)


def instance_context(model: InContextModel, references: InstanceReferences) -> Context:
    """The context of all classes, task "instance", whose references are encoded a few at a time."""
    contexts, classes = [], list(references.names)
    with inference_context(model):
        for start in range(0, len(classes), CLASSES_AT_ONCE):
            part = classes[start : start + CLASSES_AT_ONCE]
            shown = [r for c in part for r in references.of_class(c)]
            names = {c: references.names[c] for c in part}
            contexts.append(model.encode_context(shown, names, task="instance"))
    return Context.join_entities(contexts)


def check_truth(evaluator: COCOEvaluator | LVISEvaluator, dataset_name: str) -> None:
    """Raise ValueError, naming file and annotation, where the truth would end the process: the
    official API hands it to pycocotools as it is."""
    for annotation, image in truth_of(evaluator):
        try:
            size = int(image["height"]), int(image["width"])
            fault = mask_fault(annotation.get("segmentation"), size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            fault = f"is no mask: {first_line(error)}"
        if fault:
            file = MetadataCatalog.get(dataset_name).get("json_file")
            raise ValueError(
                f"{file}: the mask of annotation {annotation.get('id')} {fault}; correct it, or "
                "name the dataset coco:JSON:IMAGES, which leaves it out"
            )


class CocoInstances(Evaluation, name="coco_instances"):
    """Find objects of every class; COCOEvaluator gives the mask AP."""

    stock = staticmethod(build_coco_evaluator)

    def build_loader(self) -> DataLoader[Any]:
        if not hasattr(self.model, "find_instances"):
            raise ValueError(
                f"TEST.EVALUATORS has {self.name!r}, which needs a model with find_instances; "
                f"{type(self.model).__name__} has none"
            )
        loader = build_target_loader(self.cfg, self.dataset_name, self.cache)
        give_truth_file(self.dataset_name)
        self.need("a file of annotated objects", "json_file")
        return loader

    def build_evaluator(self) -> DatasetEvaluator:
        evaluator = self.stock(self.dataset_name, self.output_dir)  # may lack its package
        check_truth(evaluator, self.dataset_name)
        return evaluator

    def build_model(self) -> InstanceFinder:
        sources = self.cfg.DATASETS.REFERENCE or self.cfg.DATASETS.TRAIN
        self.references = InstanceReferences(self.cfg, sources, self.dataset_name, self.cache)
        self.seen, _ = conditions(self.cfg, self.references.names.values())
        self.verify()  # before all references are encoded
        context = instance_context(self.model, self.references)
        return InstanceFinder(self.model, context, self.cfg.TEST.DETECTIONS_PER_IMAGE)

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        shown, shots = self.references, self.cfg.TEST.SHOTS
        # the text is one sentence for all: the name of no class is given, with META or without
        content = {
            "seen": self.seen,
            "text": "no_text",
            "note": "nobody publishes which objects are the references",
            "metrics": found["segm"],
            "skipped": shown.missing,
            "images": len(self.loader.dataset),  # type: ignore[arg-type]
            "references": {shown.names[c]: files for c, files in shown.files.items()},
        }
        task = f"instances-{self.dataset_name}-{shots}shot-{self.seen}-no_text"
        return {task: found["segm"]}, content


class LvisInstances(CocoInstances, name="lvis_instances"):
    """As ``coco_instances``; LVISEvaluator knows that LVIS does not label everything."""

    stock = staticmethod(build_lvis_evaluator)
