"""The evaluation "semantic": label maps of all classes, and of the classes that are present."""

import logging
import math
import os
import re
from functools import partial

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from detectron2.utils import comm

from ...data import build_target_loader
from ...data.datasets.class_list import background_ids
from ...data.health.verify import verify_loader
from ...data.index import load_records
from ...evaluation import LabelMapEvaluator
from ...evaluation.few_shot import write_results
from ...io.masks import IGNORE_LABEL
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from .base import EVALUATION_REGISTRY, _needs
from .context_file import dataset_context
from .label_maps import MODES, LabelMaps, OwnReferences
from .result_names import conditions

logger = logging.getLogger(__name__)
NAMED = 20  # in the log; results.json has all
SHORT = {  # names in results; other datasets keep their own
    "ade20k_sem_seg_val": "ade20k",
    "coco_sem_seg_val": "coco",
    "a847_sem_seg_val": "a847",
    "pc459_sem_seg_val": "pc459",
}


@EVALUATION_REGISTRY.register()
def semantic(cfg, model, dataset_name, output_dir):
    """Measure mIoU by the stock SemSegEvaluator, with all classes competing ("all") and with those
    that an image shows ("present", the paper's "#"). Images are encoded once for both.

    A pixel goes to the class with the highest logit above ``MODEL.SEGIC.TEST.THRESHOLD``. Where no
    class passes, it is background if the dataset has that class. Otherwise it gets the ignored
    label, which counts as a miss. With ``TEST.NO_CLASS`` "best" the highest logit always decides.

    Returns:
        {"sem_seg-<dataset>-all-1shot-seen-text": {"mIoU", …}, "sem_seg-<dataset>-present-…": {…}}.

    Raises:
        ValueError: a dataset without label maps, another ``TEST.NO_CLASS``, or what
            ``dataset_context`` raises.
    """
    if cfg.TEST.NO_CLASS not in ("none", "best"):
        raise ValueError(f"TEST.NO_CLASS is {cfg.TEST.NO_CLASS!r}; it must be 'none' or 'best'")
    model = getattr(model, "module", model)  # out of DDP
    cache = open_feature_cache(cfg, model)
    meta = MetadataCatalog.get(dataset_name)
    targets = load_records(dataset_name)  # which fills the metadata
    _needs(dataset_name, "semantic", "label maps of all classes (stuff_classes)", "stuff_classes")
    loader = build_target_loader(cfg, dataset_name, cache, mapper="labelled_target")
    classes = list(meta.stuff_classes)
    hidden = background_ids(dataset_name, classes)
    verify = partial(verify_loader, cfg, loader) if cfg.TEST.DAMAGED == "error" else lambda: None
    context_file = os.path.join(output_dir, "context.safetensors")
    context = dataset_context(cfg, model, dataset_name, context_file, before=verify)
    never = [i for i in range(len(classes)) if i not in hidden and i not in set(context.ids)]
    references = OwnReferences(context.to(model.device), cfg.TEST.SHOTS)
    left_out = references.left_out(targets)
    skipped = _skipped(classes, never, left_out)
    for what in skipped[:NAMED]:
        logger.warning("%s is not scored: %s", dataset_name, what)
    if len(skipped) > NAMED:
        logger.warning("%s: and %d more", dataset_name, len(skipped) - NAMED)
    maps = LabelMaps(
        model,
        references,
        threshold=model.threshold if cfg.TEST.NO_CLASS == "none" else None,
        nothing=min(hidden, default=meta.get("ignore_label", IGNORE_LABEL)),
    )
    asked = [c for i, c in enumerate(classes) if i not in hidden]
    about, tasks = _describe(cfg, dataset_name, asked, len(targets), skipped)
    evaluator = DatasetEvaluators(
        [
            LabelMapEvaluator(
                *(dataset_name, mode, tasks[mode], never, left_out),
                output_dir=os.path.join(output_dir, mode),
            )
            for mode in MODES
        ]
    )
    results = run_inference(cfg, maps, loader, evaluator, output_dir)
    if comm.is_main_process():
        _write(output_dir, about, {mode: results[task] for mode, task in tasks.items()})
    return results


def _skipped(classes, never, left_out):
    """Texts that name what is not scored, and why: classes, and classes in an image."""
    found = [f"class {i} ({classes[i]}): it has no reference" for i in never]
    for file, ids in sorted(left_out.items()):
        found += [
            f"class {i} ({classes[i]}) in {file}: its only reference is this image" for i in ids
        ]
    return found


def _describe(cfg, dataset_name, classes, images, skipped):
    """The conditions for ``results.json``, and {mode: key of the results}."""
    seen, text = conditions(cfg, classes).split("-")
    name = SHORT.get(dataset_name, re.sub(r"[^\w]+", "_", dataset_name).strip("_"))
    about = {
        "benchmark": f"sem_seg-{name}",
        "shots": cfg.TEST.SHOTS,
        "seen": seen,
        "text": text,
        "images": images,
        "standard": False,  # nobody publishes which pictures are the references
        "note": "the published references were drawn at random and are not known; the paper "
        "compared each shown class's mask with its own truth and merged no label map",
        "skipped": skipped,
    }
    tasks = {mode: f"sem_seg-{name}-{mode}-{cfg.TEST.SHOTS}shot-{seen}-{text}" for mode in MODES}
    return about, tasks


def _write(folder, about, found):
    """Write ``results.json``: "metrics" (mIoU_all, …, mIoU_present, …) and "classes" by mode. A
    class that does not occur is null, because JSON has no NaN."""
    content = {**about, "metrics": {}, "classes": {}}
    for mode, figures in found.items():
        figures = {k: None if math.isnan(v) else float(v) for k, v in figures.items()}
        whole = {f"{k}_{mode}": v for k, v in figures.items() if "-" not in k}
        content["metrics"].update(whole)
        content["classes"][mode] = {k: v for k, v in figures.items() if "-" in k}
    write_results(folder, content)
