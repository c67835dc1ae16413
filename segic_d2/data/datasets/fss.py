"""FSS-1000: a folder per class with ten images and their masks, in three fixed splits.

``fss_1000_{train,val,test}`` are registered with ``$DETECTRON2_DATASETS/FSS-1000``. The splits of
520, 240 and 240 classes are those of HSNet (data/splits/fss), one class folder per line::

    FSS-1000/<class>/{1..10}.jpg   FSS-1000/<class>/{1..10}.png
    FSS-1000/splits/{trn,val,test}.txt
"""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.files import AnyPath
from .folder import class_title, load_classes

SPLITS = {"train": "trn", "val": "val", "test": "test"}


def fss_classes(root: AnyPath, split: str) -> list[str]:
    """Folder names of the classes of a split, sorted, so by class id. FileNotFoundError: naming its
    list."""
    file = Path(root) / "splits" / f"{SPLITS[split]}.txt"
    if not file.is_file():
        raise FileNotFoundError(
            f"no file {file}: the class list of the split, published with HSNet (data/splits/fss)"
        )
    return sorted(file.read_text(encoding="utf-8").split())


def register_fss(name: str, root: AnyPath, split: str) -> None:
    """Register a split of FSS-1000. Its list and images are read when it is first loaded, where
    FileNotFoundError names the list or class folder that is missing."""
    DatasetCatalog.register(name, lambda: _load(name, Path(root), split))
    MetadataCatalog.get(name).set(root=str(root), evaluator_type="one_shot")


def register_all_fss(root: AnyPath) -> None:
    """Register ``fss_1000_{train,val,test}`` below a folder of datasets."""
    for split in SPLITS:
        register_fss(f"fss_1000_{split}", os.path.join(root, "FSS-1000"), split)


def _load(name, root, split):
    classes = fss_classes(root, split)
    missing = [c for c in classes if not (root / c).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"dataset {name!r}: {len(missing)} of its {len(classes)} class folders are missing, "
            f"such as {root / missing[0]}"
        )
    MetadataCatalog.get(name).set(thing_classes=[class_title(c) for c in classes])
    return load_classes(name, [root / c for c in classes])
