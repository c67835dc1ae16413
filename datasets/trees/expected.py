"""The files that each data set consists of, for datasets/verify.py.

Paths are relative to ``$DETECTRON2_DATASETS``. Numbers are given where they are known for sure.
"""

from dataclasses import dataclass

from segic_d2.data.benchmarks.coco20i import list_names as coco20i_lists
from segic_d2.data.benchmarks.fss1000 import LISTS as FSS_LISTS
from segic_d2.data.benchmarks.pascal5i import list_names as pascal5i_lists
from segic_d2.data.videos.sets import SETS


@dataclass(frozen=True)
class Part:
    """A file, or files of a folder.

    Attributes:
        path: of the file or folder; or several, of which the first that exists counts.
        pattern: of the files in the folder, ``*`` within one level; "": ``path`` is a file.
        count: how many files match; None: at least one.
        entries: the number of entries of a list, see ``verify.count_entries``; None: not counted.
        lists: if ``pattern`` has "{}": a list file, whose lines take its place. Each line then has
            ``count`` files of its own.
        listed: lists, annotations or other files that name the files of ``pattern``, see
            ``listed.listed_stems``. The files that they name must exist. If there is a ``count``,
            they are read only if the count is wrong.
        why: what the part is for, or how it is made, for the message.
        optional: True if a missing part is only noted.
    """

    path: str | tuple
    pattern: str = ""
    count: int | None = None
    entries: int | None = None
    lists: str | tuple = ()
    listed: tuple = ()
    why: str = ""
    optional: bool = False

    @property
    def paths(self):
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)


def _under(folder, first, names):
    """All places of a list below a folder. The one that datasets/README.md shows comes first."""
    return tuple(f"{folder}/{name}" for name in dict.fromkeys((first, *names)))


COCO_LISTS = (26052, 15305, 13138, 12640)  # distinct validation images per fold
PASCAL_LISTS = (346, 451, 725, 346)  # lines per fold
COCO20I = tuple(
    _under("coco", f"splits/coco/val/fold{f}.pkl", coco20i_lists(f)) for f in range(len(COCO_LISTS))
)
PASCAL5I = tuple(
    _under("VOC2012", f"splits/pascal/val/fold{f}.txt", pascal5i_lists(f))
    for f in range(len(PASCAL_LISTS))
)


def _coco_images(split, count):
    listed = (f"coco/annotations/instances_{split}.json", *(COCO20I if split == "val2014" else ()))
    return Part(f"coco/{split}", "*.jpg", count, listed=listed)


VAL2014, TRAIN2014 = _coco_images("val2014", 40504), _coco_images("train2014", 82783)
VAL2017, TRAIN2017 = _coco_images("val2017", 5000), _coco_images("train2017", 118287)
FSS_CLASSES = Part(
    _under("FSS-1000", "splits/test.txt", FSS_LISTS), entries=240, why="HSNet's data/splits/fss"
)
VOC2010 = "VOCdevkit/VOC2010"
A847 = "ADE20K_2021_17_01"


def _openseg(folder):
    return (folder, f"openseg_data/{folder}")


def _ade20k(split, count):
    """Pictures and label maps. Either of them tells which of the other is lost."""
    home = "ADEChallengeData2016"
    images, maps = f"{home}/images/{split}", f"{home}/annotations_detectron2/{split}"
    why = "datasets/prepare_ade20k.py makes it"
    return [
        Part(images, "*.jpg", count, listed=(f"{maps}/*.png",)),
        Part(maps, "*.png", count, listed=(f"{images}/*.jpg",), why=why),
    ]


def _fss_images(lists):
    why = "ten images and ten masks per class"
    return [
        Part("FSS-1000", "{}/*.jpg", 10, lists=lists, why=why),
        Part("FSS-1000", "{}/*.png", 10, lists=lists, why=why),
    ]


def _videos(name, *, entries=None):
    """What marks a set of videos, its frames and its masks; readers look at single files."""
    own, why = SETS[name], "frames, one folder per video"
    inner = ("/480p", "/Full-Resolution", "/1080p") if "davis" in name else ("",)
    marks = tuple(f"{home}/{own.mark}" for home in own.folders)
    parts = [Part(marks, entries=entries)] if "." in own.mark else []
    return parts + [
        Part(
            tuple(f"{home}/{kind}{size}" for size in inner for home in own.folders),
            f"*/*{suffix}",
            why=why if kind == "JPEGImages" else "masks, one folder per video",
        )
        for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png"))
    ]


TREES = {
    # ---- training ------------------------------------------------------------------------
    "coco_2014_train": [TRAIN2014, Part("coco/annotations/instances_train2014.json")],
    "coco_2014_val": [VAL2014, Part("coco/annotations/instances_val2014.json")],
    "coco_2017_train": [TRAIN2017, Part("coco/annotations/instances_train2017.json")],
    "lvis_train": [TRAIN2017, Part("lvis/lvis_v1_train.json")],
    "ade20k_train": [
        *_ade20k("training", 20210),
    ],
    "fss1000_train": [
        Part("FSS-1000/splits/trn.txt", entries=520, why="HSNet's data/splits/fss"),
        *_fss_images("FSS-1000/splits/trn.txt"),
    ],
    # ---- few-shot benchmarks ---------------------------------------------------------------
    "coco20i": [
        VAL2014,
        *(
            Part(paths, entries=n, why="HSNet's data/splits/coco")
            for paths, n in zip(COCO20I, COCO_LISTS, strict=True)
        ),
        Part(
            *("coco/annotations/val2014", "*.png"),
            listed=COCO20I,
            why="label maps, linked from HSNet's page",
        ),
    ],
    "pascal5i": [
        Part("VOC2012/JPEGImages", "*.jpg", listed=PASCAL5I),
        Part(
            *("VOC2012/SegmentationClassAug", "*.png"),
            listed=PASCAL5I,
            why="linked from HSNet's page",
        ),
        *(
            Part(paths, entries=n, why="HSNet's data/splits/pascal")
            for paths, n in zip(PASCAL5I, PASCAL_LISTS, strict=True)
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
        Part(f"{VOC2010}/JPEGImages", "*.jpg", listed=(f"{VOC2010}/pascal_part_val.json",)),
        Part(f"{VOC2010}/pascal_part_val.json", why="datasets/prepare_pascal_part.py makes it"),
        Part(f"{VOC2010}/all_obj_part_to_image.json", why="published with Matcher", optional=True),
    ],
    "paco_part": [
        VAL2017,
        TRAIN2017,
        *(
            Part(
                (f"paco/paco_part_{split}.pkl", f"paco/paco_lvis_v1_{split}.json"),
                why="published with Matcher, or PACO's own",
            )
            for split in ("val", "train")  # the classes are those of training
        ),
    ],
    # ---- semantic segmentation: validation images, and training images for references ------
    "ade20k150": [
        *_ade20k("validation", 2000),
    ],
    "coco": [
        *(VAL2017, TRAIN2017),
        *(Part(f"coco/annotations/instances_{s}2017.json") for s in ("val", "train")),
    ],
    "coco_semantic": [
        *(VAL2017, TRAIN2017),
        Part(
            *("coco/semantic_val2017", "*.png", 5000),
            listed=("coco/val2017/*.jpg",),
            why="datasets/prepare_coco_semantic.py makes it",
        ),
        Part("coco/annotations/instances_train2017.json", why="the references"),
    ],
    "a847": [
        *(
            Part(_openseg(f"{a}_detectron2/{split}"), pattern, listed=(_openseg(f"{b}/{files}"),))
            for split in ("validation", "training")
            for a, pattern, b, files in (
                (f"{A847}/images", "*.jpg", f"{A847}/annotations_detectron2", f"{split}/*.tif"),
                (f"{A847}/annotations", "*.tif", f"{A847}/images_detectron2", f"{split}/*.jpg"),
            )
        ),
        Part(_openseg(f"{A847}/classes.txt"), why="847 names, from 0"),
    ],
    "pc459": [
        Part(
            *(_openseg(f"{VOC2010}/JPEGImages"), "*.jpg"),
            listed=tuple(
                _openseg(f"{VOC2010}/annotations_detectron2/pc459_{split}/*.tif")
                for split in ("val", "train")
            ),
        ),
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
    # ---- videos ----------------------------------------------------------------------------
    "davis17_val": _videos("davis17_val", entries=30),
    "davis17_test_dev": _videos("davis17_test_dev", entries=30),
    "davis16_val": _videos("davis16_val")[1:],  # its list has two places, which the reader knows
    "ytvos18_valid": _videos("ytvos18_valid"),
    "ytvos19_valid": _videos("ytvos19_valid"),
    "mose_valid": _videos("mose_valid"),
    "lvos_valid": _videos("lvos_valid"),
}
TREES["ade20k150"] += TREES["ade20k_train"]  # the references
GROUPS = {
    "training": ("coco_2014_train", "coco_2014_val", "lvis_train", "ade20k_train"),
    "ade20k": ("ade20k_train", "ade20k150"),
    "videos": tuple(SETS),
}
