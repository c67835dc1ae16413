"""Plain folders of images and masks as Detectron2 datasets.

Layout A, a folder per class, one binary mask beside each image (that of FSS-1000)::

    root/<class>/<stem>.jpg   root/<class>/<stem>.png        mask, or <stem>_mask.png

Layout B, label maps, with optional class names::

    root/images/<stem>.jpg    root/masks/<stem>.png          0 background, 255 ignored, or 65535
                                                             where a map of 16 bits shows it
    root/classes.txt          one "id name" per line

Where all maps of layout B have no other values than 0 and 255, they are binary masks of one class.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...io import class_folders
from ...io.annotations import format_of
from ...io.formats import pictures_among
from ...io.masks import IGNORE_LABEL, VOID_16
from ...io.pictures import image_size
from ...utils.files import AnyPath
from ...utils.texts import one_line
from ..health.damaged import ERRORS, report_errors
from ..health.label_cache import label_values
from ..records import mask_file
from .annotated import register_annotations
from .coco_folds import NAME as FOLD_NAME
from .coco_folds import register_fold
from .synthetic import register_synthetic

BACKGROUND, IGNORED = 0, IGNORE_LABEL
HIGHEST = 10_000  # id of a class: evaluators count pairs of ids

logger = logging.getLogger(__name__)


def register_folder_dataset(name: str, root: AnyPath, **metadata: Any) -> None:
    """Register a folder of images and masks, which is read when the dataset is first loaded. In
    layout A a class is named like its folder, with underscores read as spaces; in layout B a
    pixel's value is its class id, called "class ID" without ``classes.txt``; of maps of 0 and 255
    alone, as the log says, 255 is the one class. ``root`` is a path, or
    a URL for Detectron2's ``PathManager``; ``metadata`` are more entries for ``MetadataCatalog``.

    Loading raises FileNotFoundError naming the folder, image or mask that is missing, and
    ValueError naming the folder without images, the class without a name, or the bad line of
    ``classes.txt``.
    """
    DatasetCatalog.register(name, lambda: load_folder(name, root))
    MetadataCatalog.get(name).set(root=str(root), **metadata)


def register_by_name(name: str) -> None:
    """Register a dataset whose name says where it is; other names are left alone: ``folder:ROOT``
    (``register_folder_dataset``), ``coco:JSON:IMAGES``, ``voc:ROOT`` and other formats
    (``register_annotations``),
    ``synthetic:DATASET:ROOT`` (``synthetic.py``), ``NAME@foldF`` and ``NAME@novelF``
    (``coco_folds.py``). ValueError: naming the dataset whose name lacks a part or has no such fold.
    """
    if name in DatasetCatalog:
        return
    fold = FOLD_NAME.fullmatch(name)
    if fold:
        register_by_name(fold["base"])
        register_fold(name, fold["base"], fold["side"], int(fold["fold"]))
        return
    kind, _, place = name.partition(":")
    if kind == "folder":
        register_folder_dataset(name, place)
    elif format_of(name):
        register_annotations(name)
    elif kind == "synthetic":
        dataset, _, root = place.partition(":")
        if dataset not in DatasetCatalog or not root:
            raise ValueError(f"dataset {name!r}: expected synthetic:REGISTERED_DATASET:FOLDER")
        register_synthetic(name, dataset, root)


def load_folder(name: str, root: AnyPath) -> list[dict[str, Any]]:
    """Load a folder: its dataset dicts, sorted. This sets the metadata that they need."""
    root = Path(PathManager.get_local_path(str(root)))
    if not root.is_dir():
        raise FileNotFoundError(f"dataset {name!r}: no such folder: {root}")
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return _of_one_size(_load_label_maps(name, root))
    folders = (d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    records = load_classes(name, sorted(folders))
    if not records:
        raise ValueError(
            f"dataset {name!r}: {root} has neither class folders nor images/ and masks/"
        )
    return _of_one_size(records)


def _of_one_size(records):
    """The records whose masks have their images' size, by the files' headers alone. The others are
    reported; what cannot be opened shows when it is read."""

    def check(record):
        image, mask = record["file_name"], mask_file(record)
        try:
            found, expected = image_size(mask), image_size(image)
        except ERRORS:
            return None
        if found == expected:
            return None
        return ValueError(
            f"the mask of {image} ({mask}) is {found[1]}x{found[0]} px, the image as displayed is "
            f"{expected[1]}x{expected[0]} px"
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(pool.map(check, records))
    pairs = list(zip(records, errors, strict=True))
    report_errors({mask_file(record): error for record, error in pairs if error})
    return [record for record, error in pairs if not error]


def class_title(folder_name: str) -> str:
    """The class name that a folder's name stands for."""
    return one_line(folder_name.replace("_", " "))


def _images(folder):
    files = (f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    return sorted(pictures_among(files))


def _by_stem(files):
    found = {}
    for file in files:
        if file.stem in found:
            raise ValueError(f"{found[file.stem]} and {file} have one name: which is meant?")
        found[file.stem] = file
    return found


def _set_default(metadata, **values):
    for key, value in values.items():
        if metadata.get(key) is None:
            metadata.set(**{key: value})


def pair_files(folder: Path) -> list[tuple[Path, Path]]:
    """(image, mask) pairs of a class folder of layout A, sorted (``io.class_folders``)."""
    pairs, errors = class_folders.pair_files(folder)
    report_errors(errors)
    return pairs


def load_classes(name: str, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Load class folders (layout A): their dataset dicts, with class ids in the folders' order."""
    records = []
    for class_id, folder in enumerate(folders):
        pairs = pair_files(folder)
        if not pairs:
            error = ValueError(f"dataset {name!r}: no images in class folder {folder}")
            report_errors({folder: error})
        for image, mask in pairs:
            record = {"file_name": str(image), "mask_file_name": str(mask)}
            records.append({**record, "category_id": class_id, "image_id": len(records)})
    classes = [class_title(d.name) for d in folders]
    _set_default(MetadataCatalog.get(name), thing_classes=classes, evaluator_type="one_shot")
    return records


def _load_label_maps(name, root):
    images, masks = (_by_stem(_images(root / part)) for part in ("images", "masks"))
    if not images:
        raise ValueError(f"dataset {name!r}: no images in {root / 'images'}")
    errors = {}
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            file = images.pop(stem)
            errors[file] = FileNotFoundError(
                f"image without a mask: {file}; expected {root / 'masks' / stem}.png"
            )
        else:
            file = masks.pop(stem)
            errors[file] = FileNotFoundError(f"mask without an image: {file}")
    report_errors(errors)
    named = _read_classes(root / "classes.txt")
    stems = sorted(masks)
    shown = dict(zip(stems, label_values([masks[s] for s in stems]), strict=True))
    first = {v: masks[s] for s in reversed(stems) for v in shown[s] or ()}  # which show a value
    ignored = _ignored(first, named, root)
    if first.keys() - {BACKGROUND} == {ignored}:
        pairs = [(images[s], masks[s]) for s in stems if ignored in (shown[s] or ())]
        return _load_binary(name, root, pairs, named, ignored)
    if named is None:
        named = {v: f"class {v}" for v in first.keys() - {BACKGROUND, ignored}}
        _check_ids(first, named, root)
    else:
        images = {s: images[s] for s in _check_named(masks, shown, named, ignored, root)}
    named[BACKGROUND] = "background"
    classes = [named.get(i, f"class {i}") for i in range(max(named) + 1)]
    _set_default(
        MetadataCatalog.get(name),
        stuff_classes=classes,
        background_label=BACKGROUND,
        ignore_label=ignored,
        evaluator_type="sem_seg",
    )
    return [
        {"file_name": str(images[s]), "sem_seg_file_name": str(masks[s]), "image_id": i}
        for i, s in enumerate(sorted(images))
    ]


def _ignored(first, named, root):
    """The value that is ignored: 65535 where the maps show it and it is no class, else 255."""
    if VOID_16 not in first or VOID_16 in (named or ()):
        return IGNORED
    if IGNORED in first and IGNORED not in (named or ()):
        raise ValueError(
            f"{first[VOID_16]} shows 65535, which is ignored in maps of 16 bits, and "
            f"{first[IGNORED]} shows 255: save all maps with one of them, or name the class 255 in "
            f"{root / 'classes.txt'}"
        )
    return VOID_16


def _check_ids(first, named, root):
    """ValueError: ids that were hardly meant as those of classes; where none is, the maps show
    background alone."""
    top = max(named, default=1)
    if top > HIGHEST or top > 50 * len(named) + 255:
        raise ValueError(
            f"{first[top]} shows the id {top}, far above the number of classes, {len(named)}: are "
            f"the maps of objects, or is it what is ignored (255, or 65535 in 16 bits)? Number the "
            f"classes from 1, or name them in {root / 'classes.txt'}"
        )


def _load_binary(name, root, pairs, named, value):
    """Records of images and their binary masks, 0 and 255 (or 65535), of one class."""
    if named is not None and value not in named:
        raise ValueError(
            f"dataset {name!r}: the maps in {root / 'masks'} show 0 (background) and {value} "
            f"alone, which {root / 'classes.txt'} does not name: give its class the id {value} "
            "there"
        )
    title = (named or {}).get(value, f"class {value}")
    logger.warning(
        "dataset %r: the maps in %s show 0 and %d alone: they are taken as binary masks of one "
        "class, %r",
        *(name, root / "masks", value, title),
    )
    _set_default(MetadataCatalog.get(name), thing_classes=[title], evaluator_type="one_shot")
    records = []
    for image, mask in pairs:
        record = {"file_name": str(image), "mask_file_name": str(mask)}
        records.append({**record, "category_id": 0, "image_id": len(records)})
    return records


def _check_named(masks, shown, named, ignored, root):
    """Stems of the maps whose ids ``classes.txt`` names. The other maps are reported."""
    errors, good = {}, []
    for stem, values in shown.items():
        unknown = set(values or ()) - set(named) - {BACKGROUND, ignored}
        if unknown:
            errors[masks[stem]] = ValueError(
                f"{masks[stem]} shows the id {min(unknown)}, which {root / 'classes.txt'} does not "
                "name"
            )
        elif values is not None:
            good.append(stem)
    report_errors(errors)
    return good


def _read_classes(file):
    """Read ``classes.txt`` as dict id → name; None if there is no such file."""
    if not file.is_file():
        return None
    named = {}
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        class_id, _, class_name = line.strip().partition(" ")
        short = class_id.isdecimal() and len(class_id) < 19
        if not short or not class_name.strip() or int(class_id) > HIGHEST:
            raise ValueError(
                f'{file}, line {number}: expected "id name", an id up to {HIGHEST}, found '
                f"{line[:80]!r}"
            )
        own, class_name = int(class_id), class_name.strip()
        if own in named or class_name in named.values():
            raise ValueError(
                f"{file}, line {number}: {line.strip()!r}: id or name was there before"
            )
        named[own] = class_name
    return named
