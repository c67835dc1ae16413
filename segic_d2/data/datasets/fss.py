"""FSS-1000: a folder per class with ten images and their masks, in three fixed splits.

``fss_1000_{train,val,test}`` are registered with ``$DETECTRON2_DATASETS/FSS-1000`` (default
``./datasets/FSS-1000``); the splits of 520, 240 and 240 classes are the usual ones of few-shot
segmentation::

    FSS-1000/<class>/{1..10}.jpg   FSS-1000/<class>/{1..10}.png
"""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .folder import class_title, load_classes

SPLITS = ("train", "val", "test")


def fss_classes(split):
    """Folder names of the classes of a split, sorted; a class id is the position in this list."""
    file = Path(__file__).with_name("fss_1000") / f"{split}.txt"
    return sorted(file.read_text(encoding="utf-8").split())


def register_fss(name, root, classes):
    """Register class folders of FSS-1000, which are read when the dataset is first loaded.

    Loading raises:
        FileNotFoundError: naming a class folder that is missing.
    """
    DatasetCatalog.register(name, lambda: _load(name, Path(root), classes))
    MetadataCatalog.get(name).set(
        root=str(root),
        thing_classes=[class_title(c) for c in classes],
        evaluator_type="one_shot",
    )


def register_all_fss(root):
    """Register ``fss_1000_{train,val,test}`` below a folder of datasets."""
    for split in SPLITS:
        register_fss(f"fss_1000_{split}", os.path.join(root, "FSS-1000"), fss_classes(split))


def _load(name, root, classes):
    missing = [c for c in classes if not (root / c).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"dataset {name!r}: {len(missing)} of its {len(classes)} class folders are missing, "
            f"such as {root / missing[0]}"
        )
    return load_classes(name, [root / c for c in classes])
