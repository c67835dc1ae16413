"""The context of all classes of a dataset. It is made once and kept on disk."""

import itertools
import logging
import os
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_context
from detectron2.utils import comm

from ...data import build_reference_loader, plan_references, same_file
from ...data.health.damaged import Damaged, message, report
from ...data.index import load_records
from ...data.references.plan import cut_to_readable
from ...structures.context import Context
from ..hooks.feature_cache import open_feature_cache

logger = logging.getLogger(__name__)


def dataset_context(cfg, model, dataset_name, default_file, before=lambda: None):
    """A context with up to ``TEST.SHOTS`` references of each class of a dataset.

    The references are drawn with ``TEST.SEED`` from ``DATASETS.REFERENCE``, or from
    ``DATASETS.TRAIN`` where that is empty. Each picture is encoded once, by one of the processes.
    Where images to be segmented are among them, each class gets one more. Then ``TEST.SHOTS``
    remain for a target that is itself a reference.

    The context is kept in ``TEST.CONTEXT_FILE``, or else in ``default_file``, and is read from
    there the next time. Neither references nor their datasets are needed then. A file of another
    model, input, seed, number of shots, dataset or list of references is made anew, with a line in
    the log; if ``TEST.CONTEXT_FILE`` names it, that is an error instead.

    Args:
        cfg: config.
        model: ``SegIC``, in any mode.
        dataset_name: the dataset to be segmented.
        default_file: path in the output folder.
        before: called when the references have been chosen, before anything is encoded or written.

    Returns:
        Context; ``about["files"]`` names the reference of each entity and shot.

    Raises:
        ValueError: a file of ``TEST.CONTEXT_FILE`` that does not fit, or is no context;
            ``DATASETS.TRAIN`` holds the dataset itself and ``DATASETS.REFERENCE`` is empty; what
            ``plan_references`` raises.
    """
    load_records(dataset_name)  # which fills its metadata
    about = _about(cfg, dataset_name)
    file, named = Path(cfg.TEST.CONTEXT_FILE or default_file), bool(cfg.TEST.CONTEXT_FILE)
    context = None
    if _everywhere(file.is_file()):
        try:
            context = Context.load(file)
            _check(context, model, about, cfg.TEST.DAMAGED)
        except ValueError as error:
            if named:
                raise ValueError(
                    f"TEST.CONTEXT_FILE {file} does not fit: {error}. Name another file, or remove "
                    "it to have it made anew"
                ) from error
            logger.info("making %s anew: %s", file, error)
            context = None
    if context is None:
        context = _encoded(cfg, model, dataset_name, about, before)
        if comm.is_main_process():
            _save(context, file)
    comm.synchronize()
    return context


def _everywhere(found):
    """Whether all processes found the file."""
    return all(comm.all_gather(found))


def _about(cfg, dataset_name):
    """The part of a config that the references depend on, in JSON's types."""
    sources = list(cfg.DATASETS.REFERENCE)
    if not sources:
        sources = list(dict.fromkeys(cfg.DATASETS.TRAIN))
        if dataset_name in sources:
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


def _check(context, model, about, policy):
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


def _encoded(cfg, model, dataset_name, about, before):
    """Make the context, with all processes together."""
    plan = plan_references(cfg, about["references"], dataset_name)
    targets = {same_file(r["file_name"]) for r in load_records(dataset_name)}
    among = any(same_file(file) in targets for source in plan.sources for file in source.files)
    shots = cfg.TEST.SHOTS + among  # one to spare
    plan, left_out = cut_to_readable(cfg, plan, shots)
    before()
    about = {**about, "left_out": [{"item": d.item, "reason": d.reason} for d in left_out]}
    loader = build_reference_loader(cfg, plan, shots, open_feature_cache(cfg, model))
    logger.info(
        "encoding the references of %d classes of %s, in %d groups",
        *(len(plan.picks), dataset_name, len(loader.dataset)),
    )
    pieces = []
    with inference_context(model):
        for references in loader:
            names = {i: plan.names[i // shots] for r in references for i in r["entity_ids"]}
            pieces.append(model.encode_context(references, names).to("cpu"))
    pieces = list(itertools.chain(*comm.all_gather(pieces)))
    files = [[str(plan.file(p)) for p in picks] for picks in plan.picks.values()]
    return _joined(pieces, plan, shots, model.fingerprint, {**about, "files": files})


def _joined(pieces, plan, shots, fingerprint, about):
    """Join contexts whose entity c·shots + k is shot k of class c into one of N classes."""
    whole = Context.joined(pieces)
    row_of = {class_id: row for row, class_id in enumerate(plan.picks)}
    rows = torch.tensor([row_of[i // shots] for i in whole.ids])
    columns = torch.tensor([i % shots for i in whole.ids])

    def placed(values):
        size = len(row_of), max(map(len, plan.picks.values())), *values.shape[2:]
        return values.new_zeros(size).index_put((rows, columns), values[:, 0])

    meta = whole.meta
    if meta is not None:
        meta = meta.new_zeros(len(row_of), meta.shape[1]).index_put((rows,), meta)
    return Context(
        **{name: placed(values) for name, values in whole.shot_tensors().items()},
        meta=meta,
        ids=list(row_of),
        names=[plan.names[i] for i in row_of],
        fingerprint=fingerprint,
        about=about,
    )


def _save(context, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    context.save(part)
    os.replace(part, file)  # whoever finds it finds all of it
    logger.info("the context of %d classes is in %s", len(context), file)
