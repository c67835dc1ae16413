"""Dataset registration, one file per family. Importing registers the embedded dataset, and the
others where Detectron2 looks for its own datasets."""

import os

from detectron2.data import DatasetCatalog

from .composites import register_composites
from .folder import register_by_name, register_folder_dataset
from .fss import register_all_fss
from .lvis import load_lvis
from .open_vocabulary import register_all_open_vocabulary
from .shapes.register import register_shapes
from .spair import register_all_spair

register_shapes()
for _name, _register in (
    ("fss_1000_train", register_all_fss),
    ("composites_train", register_composites),
    ("spair71k_test", register_all_spair),
    ("a847_sem_seg_val", register_all_open_vocabulary),
):
    if _name not in DatasetCatalog:  # another project may have its own
        _register(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

__all__ = ["load_lvis", "register_by_name", "register_folder_dataset", "register_shapes"]
