"""The conditions of a result, as its name states them."""

from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data.datasets import register_by_name
from ...data.datasets.class_list import background_ids
from ...data.datasets.coco_folds import NAME as FOLD_NAME
from ...data.datasets.coco_folds import fold_classes

SPELLINGS = {  # Pascal VOC's names of classes that COCO and LVIS have, too
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def conditions(cfg: CfgNode, class_names: Iterable[str], *, read: bool = True) -> tuple[str, str]:
    """The conditions of a result, such as ("unseen", "text"). The first word is "seen" if every
    test class has the name of a class of ``DATASETS.TRAIN``, "unseen" if none has, else "mixed".
    Upper case, underscores and Pascal VOC's spelling do not count. ``TEST.SEEN`` overrides it, for
    other weights. Without ``read`` it is "" where a dataset would be read for its class names. The
    second word is "text" with ``MODEL.SEGIC.META``. ValueError: see ``training_classes``."""
    seen, datasets = cfg.TEST.SEEN, cfg.DATASETS.TRAIN
    if seen == "auto" and not (read or all(map(_has_classes, datasets))):
        seen = ""
    elif seen == "auto":
        trained = {plain(n) for name in datasets for n in training_classes(name)}
        known = {plain(name) in trained for name in class_names}
        seen = "mixed" if len(known) == 2 else "seen" if known == {True} else "unseen"
    return seen, "text" if cfg.MODEL.SEGIC.META else "no_text"


def _has_classes(name: str) -> bool:
    """Whether the class names of a dataset are known without reading it."""
    try:
        register_by_name(name)
    except ValueError:
        return False
    metadata = MetadataCatalog.get(name)
    return bool(metadata.get("thing_classes") or metadata.get("stuff_classes"))


def plain(name: str) -> str:
    """A class name in the form that is compared: lower case, spaces, COCO's spelling."""
    name = str(name).lower().replace("_", " ")
    return SPELLINGS.get(name, name)


def training_classes(name: str) -> list[str]:
    """Class names that training on a dataset shows. Its files are read only if they must be.
    ValueError, naming the dataset: they cannot be learned."""
    register_by_name(name)
    metadata = MetadataCatalog.get(name)
    if not _has_classes(name):
        try:
            DatasetCatalog.get(name)  # which fills its metadata
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"whether the test classes were seen is not known: the class names of {name!r} "
                f"(DATASETS.TRAIN) cannot be read ({error}). Set TEST.SEEN to 'seen', 'unseen' or "
                "'mixed'"
            ) from error
    hidden: set[int] = set()
    if fold := FOLD_NAME.fullmatch(name):
        novel = set(fold_classes(int(fold["fold"])))
        hidden = novel if fold["side"] == "fold" else set(range(80)) - novel
    found: list[str] = []
    for names in (metadata.get("thing_classes") or [], metadata.get("stuff_classes") or []):
        left_out = hidden | background_ids(name, names)
        found += [n for i, n in enumerate(names) if i not in left_out]
    return found
