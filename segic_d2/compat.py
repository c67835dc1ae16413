"""Private members of Detectron2, fvcore and torch that the package touches, each with its reason.

An update that changes one of them breaks here, and tests/test_compat.py names it. Overriding a
method that a base class calls (``_load_file``, ``_infinite_indices``) is subclassing and stands
where the subclass does.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    SemSegEvaluator,
)
from detectron2.solver.build import _create_gradient_clipper
from detectron2.utils.registry import Registry
from fvcore.common.checkpoint import _IncompatibleKeys as IncompatibleKeys
from torch import Tensor, nn

__all__ = ["IncompatibleKeys"]  # what a checkpointer's ``_load_model`` returns

COUNTS = {  # what stock evaluators have counted so far: they have no state_dict
    SemSegEvaluator: ("_conf_matrix", "_b_conf_matrix", "_predictions"),
    COCOEvaluator: ("_predictions",),
    LVISEvaluator: ("_predictions",),
}


def counts_of(evaluator: DatasetEvaluator) -> tuple[str, ...] | None:
    """Names of the attributes in which a stock evaluator counts; None: it is no stock evaluator."""
    return next((names for kind, names in COUNTS.items() if isinstance(evaluator, kind)), None)


def parts_of(evaluator: DatasetEvaluators) -> list[DatasetEvaluator]:
    """The evaluators in a ``DatasetEvaluators``, which shows none of them."""
    return evaluator._evaluators


def image_ids(evaluator: COCOEvaluator) -> list[int]:
    """All images of an evaluator's ground truth, to leave some out."""
    return evaluator._coco_api.getImgIds()


def truth_of(
    evaluator: COCOEvaluator | LVISEvaluator,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each annotation of an evaluator's ground truth, and its image."""
    api = evaluator._lvis_api if isinstance(evaluator, LVISEvaluator) else evaluator._coco_api
    return ((a, api.imgs[a["image_id"]]) for a in api.anns.values() if a["image_id"] in api.imgs)


def add_class(evaluator: SemSegEvaluator, name: str, dataset_id: int) -> int:
    """Let an evaluator know one more class, which no truth shows; returns its id. There is no
    boundary IoU then, which depends on the numbers of the classes."""
    new = evaluator._num_classes
    evaluator._num_classes += 1
    evaluator._compute_boundary_iou = False
    evaluator._class_names = [*evaluator._class_names, name]
    if evaluator._contiguous_id_to_dataset_id is not None:
        evaluator._contiguous_id_to_dataset_id[new] = dataset_id
    return new


class GivenTrainer(DefaultTrainer):
    """DefaultTrainer around an inner trainer; its own constructor cannot run DDP without a GPU."""

    def __init__(self, inner: SimpleTrainer) -> None:
        TrainerBase.__init__(self)
        self._trainer = inner


def gradient_clipper(options: CfgNode) -> Callable[[Tensor], None]:
    """Detectron2's clipping of one tensor (``SOLVER.CLIP_GRADIENTS``); in public it offers whole
    optimizers alone, which fail on tensors without a gradient."""
    return _create_gradient_clipper(options)


def forget_failed_load(checkpointer: DetectionCheckpointer) -> None:
    """Let a checkpointer load again; Detectron2 leaves an address behind where a load failed."""
    checkpointer._parsed_url_during_load = None


def register_as(registry: Registry, name: str, value: object) -> None:
    """Register under a name that is not the object's own, which fvcore's ``register`` takes."""
    registry._do_register(name, value)


def end_workers(batches: Iterator[Any] | None) -> None:
    """End the worker processes of a loader's iterator, which a kept traceback would hold."""
    stop = getattr(batches, "_shutdown_workers", None)  # only an iterator with workers has it
    if stop:
        stop()


def with_members(
    module: nn.Module, parameters: Mapping[str, Tensor], modules: Mapping[str, nn.Module]
) -> nn.Module:
    """A shallow copy of a module with some members replaced; torch's setattr would change both, and
    refuses tensors that are no parameters."""
    copied = copy.copy(module)
    copied._parameters = {**module._parameters, **parameters}  # type: ignore[dict-item]
    copied._modules = {**module._modules, **modules}
    return copied


def version_of(tensor: Tensor) -> int:
    """A number that grows whenever a tensor is written in place."""
    return tensor._version
