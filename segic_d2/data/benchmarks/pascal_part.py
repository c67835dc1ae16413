"""PASCAL-Part: parts of objects on VOC 2010's images, four folds (Matcher's protocol).

The folds are the super-classes animals, indoor, person and vehicles; a class is one part of one
object class, ``object+PART`` (``aeroplane+TAIL`` is left out). With n entries (class, validation
image), a fold has min(n, 2500) episodes, of which number i asks for class i mod the number of
classes. One object of the target and of each reference is drawn, its masks of the part are joined,
and image and mask are cropped to the object's box.

Read from ``$DETECTRON2_DATASETS/VOCdevkit/VOC2010``: masks and boxes from ``pascal_part_val.json``,
which datasets/prepare_pascal_part.py makes from the annotations as downloaded; the lists of images
from ``all_obj_part_to_image.json`` as published with Matcher, or else from the annotations.
"""

from pathlib import Path

from ...utils.files import AnyPath
from . import annotated as common
from .annotated import Annotated, AnnotatedReader, CocoFile, episode_list, read_json
from .base import EpisodeList, datasets_root, find_list, register_benchmark, register_reader

FOLDER, EPISODES = "VOCdevkit/VOC2010", 2500
PUBLISHED, MASKS = "all_obj_part_to_image.json", "pascal_part_val.json"
SUPER_CLASSES = {  # of a fold, in the order of the folds
    "animals": ("bird", "cat", "cow", "dog", "horse", "sheep"),
    "indoor": ("bottle", "pottedplant"),
    "person": ("person",),
    "vehicles": ("aeroplane", "bicycle", "bus", "car", "motorbike", "train"),
}
LEFT_OUT = "aeroplane+TAIL"
MASKS_NOTE = (
    "the annotations' parts are merged by datasets/prepare_pascal_part.py, which need not be how "
    "the published masks were merged"
)


@register_benchmark(
    "pascal_part",
    len(SUPER_CLASSES),
    folders=(f"{FOLDER}/JPEGImages",),
    one_of=lambda fold: [f"{FOLDER}/{MASKS}"],
)
def pascal_part(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The episodes of a fold, 2,500 at most; see the module. FileNotFoundError: naming the file of
    masks; ValueError: naming the file of another form, or no class has two images."""
    files = _files(lists)
    folds, annotated = _annotations(*files)
    usable, skipped = annotated.enough_images(folds[fold], 2)
    if not usable:
        raise ValueError(
            f"PASCAL-Part fold {fold} ({list(SUPER_CLASSES)[fold]}): none of its "
            f"{len(folds[fold])} classes has two images in {files[-1]}"
        )
    number = min(sum(len(annotated.shown[c]) for c in usable), EPISODES)
    return episode_list("pascal_part", fold, shots, annotated, usable, number, skipped)


@register_reader("pascal_part")
class PascalPartReader(AnnotatedReader):
    """All masks of a part of one object and the object's box."""

    def __init__(self, episodes: EpisodeList, lists: AnyPath | None = None) -> None:
        annotated = _annotations(*_files(lists))[1]
        super().__init__(annotated, episodes, datasets_root() / FOLDER / "JPEGImages")


def _files(lists):
    """(file of masks,) or (file of masks, published list)."""
    folder = Path(lists or datasets_root() / FOLDER)
    files = [f for f in (find_list(folder, [n]) for n in (MASKS, PUBLISHED)) if f]
    if not files or files[0].name != MASKS:
        raise FileNotFoundError(
            f"PASCAL-Part: no file {folder / MASKS}, which datasets/prepare_pascal_part.py makes"
        )
    return files


@common.kept
def _annotations(masks, published=None):
    """(class ids of each fold, ``Annotated`` of all folds)."""
    data, parts = CocoFile(masks), []
    for a in data.annotations:
        part = a["obj_ann_id"], a["obj_bbox"], a["segmentation"]
        parts.append((a["category_id"], data.images[a["image_id"]]["file_name"], part))
    found = common.by_class_and_image(data.categories, parts)
    found = {data.categories[c]["name"]: images for c, images in found.items()}
    if published is None:
        wanted = [
            {n: None for n in found if n.partition("+")[0] in objects and n != LEFT_OUT}
            for objects in SUPER_CLASSES.values()
        ]
        note = common.OWN_NOTE.format(PUBLISHED, MASKS)
    else:
        wanted = _published(published)
        note = common.PUBLISHED_NOTE.format("targets, objects and references")
    names = dict(enumerate(name for fold in wanted for name in fold))
    ids, shown = {name: c for c, name in names.items()}, {}
    for fold in wanted:
        for name, images in fold.items():
            there = found.get(name, {})
            lost = [i for i in images or () if i not in there]
            if lost:
                raise ValueError(
                    f"{masks} has no mask of {name} in {len(lost)} of the {len(images)} images "
                    f"that {published} lists, such as {lost[0]}; without this list, episodes are "
                    "drawn from the annotations"
                )
            shown[ids[name]] = {i: there[i] for i in (there if images is None else images)}
    folds = [[ids[name] for name in fold] for fold in wanted]
    return folds, Annotated(names, shown, note, MASKS_NOTE)


def _published(file):
    """Per fold dict ``object+PART`` → validation images, in the order of the published file."""
    content = read_json(file)
    try:
        return [
            {
                f"{name}+{part}": [f"{Path(image).stem}.jpg" for image in images["val"]]
                for name, entry in content[super_class]["object"].items()
                for part, images in entry["part"].items()
                if f"{name}+{part}" != LEFT_OUT
            }
            for super_class in SUPER_CLASSES
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not of the expected form, super-class → object → class → part → name → "
            f"val → images: {error!r}"
        ) from error
