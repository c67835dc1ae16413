"""Looks for the files of a run's datasets before anything is built or started."""

import difflib
import os

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..benchmarks import missing_files
from ..datasets import register_by_name

# evaluations that read DATASETS.REFERENCE
FIXED_REFERENCES = {"semantic", "coco_instances", "lvis_instances"}
SCRIPTS = {  # in datasets/, by a part of the path of the folder that it makes
    os.path.join("ADEChallengeData2016", "annotations_detectron2"): "prepare_ade20k.py",
    os.path.join("coco", "semantic_"): "prepare_coco_semantic.py",
}


def check_data(cfg: CfgNode, training: bool = True) -> None:
    """Look for the folders and files of every dataset that a run will read; it is cheap.
    ``training``: also ``DATASETS.TRAIN``. FileNotFoundError names each dataset that lacks files,
    its key, and the first place where nothing is; ValueError each name that is not registered, its
    key and similar names, before what is missing."""
    keys = ["TRAIN", "TEST"] if training else ["TEST"]
    evaluators = set(cfg.TEST.EVALUATORS)
    if os.path.isfile(cfg.TEST.CONTEXT_FILE):
        evaluators -= {"semantic"}  # this context, made before, replaces the references
    if cfg.DATASETS.TEST and FIXED_REFERENCES & evaluators:
        keys += ["REFERENCE" if cfg.DATASETS.REFERENCE else "TRAIN"]
    missing, unknown = {}, {}
    for key in keys:
        for name in cfg.DATASETS[key]:
            what = ""
            try:
                what = _missing(name, f"DATASETS.{key}")
            except ValueError as error:
                unknown[name] = str(error)
            if what:
                missing.setdefault(name, f"{name!r} (DATASETS.{key}): {what}")
    message = "; ".join(unknown.values())
    if missing:
        root = os.getenv("DETECTRON2_DATASETS", "datasets")
        message = f"{message}; " if message else ""
        message += (
            f"missing data: {'; '.join(missing.values())}. Detectron2's datasets are looked for in "
            f"$DETECTRON2_DATASETS, now {os.path.abspath(os.path.expanduser(root))}; "
            "datasets/README.md shows what belongs where"
        )
    if message:
        raise ValueError(message) if unknown else FileNotFoundError(message)


def _missing(name, key):
    """What a dataset lacks, in a few words; "" if nothing is missing or its places are unknown."""
    register_by_name(name)
    if name not in DatasetCatalog:
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
        hint = f"; similar: {', '.join(near)}" if near else ""
        if os.path.isdir(name):
            raise ValueError(f"{key} names {name!r}, a folder: as a dataset it is 'folder:{name}'")
        raise ValueError(
            f"{key} names {name!r}, which is neither a folder nor a registered dataset{hint}"
        )
    metadata = MetadataCatalog.get(name)
    if metadata.get("benchmark"):
        return missing_files(metadata.benchmark, metadata.fold)
    if metadata.get("base"):  # a part of another dataset
        return _missing(metadata.base, key)
    for file in map(metadata.get, ("json_file", "class_file")):
        if _is_local(file) and not os.path.isfile(file):
            return f"no file {file}"
    for folder in map(metadata.get, ("image_root", "sem_seg_root", "root")):
        if not _is_local(folder):
            continue
        if metadata.get("evaluator_type") == "lvis":  # its root holds COCO's folders
            folder = os.path.join(folder, "train2017" if "train" in name else "val2017")
        if not os.path.isdir(folder):
            makers = [script for part, script in SCRIPTS.items() if part in str(folder)]
            advice = f", which datasets/{makers[0]} makes" if makers else ""
            return f"no folder {folder}{advice}"
        if not any(os.scandir(folder)):
            return f"nothing in the folder {folder}"
    return ""


def _is_local(path):
    """Whether a place in the metadata is a path; "shapes://…" and the like are made on demand."""
    return bool(path) and "://" not in str(path)
