"""Which files each data set of training and of the benchmarks consists of (datasets/verify.py).

Paths are relative to ``$DETECTRON2_DATASETS``. Numbers are given where they are known for sure.
"""

from dataclasses import dataclass

from .benchmarks.coco20i import list_names as coco20i_lists
from .benchmarks.fss1000 import LISTS as FSS_LISTS
from .benchmarks.pascal5i import list_names as pascal5i_lists


@dataclass(frozen=True)
class Part:
    """A file, or files of a folder.

    Attributes:
        path: of the file or folder; or several, of which the first that is there counts.
        pattern: of the files in the folder, ``*`` within one level; "": ``path`` is a file.
        count: how many files match; None: at least one.
        entries: what a list holds, as ``verify_trees`` counts it; None: not counted.
        lists: where ``pattern`` has "{}": list file whose lines stand in its place, each with
            ``count`` files of its own.
        why: what it is for, or how it is made, for the message.
        optional: missing is worth a note, and no failure.
    """

    path: str | tuple
    pattern: str = ""
    count: int | None = None
    entries: int | None = None
    lists: str | tuple = ()
    why: str = ""
    optional: bool = False

    @property
    def paths(self):
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)


def _under(folder, first, names):
    """All places of a list below a folder, the one that datasets/README.md shows first."""
    return tuple(f"{folder}/{name}" for name in dict.fromkeys((first, *names)))


def _coco_images(split, count):
    return Part(f"coco/{split}", "*.jpg", count)


VAL2014, TRAIN2014 = _coco_images("val2014", 40504), _coco_images("train2014", 82783)
VAL2017, TRAIN2017 = _coco_images("val2017", 5000), _coco_images("train2017", 118287)
FSS_CLASSES = Part(
    _under("FSS-1000", "splits/test.txt", FSS_LISTS), entries=240, why="HSNet's data/splits/fss"
)
COCO_LISTS = (26052, 15305, 13138, 12640)  # distinct validation images per fold
PASCAL_LISTS = (346, 451, 725, 346)  # lines per fold
VOC2010 = "VOCdevkit/VOC2010"
A847 = "ADE20K_2021_17_01"


def _openseg(folder):
    return (folder, f"openseg_data/{folder}")


def _fss_images(lists):
    why = "ten images and ten masks per class"
    return [
        Part("FSS-1000", "{}/*.jpg", 10, lists=lists, why=why),
        Part("FSS-1000", "{}/*.png", 10, lists=lists, why=why),
    ]


TREES = {
    # ---- training ------------------------------------------------------------------------
    "coco_2014_train": [TRAIN2014, Part("coco/annotations/instances_train2014.json")],
    "coco_2014_val": [VAL2014, Part("coco/annotations/instances_val2014.json")],
    "coco_2017_train": [TRAIN2017, Part("coco/annotations/instances_train2017.json")],
    "lvis_train": [TRAIN2017, Part("lvis/lvis_v1_train.json")],
    "ade20k_train": [
        Part("ADEChallengeData2016/images/training", "*.jpg", 20210),
        Part(
            *("ADEChallengeData2016/annotations_detectron2/training", "*.png", 20210),
            why="datasets/prepare_ade20k.py makes it",
        ),
    ],
    "fss1000_train": [
        Part("FSS-1000/splits/trn.txt", entries=520, why="HSNet's data/splits/fss"),
        *_fss_images("FSS-1000/splits/trn.txt"),
    ],
    # ---- few-shot benchmarks ---------------------------------------------------------------
    "coco20i": [
        VAL2014,
        *(
            Part(
                _under("coco", f"splits/coco/val/fold{f}.pkl", coco20i_lists(f)),
                entries=n,
                why="HSNet's data/splits/coco",
            )
            for f, n in enumerate(COCO_LISTS)
        ),
        Part("coco/annotations/val2014", "*.png", why="label maps, linked from HSNet's page"),
    ],
    "pascal5i": [
        Part("VOC2012/JPEGImages", "*.jpg"),
        Part("VOC2012/SegmentationClassAug", "*.png", why="linked from HSNet's page"),
        *(
            Part(
                _under("VOC2012", f"splits/pascal/val/fold{f}.txt", pascal5i_lists(f)),
                entries=n,
                why="HSNet's data/splits/pascal",
            )
            for f, n in enumerate(PASCAL_LISTS)
        ),
    ],
    "fss1000": [FSS_CLASSES, *_fss_images(FSS_CLASSES.path)],
    "lvis92i": [
        VAL2017,
        TRAIN2017,
        Part(
            ("lvis/lvis_val.pkl", "lvis/lvis_v1_val.json"),
            why="published with Matcher, or LVIS's own",
        ),
    ],
    "pascal_part": [
        Part(f"{VOC2010}/JPEGImages", "*.jpg"),
        Part(f"{VOC2010}/pascal_part_val.json", why="datasets/prepare_pascal_part.py makes it"),
        Part(f"{VOC2010}/all_obj_part_to_image.json", why="published with Matcher", optional=True),
    ],
    "paco_part": [
        VAL2017,
        TRAIN2017,
        Part(
            ("paco/paco_part_val.pkl", "paco/paco_lvis_v1_val.json"),
            why="published with Matcher, or PACO's own",
        ),
    ],
    # ---- semantic segmentation: validation images, and training images for references ------
    "ade20k150": [
        Part("ADEChallengeData2016/images/validation", "*.jpg", 2000),
        Part(
            *("ADEChallengeData2016/annotations_detectron2/validation", "*.png", 2000),
            why="datasets/prepare_ade20k.py makes it",
        ),
    ],
    "coco": [
        *(VAL2017, TRAIN2017),
        *(Part(f"coco/annotations/instances_{s}2017.json") for s in ("val", "train")),
    ],
    "coco_semantic": [
        *(VAL2017, TRAIN2017),
        Part("coco/semantic_val2017", "*.png", 5000, why="datasets/prepare_coco_semantic.py"),
        Part("coco/annotations/instances_train2017.json", why="the references"),
    ],
    "a847": [
        *(
            Part(_openseg(f"{A847}/{kind}_detectron2/{split}"), pattern)
            for split in ("validation", "training")
            for kind, pattern in (("images", "*.jpg"), ("annotations", "*.tif"))
        ),
        Part(_openseg(f"{A847}/classes.txt"), why="847 names, from 0"),
    ],
    "pc459": [
        Part(_openseg(f"{VOC2010}/JPEGImages"), "*.jpg"),
        Part(_openseg(f"{VOC2010}/annotations_detectron2/pc459_val"), "*.tif", 5104),
        Part(_openseg(f"{VOC2010}/annotations_detectron2/pc459_train"), "*.tif"),
        Part(_openseg(f"{VOC2010}/pc459_classes.txt"), why="459 names, from 0"),
    ],
    # ---- instances and correspondence ------------------------------------------------------
    "lvis": [
        *(VAL2017, TRAIN2017),
        *(Part(f"lvis/lvis_v1_{s}.json") for s in ("val", "train")),
    ],
    "spair71k": [
        Part("SPair-71k/JPEGImages", "*/*.jpg"),
        Part("SPair-71k/Layout/large/test.txt", entries=12234),
        Part("SPair-71k/PairAnnotation/test", "*.json", 12234),
    ],
}
TREES["ade20k150"] += TREES["ade20k_train"]  # the references
GROUPS = {
    "training": ("coco_2014_train", "coco_2014_val", "lvis_train", "ade20k_train"),
    "ade20k": ("ade20k_train", "ade20k150"),
}
