"""PACO-Part: parts of objects on COCO 2017's images, four folds (Matcher's protocol).

Fold f takes the classes f + 4v (PACO's category ids) of the parts that the training annotations
show (448: 112 each) and keeps those with more than ``shots`` validation images; 2,500 episodes, of
which number i asks for class i mod n. An image shows the part on one or more objects; one is drawn,
all its masks of the part are joined, and image and mask are cropped to the object's box.

Read from ``$DETECTRON2_DATASETS/paco``: ``paco_part_{train,val}.pkl`` as published with Matcher, or
PACO-LVIS's own ``paco_lvis_v1_{train,val}.json``; images from ``coco/{train,val}2017``.
"""

from pathlib import Path

from ...io.rle import has_mask
from ...utils.files import AnyPath
from . import annotated as common
from .annotated import Annotated, CocoFile, coco2017_image, objects_shown
from .base import EpisodeList, datasets_root, register_benchmark, register_reader
from .safe_pickle import read_plain_pickle

FOLDS, EPISODES, FOLDER = 4, 2500, "paco"
PUBLISHED, OFFICIAL = "paco_part_{}.pkl", "paco_lvis_v1_{}.json"
SPLITS = "train", "val"


@register_benchmark(
    "paco_part",
    FOLDS,
    folders=("coco/val2017", "coco/train2017"),
    one_of=lambda fold: [f"{FOLDER}/{name.format('val')}" for name in (PUBLISHED, OFFICIAL)],
)
def paco_part(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The 2,500 episodes of a fold; see the module. FileNotFoundError: naming both pairs of files,
    where neither is complete; ValueError: naming the file of another form or with too few images.
    """
    classes, annotated = _annotations(_files(lists))
    classes = [classes[fold + FOLDS * v] for v in range(len(classes) // FOLDS)]
    usable, skipped = annotated.enough_images(classes, shots + 1)
    if not usable:
        raise ValueError(
            f"PACO-Part fold {fold}: none of its {len(classes)} classes has more than {shots} "
            f"images in {_files(lists)[1]}"
        )
    return common.episode_list("paco_part", fold, shots, annotated, usable, EPISODES, skipped)


@register_reader("paco_part")
class PacoPartReader(common.AnnotatedReader):
    """All masks of a part of one object and the object's box."""

    def __init__(self, episodes: EpisodeList, lists: AnyPath | None = None) -> None:
        annotated = _annotations(_files(lists))[1]
        super().__init__(annotated, episodes, datasets_root() / "coco", coco2017_image)


def _files(lists):
    folder = Path(lists or datasets_root() / FOLDER)
    for names in (PUBLISHED, OFFICIAL):
        files = [folder / names.format(split) for split in SPLITS]
        if all(f.is_file() for f in files):
            return files
    pairs = [" and ".join(n.format(s) for s in SPLITS) for n in (PUBLISHED, OFFICIAL)]
    raise FileNotFoundError(
        f"PACO-Part: {folder} has neither {pairs[0]}, published with Matcher, nor PACO's own "
        f"{pairs[1]}"
    )


def _annotations(files):
    return (_published if files[1].suffix == ".pkl" else _official)(*files)


# (part classes of training, Annotated of validation) from Matcher's pickles: cid2img, class id →
# list of {image id: image file}, where an image that is listed twice counts once; img2anno, image
# id → annotations with category_id, segmentation, obj_bbox (x, y, w, h) and obj_ann_id; class names
# from cat_annos (id, name), if it is there
@common.kept
def _published(train, val):
    contents = [read_plain_pickle(file) for file in (train, val)]
    file = train
    try:
        classes = [int(c) for c in contents[0]["cid2img"]]
        file, shown = val, {}
        for class_id, images in contents[1]["cid2img"].items():
            entries = {i: name for image in images for i, name in image.items()}
            found = {
                name: objects_shown(
                    (a["obj_ann_id"], a["obj_bbox"], a["segmentation"])
                    for a in contents[1]["img2anno"][image]
                    if a["category_id"] == class_id
                )
                for image, name in entries.items()
            }
            shown[int(class_id)] = {name: objects for name, objects in found.items() if objects}
        names = {c: f"part {c}" for c in (*classes, *shown)}
        names |= {c["id"]: c["name"] for c in contents[0].get("cat_annos", ())}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not of the expected form, cid2img: class id → [{{image id: file}}] and "
            "img2anno: image id → [{category_id, segmentation, obj_bbox, obj_ann_id}]: "
            f"{error!r}"
        ) from error
    note = common.PUBLISHED_NOTE.format("targets, objects and references")
    return classes, Annotated(names, shown, note)


# the same from PACO-LVIS's annotations: classes in the order of the file's categories, those of
# parts being called "object:part"; images in the order of their first annotation
@common.kept
def _official(train, val):
    data = CocoFile(train)
    trained = {a["category_id"] for a in data.annotations}
    names = {c: v["name"] for c, v in data.categories.items() if ":" in v["name"]}
    data = CocoFile(val)
    objects = {a["id"]: a for a in data.annotations}
    parts = []
    for a in data.annotations:
        if a["category_id"] not in names or not has_mask(a):
            continue
        owner = objects.get(a.get("obj_ann_id"))
        if owner is None:
            raise ValueError(
                f"{val}: annotation {a.get('id')}, a part, has the obj_ann_id "
                f"{a.get('obj_ann_id')}, which is no annotation of the file"
            )
        part = owner["id"], owner["bbox"], a["segmentation"]
        parts.append((a["category_id"], data.images[a["image_id"]]["file_name"], part))
    shown = common.by_class_and_image(names, parts)
    note = common.OWN_NOTE.format(PUBLISHED.format("val"), OFFICIAL.format("val"))
    return [c for c in names if c in trained], Annotated(names, shown, note)
