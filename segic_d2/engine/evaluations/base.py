"""An evaluation of a dataset, its ``results.json``, and the loop over those of a config."""

import hashlib
import json
import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, print_csv_format
from detectron2.utils import comm
from detectron2.utils.registry import Registry
from torch import nn
from torch.utils.data import DataLoader

from ...compat import register_as
from ...config.keys import check_config
from ...data.health.verify import verify_loader
from ...modeling.protocol import InContextModel
from ...utils.files import write_whole
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from ..loop.skipped import without_damaged

EVALUATION_REGISTRY = Registry("EVALUATION")
EVALUATION_REGISTRY.__doc__ = "``TEST.EVALUATORS``: (cfg, model, dataset, output_dir) → results."
REPLACED = {"sem_seg": "semantic", "coco": "coco_instances"}  # evaluations that are gone
FILE = "results.json"
LONGEST = 200  # bytes of a folder's name, of the 255 that file systems take

Results = dict[str, Any]  # {task: {metric: value}}


class Evaluation:
    """One evaluation of one dataset. A subclass says what loader, evaluator and model it has, and
    what its results are. ``output_dir`` None: nothing is written."""

    name: str
    loader: DataLoader[Any]

    def __init_subclass__(cls, name: str) -> None:
        """Register an evaluation under a name of ``TEST.EVALUATORS``."""
        cls.name = name
        register_as(EVALUATION_REGISTRY, name, lambda *args: cls(*args).run())

    def __init__(
        self, cfg: CfgNode, model: nn.Module, dataset_name: str, output_dir: str | None
    ) -> None:
        self.cfg, self.dataset_name, self.output_dir = cfg, dataset_name, output_dir
        self.model: InContextModel = getattr(model, "module", model)  # type: ignore[arg-type]
        self.cache = open_feature_cache(cfg, self.model)

    def build_loader(self) -> DataLoader[Any]:
        """A test loader of ``data.build``."""
        raise NotImplementedError

    def build_evaluator(self) -> DatasetEvaluator:
        """The metrics. The loader is there already."""
        raise NotImplementedError

    def build_model(self) -> nn.Module:
        """What turns a batch of the loader into the evaluator's outputs; the last to be built."""
        return self.model

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        """Results under their public names, and what ``results.json`` has beside ``common``, or
        instead."""
        raise NotImplementedError

    def run(self) -> Results:
        """Evaluate, and write ``results.json``; an empty dict on all but the main process."""
        self.loader = self.build_loader()
        evaluator = self.build_evaluator()
        found = run_inference(self.cfg, self.build_model(), self.loader, evaluator, self.output_dir)
        if not found:
            return {}
        results, content = self.report(found)
        write_results(self.output_dir, common(self.cfg, self.name, self.dataset_name) | content)
        return results

    def verify(self) -> None:
        """Name what is damaged now; for those who encode references before the run."""
        if self.cfg.TEST.DAMAGED == "error":
            verify_loader(self.cfg, self.loader)

    def need(self, what: str, key: str) -> None:
        """Raise ValueError unless the dataset's metadata have a key."""
        if not MetadataCatalog.get(self.dataset_name).get(key):
            raise ValueError(
                f"TEST.EVALUATORS has {self.name!r}, which needs {what} ({key}); the dataset "
                f"{self.dataset_name!r} has none. 'one_shot' evaluates every dataset"
            )


def common(cfg: CfgNode, benchmark: str, dataset_name: str) -> dict[str, Any]:
    """What every ``results.json`` has, by default; an evaluation adds what it knows more.

    - "benchmark": an evaluation's name, or a benchmark's such as "coco20i"; "shots": references per
      entity;
    - "seen": "seen", "unseen" or "mixed": whether training named the classes; "": not known;
    - "text": "text" or "no_text": whether the model was given the classes' names;
    - "standard": whether published numbers were measured on these episodes and masks; "note": why
      not, or what else a reader must know;
    - "metrics": {metric: number}, null where there is none; "skipped": what was left out and why.
    """
    text = "text" if cfg.MODEL.SEGIC.META else "no_text"
    return {
        **{"benchmark": benchmark, "dataset": dataset_name, "shots": cfg.TEST.SHOTS},
        **{"seen": "", "text": text, "standard": False, "note": "", "metrics": {}, "skipped": []},
    }


def write_results(folder: str | None, content: Mapping[str, Any]) -> None:
    """Write ``results.json`` into a folder, which is made if it is missing; None: nowhere."""
    if folder:
        write_whole(os.path.join(folder, FILE), json.dumps(_json(content), indent=1))


def _json(value: Any) -> Any:
    """A value with plain numbers; NaN and infinity are null, because JSON has none."""
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    return float(value) if math.isfinite(value) else None


def evaluate(cfg: CfgNode, model: nn.Module, dataset_name: str) -> OrderedDict[str, Any]:
    """Run every evaluation of ``TEST.EVALUATORS`` on a dataset and print its table: {task: {metric:
    value}}; empty on all but the main process. ValueError: a name that is not registered."""
    check_config(cfg, "TEST")
    results: OrderedDict[str, Any] = OrderedDict()
    for name, run in find_evaluations(cfg).items():
        # the name may hold a path ("folder:/data/x"): no part of it may lead out of the folder
        safe = re.sub(r"[^\w-]+", "_", dataset_name).strip("_")
        if len(safe.encode()) > LONGEST:  # two of one end differ by a hash
            end = safe.encode()[-LONGEST:].decode(errors="ignore")
            safe = f"{hashlib.sha256(dataset_name.encode()).hexdigest()[:8]}_{end}"
        folder = os.path.join(cfg.OUTPUT_DIR, "inference", safe, name)
        file = os.path.join(folder, FILE)
        if comm.is_main_process() and os.path.exists(file):
            os.remove(file)
        own, skipped = without_damaged(cfg, partial(run, cfg, model, dataset_name, folder))
        if comm.is_main_process():
            _complete(file, common(cfg, name, dataset_name), own, skipped)
            logging.getLogger(__name__).info(f"{name} on {dataset_name}:")
            print_csv_format(own)
            results.update(own)
    return results


def find_evaluations(cfg: CfgNode) -> dict[str, Callable[..., Results]]:
    """What ``TEST.EVALUATORS`` names. ValueError: a name that is not registered."""
    known = ", ".join(sorted(name for name, _ in EVALUATION_REGISTRY))
    for name in cfg.TEST.EVALUATORS:
        if name not in EVALUATION_REGISTRY:
            instead = f"; {REPLACED[name]!r} takes its place" if name in REPLACED else ""
            raise ValueError(f"TEST.EVALUATORS has {name!r}, but there are only {known}{instead}")
    return {name: EVALUATION_REGISTRY.get(name) for name in cfg.TEST.EVALUATORS}


def _complete(file: str, plain: dict[str, Any], results: Results, skipped: list[str]) -> None:
    """Add to ``results.json`` what it lacks; a function that wrote none gets one."""
    content = dict(plain)
    if os.path.exists(file):
        with open(file, encoding="utf-8") as f:
            content |= json.load(f)
    else:
        for task, own in results.items():
            prefix = f"{task}/" if len(results) > 1 else ""
            content["metrics"] |= {prefix + k: v for k, v in own.items() if k != "skipped"}
    write_results(os.path.dirname(file), content | {"skipped": [*content["skipped"], *skipped]})
