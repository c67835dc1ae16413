"""The conditions of a result, as its name states them."""

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data.datasets import register_by_name
from ...data.datasets.class_list import background_ids
from ...data.datasets.coco_folds import NAME as FOLD_NAME
from ...data.datasets.coco_folds import fold_classes

SEEN = "auto", "seen", "unseen", "mixed"
SPELLINGS = {  # Pascal VOC's names of classes that COCO and LVIS have, too
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def conditions(cfg, class_names):
    """The conditions of a result, such as "unseen-text".

    The first word is "seen" if every test class has the name of a class of ``DATASETS.TRAIN``,
    "unseen" if none has, else "mixed". Upper case, underscores and Pascal VOC's spelling do not
    count. ``TEST.SEEN`` overrides it, for weights that were trained on other datasets than the
    config's. The second word is "text" with ``MODEL.SEGIC.META``, else "no_text".

    Args:
        cfg: config.
        class_names: names of the test classes.

    Raises:
        ValueError: an unknown value of ``TEST.SEEN``, or a dataset of training whose class names
            cannot be learned.
    """
    seen = cfg.TEST.SEEN
    if seen not in SEEN:
        raise ValueError(f"TEST.SEEN is {seen!r}; it must be one of {SEEN}")
    if seen == "auto":
        trained = {plain(n) for name in cfg.DATASETS.TRAIN for n in training_classes(name)}
        known = {plain(name) in trained for name in class_names}
        seen = "mixed" if len(known) == 2 else "seen" if known == {True} else "unseen"
    return f"{seen}-{'text' if cfg.MODEL.SEGIC.META else 'no_text'}"


def plain(name):
    """A class name in the form that is compared: lower case, spaces, COCO's spelling."""
    name = str(name).lower().replace("_", " ")
    return SPELLINGS.get(name, name)


def training_classes(name):
    """Class names that training on a dataset shows. Its files are read only if they must be.

    Raises:
        ValueError: naming the dataset, if they cannot be learned.
    """
    register_by_name(name)
    metadata = MetadataCatalog.get(name)
    if not (metadata.get("thing_classes") or metadata.get("stuff_classes")):
        try:
            DatasetCatalog.get(name)  # which fills its metadata
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"whether the test classes were seen is not known: the class names of {name!r} "
                f"(DATASETS.TRAIN) cannot be read ({error}). Set TEST.SEEN to 'seen', 'unseen' or "
                "'mixed'"
            ) from error
    hidden = set()
    fold = FOLD_NAME.fullmatch(name)
    if fold:
        novel = set(fold_classes(int(fold["fold"])))
        hidden = novel if fold["side"] == "fold" else set(range(80)) - novel
    found = []
    for names in (metadata.get("thing_classes") or [], metadata.get("stuff_classes") or []):
        left_out = hidden | background_ids(name, names)
        found += [n for i, n in enumerate(names) if i not in left_out]
    return found
