"""The context of all classes of a dataset, made once from references and kept on disk."""

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_context
from detectron2.utils import comm

from ...data import build_reference_loader, plan_references, same_file
from ...data.health.damaged import Damaged, message, report
from ...data.index import load_records
from ...data.references.plan import cut_to_readable
from ...modeling.protocol import InContextModel
from ...structures.context import Context
from ...utils.files import AnyPath
from ..hooks.feature_cache import open_feature_cache

logger = logging.getLogger(__name__)


def dataset_context(
    cfg: CfgNode,
    model: InContextModel,
    dataset_name: str,
    default_file: AnyPath,
    before: Callable[[], None] = lambda: None,
) -> Context:
    """A context with up to ``TEST.SHOTS`` references of each class of a dataset.

    The references are drawn with ``TEST.SEED`` from ``DATASETS.REFERENCE``, or ``DATASETS.TRAIN``
    where that is empty; each picture is encoded once, by one of the processes. Where images to be
    segmented are among them, each class gets one more, so that ``TEST.SHOTS`` remain in a target
    that is one of them. The context is kept in ``TEST.CONTEXT_FILE``, or else in ``default_file``,
    and read from there the next time, without the references' datasets. A file of another model,
    seed, number of shots, dataset or references is made anew, with a line in the log. ``before`` is
    called when the references have been chosen, before anything is encoded or written.
    ``about["files"]`` of the result names the reference of each entity and shot. ValueError: a file
    of ``TEST.CONTEXT_FILE`` that does not fit, is no context, or is not on all machines;
    ``DATASETS.TRAIN`` holds the dataset itself and ``DATASETS.REFERENCE`` is empty; what
    ``plan_references`` raises.
    """
    load_records(dataset_name)  # which fills its metadata
    about = _about(cfg, dataset_name)
    file, named = Path(cfg.TEST.CONTEXT_FILE or default_file), bool(cfg.TEST.CONTEXT_FILE)
    context = None
    there = comm.all_gather(file.is_file())
    if named and any(there) and not all(there):
        raise ValueError(f"TEST.CONTEXT_FILE {file} is not on all machines: copy it to them")
    if all(there):
        fault, cause = "", None
        try:
            context = _read(file, model, about, cfg.TEST.DAMAGED)
        except ValueError as error:
            fault, cause = str(error), error
        fault = next(filter(None, comm.all_gather(fault)), "")  # each machine may have its own file
        if fault and named:
            raise ValueError(
                f"TEST.CONTEXT_FILE {file} does not fit: {fault}. Name another file, or remove "
                "it to have it made anew"
            ) from cause
        if fault:
            context = None
            logger.info("making %s anew: %s", file, fault)
    if context is None:
        context = _encoded(cfg, model, about, before)
        if comm.is_main_process():
            context.save(file)
            logger.info("the context of %d classes is in %s", len(context), file)
    comm.synchronize()
    return context


def _about(cfg: CfgNode, dataset_name: str) -> dict[str, Any]:
    """What the references depend on, in JSON's types."""
    sources = list(cfg.DATASETS.REFERENCE or dict.fromkeys(cfg.DATASETS.TRAIN))
    if not cfg.DATASETS.REFERENCE and dataset_name in sources:
        raise ValueError(
            f"DATASETS.REFERENCE is empty and DATASETS.TRAIN holds {dataset_name!r}, which is "
            "to be evaluated. To take its references from itself, name it in DATASETS.REFERENCE"
        )
    return {
        "dataset": dataset_name,
        "classes": list(MetadataCatalog.get(dataset_name).stuff_classes),
        "references": sources,
        "shots": cfg.TEST.SHOTS,
        "seed": cfg.TEST.SEED,
    }


def _read(file: Path, model: InContextModel, about: Mapping[str, Any], policy: str) -> Context:
    """A file's context; ValueError: it does not fit."""
    context = Context.load(file)
    context.check(model.fingerprint)
    if not context.fingerprint or "files" not in context.about:
        raise ValueError("it is no context of a whole dataset")
    for key, value in about.items():
        if context.about.get(key) != value:
            if key == "classes":
                raise ValueError(f"its classes are not those of {about['dataset']!r}")
            raise ValueError(f"its {key} is {context.about.get(key)!r}, not {value!r}")
    damaged = [Damaged(**damage) for damage in context.about.get("left_out", ())]
    if damaged and policy == "error":
        raise ValueError(f"it was made without damaged references: {message(damaged)}")
    report(damaged)
    return context


def _encoded(
    cfg: CfgNode, model: InContextModel, about: Mapping[str, Any], before: Callable[[], None]
) -> Context:
    """The context, made by all processes together."""
    dataset_name = about["dataset"]
    plan = plan_references(cfg, about["references"], dataset_name)
    targets = {same_file(r["file_name"]) for r in load_records(dataset_name)}
    among = any(same_file(file) in targets for source in plan.sources for file in source.files)
    shots = cfg.TEST.SHOTS + among  # one to spare
    plan, left_out = cut_to_readable(cfg, plan, shots)
    before()
    about = {**about, "left_out": [{"item": d.item, "reason": d.reason} for d in left_out]}
    loader = build_reference_loader(cfg, plan, shots, open_feature_cache(cfg, model))
    logger.info("encoding the references of %d classes of %s", len(plan.picks), dataset_name)
    pieces = []
    with inference_context(model):
        for references in loader:
            names = {i: plan.names[i // shots] for r in references for i in r["entity_ids"]}
            pieces.append(model.encode_context(references, names).to("cpu"))
    pieces = list(itertools.chain(*comm.all_gather(pieces)))
    files = [[str(plan.file(p)) for p in picks] for picks in plan.picks.values()]
    whole = Context.join_entities(pieces)  # entity c·shots + k is shot k of class c
    row_of = {class_id: row for row, class_id in enumerate(plan.picks)}
    rows, columns = [row_of[i // shots] for i in whole.ids], [i % shots for i in whole.ids]
    whole = whole.arrange(rows, columns, list(row_of), [plan.names[i] for i in row_of])
    return replace(whole, fingerprint=model.fingerprint, about={**about, "files": files})
