"""Label maps of A-847, PC-459 and COCO's 80 things, under the names that the benchmarks use.

They are looked for below ``$DETECTRON2_DATASETS``; A-847 and PC-459 also below its
``openseg_data``, where open-vocabulary projects keep them::

    ADE20K_2021_17_01/images_detectron2/{training,validation}/*.jpg
    ADE20K_2021_17_01/annotations_detectron2/{training,validation}/*.tif   0…846, 65535 ignored
    ADE20K_2021_17_01/classes.txt                                          847 names
    VOCdevkit/VOC2010/JPEGImages/*.jpg
    VOCdevkit/VOC2010/annotations_detectron2/pc459_{train,val}/*.tif       0…458, 65535 ignored
    VOCdevkit/VOC2010/pc459_classes.txt                                    459 names
    coco/{train,val}2017/*.jpg   coco/semantic_{train,val}2017/*.png       0 none, 1…80, 255 ignored

The maps of A-847 and PC-459 are 16-bit and count from 0: label 0 of A-847 is "wall". (The released
code takes it to count from 1, so that each class gets the next one's pixels.)
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from ...utils.files import AnyPath
from .class_list import read_class_list

IGNORED_16_BIT = 65535
A847, PC459 = 847, 459  # classes


def load_label_maps(images: str, labels: str, suffix: str) -> list[dict[str, Any]]:
    """Load the dataset dicts of a folder of label maps, sorted by name, or raise FileNotFoundError.
    A map whose image is lost stays in the list, so that reading the image is an error; Detectron2's
    ``load_sem_seg`` would leave it out."""
    files = sorted(Path(labels).glob(f"*{suffix}"))
    if not files:
        raise FileNotFoundError(f"no label maps {Path(labels) / '*'}{suffix}")
    named = ((str(Path(images) / f"{file.stem}.jpg"), str(file)) for file in files)
    return [{"file_name": image, "sem_seg_file_name": file} for image, file in named]


def register_label_maps(
    name: str, images: str, labels: str, class_file: AnyPath, count: int, first: str = ""
) -> None:
    """Register 16-bit label maps, folders of ``*.jpg`` and ``*.tif`` paired by name, whose class
    names stand in a file. Loading reads both. ``first``: name of class 0, where it is known."""

    def load():
        names = read_class_list(class_file, count, first)
        MetadataCatalog.get(name).set(stuff_classes=names)
        return load_label_maps(images, labels, ".tif")

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        # of VOC 2010's images half are PC-459's: that others lack a label map is no loss
        **{"root" if images.endswith("JPEGImages") else "image_root": images},
        sem_seg_root=labels,
        class_file=class_file,
        ignore_label=IGNORED_16_BIT,
        evaluator_type="sem_seg",
    )


def register_all_open_vocabulary(root: AnyPath) -> None:
    """Register ``{a847,pc459,coco}_sem_seg_{train,val}`` below a folder of datasets."""

    def below(*parts):
        openseg = os.path.join(root, "openseg_data", *parts)
        return openseg if os.path.isdir(openseg) else os.path.join(root, *parts)

    ade, voc = below("ADE20K_2021_17_01"), below("VOCdevkit", "VOC2010")
    for split, long in (("train", "training"), ("val", "validation")):
        register_label_maps(
            f"a847_sem_seg_{split}",
            os.path.join(ade, "images_detectron2", long),
            os.path.join(ade, "annotations_detectron2", long),
            os.path.join(ade, "classes.txt"),
            A847,
            first="wall",
        )
        register_label_maps(
            f"pc459_sem_seg_{split}",
            os.path.join(voc, "JPEGImages"),
            os.path.join(voc, "annotations_detectron2", f"pc459_{split}"),
            os.path.join(voc, "pc459_classes.txt"),
            PC459,
        )
        # 8-bit label maps of COCO's 80 things, written by datasets/prepare_coco_semantic.py
        name, images = f"coco_sem_seg_{split}", os.path.join(root, "coco", f"{split}2017")
        labels = os.path.join(root, "coco", f"semantic_{split}2017")
        DatasetCatalog.register(name, partial(load_label_maps, images, labels, ".png"))
        MetadataCatalog.get(name).set(
            image_root=images,
            sem_seg_root=labels,
            stuff_classes=["background", *(c["name"] for c in COCO_CATEGORIES if c["isthing"])],
            background_label=0,
            ignore_label=255,
            evaluator_type="sem_seg",
        )
