"""Dataset registration: one file per dataset family.

Importing registers the embedded dataset, and FSS-1000, the composites, SPair-71k, A-847, PC-459 and
COCO's label maps where Detectron2 looks for its own datasets.
"""

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
if "fss_1000_train" not in DatasetCatalog:  # another project may have its own
    register_all_fss(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
if "composites_train" not in DatasetCatalog:
    register_composites(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
if "spair71k_test" not in DatasetCatalog:
    register_all_spair(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
if "a847_sem_seg_val" not in DatasetCatalog:
    register_all_open_vocabulary(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

__all__ = ["load_lvis", "register_by_name", "register_folder_dataset", "register_shapes"]
