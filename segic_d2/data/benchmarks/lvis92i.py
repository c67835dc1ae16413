"""LVIS-92i: 92 classes in each of 10 folds, on COCO 2017's images (Matcher's protocol).

Classes of LVIS v1's validation set with more than ``shots`` images, n of them; fold f tests
``classes[f + 10v]``, v = 0 … n // 10 - 1, in 2,300 episodes, of which number i asks for class
i mod (n // 10). The mask is the union of the class's instances. With more shots fewer classes
qualify, so the folds hold other classes.

Class ids are LVIS's category ids. Read from ``$DETECTRON2_DATASETS/lvis``: ``lvis_val.pkl`` as
published with Matcher, or LVIS's own ``lvis_v1_val.json``; images from ``coco/{train,val}2017``.
"""

from pathlib import Path

from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from ...io.rle import has_mask
from ...utils.files import AnyPath
from . import annotated as common
from .annotated import Annotated, Shown, coco2017_image
from .base import EpisodeList, datasets_root, find_list, register_benchmark, register_reader
from .safe_pickle import read_plain_pickle

FOLDS, EPISODES = 10, 2300
FOLDER, PUBLISHED, OFFICIAL = "lvis", "lvis_val.pkl", "lvis_v1_val.json"


@register_benchmark(
    "lvis92i",
    FOLDS,
    folders=("coco/val2017", "coco/train2017"),
    one_of=lambda fold: [f"{FOLDER}/{name}" for name in (PUBLISHED, OFFICIAL)],
)
def lvis92i(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The 2,300 episodes of a fold; see the module. FileNotFoundError: naming both files, where
    neither is there; ValueError: naming the file of another form or with too few classes."""
    file = _file(lists)
    annotated = _annotations(file)
    usable, skipped = annotated.enough_images(annotated.names, shots + 1)
    size = len(usable) // FOLDS
    if not size:
        raise ValueError(
            f"{file}: {len(usable)} classes have more than {shots} images; "
            f"the {FOLDS} folds of LVIS-92i need at least {FOLDS}"
        )
    classes = [usable[fold + FOLDS * v] for v in range(size)]
    return common.episode_list("lvis92i", fold, shots, annotated, classes, EPISODES, skipped)


@register_reader("lvis92i")
class Lvis92iReader(common.AnnotatedReader):
    """The union of a class's instances, from the file that the episodes come from."""

    def __init__(self, episodes: EpisodeList, lists: AnyPath | None = None) -> None:
        annotated = _annotations(_file(lists))
        super().__init__(annotated, episodes, datasets_root() / "coco", coco2017_image)


def _file(lists):
    folder = Path(lists or datasets_root() / FOLDER)
    file = find_list(folder, (PUBLISHED, OFFICIAL))
    if file is None:
        raise FileNotFoundError(
            f"LVIS-92i: {folder} has neither {PUBLISHED}, published with Matcher, nor LVIS's own "
            f"{OFFICIAL}"
        )
    return file


def _annotations(file):
    return (_published if file.name == PUBLISHED else _official)(file)


@common.kept
def _published(file):
    """Matcher's dict category id → {image: {"annotations": [{"segmentation": …}]}}."""
    content, shown = read_plain_pickle(file), {}
    try:
        for category, images in content.items():
            shown[int(category)] = {
                name: [Shown(None, tuple(a["segmentation"] for a in image["annotations"]))]
                for name, image in images.items()
            }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no dict of category id → image → annotations: {error!r}"
        ) from error
    names = {c["id"]: c["synonyms"][0] for c in LVIS_CATEGORIES}
    names = {c: names.get(c, str(c)) for c in shown}
    return Annotated(names, shown, common.PUBLISHED_NOTE.format("targets and references"))


@common.kept
def _official(file):
    """LVIS's JSON: classes by id, images in the order of their first annotation."""
    data, parts = common.CocoFile(file), []
    for a in data.annotations:
        if has_mask(a):
            image = data.images[a["image_id"]]
            name = image.get("file_name") or "/".join(image["coco_url"].split("/")[-2:])
            parts.append((a["category_id"], name, (None, None, a["segmentation"])))
    categories = dict(sorted(data.categories.items()))
    names = {i: (c.get("synonyms") or [c["name"]])[0] for i, c in categories.items()}
    shown = common.by_class_and_image(categories, parts)
    return Annotated(names, shown, common.OWN_NOTE.format(PUBLISHED, OFFICIAL))
