"""The embedded dataset: scenes of textured shapes, generated in seconds, never downloaded.

A category is a shape family with a photographic texture ("brick star"); an entity of a category
is all visible pixels of all objects of that category. The split `novel` has shape families and
textures that `train` and `seen` never name. Each split is a folder that serves three forms::

    <root>/<split>/images/0001.jpg
    <root>/<split>/masks/0001.png     label map: 0 background, 1 … N the categories
    <root>/<split>/classes.txt        "id name" per line
    <root>/<split>/instances.json     COCO instances, exact masks as RLE

registered as ``shapes_{train,seen,novel}_{coco,sem_seg,folder}`` and written on first use.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json, load_sem_seg
from detectron2.utils.file_io import PathHandler, PathManager

from ....utils.files import cache_folder, locked
from ..folder import register_folder_dataset
from .splits import SEED, SIZES, VOCABULARIES, generate

VERSION = 7  # counts up whenever the same parameters would draw other files
PREFIX = "shapes://"  # "shapes://train/instances.json" is generated when it is asked for
IGNORE_LABEL = 255


def shapes_root(**parameters: int) -> Path:
    """The folder of the generated dataset, whose name depends on the parameters of `generate`. If
    it is missing, one process writes it."""
    chosen = {**{f"num_{split}": n for split, n in SIZES.items()}, "seed": SEED, **parameters}
    described = [chosen, {split: v.names for split, v in VOCABULARIES.items()}]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    root = cache_folder() / f"shapes-v{VERSION}-{digest}"
    if root.is_dir():
        return root
    with locked(root):
        if not root.is_dir():
            logging.getLogger(__name__).info("generating the embedded dataset in %s", root)
            temporary = tempfile.mkdtemp(prefix=f"{root.name}.", dir=root.parent)
            try:
                generate(temporary, **chosen)
                os.chmod(temporary, 0o755)  # mkdtemp's folders are closed to other users
                os.rename(temporary, root)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return root


class _ShapesPathHandler(PathHandler):
    """Lets Detectron2 open "shapes://…", so that stock evaluators find files not yet written."""

    def _get_supported_prefixes(self):
        return [PREFIX]

    def _get_local_path(self, path, force=False, **kwargs):
        return str(shapes_root() / path[len(PREFIX) :])

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        return open(self._get_local_path(path), mode, buffering)

    def _isfile(self, path, **kwargs):
        return os.path.isfile(self._get_local_path(path))

    def _isdir(self, path, **kwargs):
        return os.path.isdir(self._get_local_path(path))

    def _exists(self, path, **kwargs):
        return os.path.exists(self._get_local_path(path))

    def _ls(self, path, **kwargs):
        return os.listdir(self._get_local_path(path))


def _load_coco(split, name):
    images = f"{shapes_root()}/{split}/images"
    return load_coco_json(f"{PREFIX}{split}/instances.json", images, name)


def _load_sem_seg(split):
    return load_sem_seg(*(f"{shapes_root()}/{split}/{kind}" for kind in ("masks", "images")))


def register_shapes() -> None:
    """Register ``shapes_{train,seen,novel}_{coco,sem_seg,folder}``; a second call does nothing.
    Class i > 0 of the sem_seg and folder forms is the category with id i of the coco form, whose
    contiguous ids start at 0. Files are written when a dataset is loaded, or a "shapes://…" is
    opened."""
    if "shapes_train_coco" in DatasetCatalog:
        return
    PathManager.register_handler(_ShapesPathHandler())
    for split, vocabulary in VOCABULARIES.items():
        folder, names = f"{PREFIX}{split}", vocabulary.names
        coco, sem_seg = f"shapes_{split}_coco", f"shapes_{split}_sem_seg"
        DatasetCatalog.register(coco, partial(_load_coco, split, coco))
        MetadataCatalog.get(coco).set(
            thing_classes=names,
            thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(names))},
            json_file=f"{folder}/instances.json",
            image_root=f"{folder}/images",
            evaluator_type="coco",
        )
        DatasetCatalog.register(sem_seg, partial(_load_sem_seg, split))
        labels = {"background_label": 0, "ignore_label": IGNORE_LABEL, "evaluator_type": "sem_seg"}
        labels["stuff_classes"] = ["background", *names]
        MetadataCatalog.get(sem_seg).set(
            image_root=f"{folder}/images", sem_seg_root=f"{folder}/masks", **labels
        )
        register_folder_dataset(f"shapes_{split}_folder", folder, **labels)
