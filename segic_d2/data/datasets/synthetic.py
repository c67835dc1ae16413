"""Generated pictures as references, one per class of another dataset.

The layout is the usual one. k is the number of the class in the dataset, counted from 1 and without
the background::

    root/images_detectron2/validation/<k>.jpg
    root/annotations_detectron2/validation/<k>.tif   k where the class is, 0 elsewhere
"""

from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.files import AnyPath
from .class_list import background_ids

IGNORED_8_BIT, IGNORED_16_BIT = 255, 65535


def register_synthetic(name: str, dataset: str, root: AnyPath) -> None:
    """Register a folder of generated pictures of a registered dataset's classes. Loading it raises
    FileNotFoundError naming the folder, or the picture without a label map; and ValueError naming a
    picture whose name is no number of a class."""
    DatasetCatalog.register(name, lambda: _load(name, dataset, Path(root)))
    MetadataCatalog.get(name).set(root=str(root))


def _load(name, dataset, root):
    metadata = MetadataCatalog.get(dataset)
    if not metadata.get("stuff_classes"):  # known when it was loaded
        DatasetCatalog.get(dataset)
    hidden = background_ids(dataset, metadata.stuff_classes)
    classes = [n for i, n in enumerate(metadata.stuff_classes) if i not in hidden]
    images = root / "images_detectron2" / "validation"
    labels = root / "annotations_detectron2" / "validation"
    if not images.is_dir():
        raise FileNotFoundError(f"dataset {name!r}: no folder {images}")
    records = {}
    for file in sorted(images.glob("*.jpg")):
        if not (file.stem.isdigit() and 1 <= int(file.stem) <= len(classes)):
            raise ValueError(
                f"{file}: its name is the number of a class of {dataset!r}, 1 to {len(classes)}"
            )
        number, label = int(file.stem), labels / f"{file.stem}.tif"
        if not label.is_file():
            raise FileNotFoundError(f"image without a label map: {file}; expected {label}")
        records[number] = {
            "file_name": str(file),
            "sem_seg_file_name": str(label),
            "image_id": number,
            "only": [number],  # other classes that it may show have pictures of their own
        }
    MetadataCatalog.get(name).set(
        stuff_classes=["background", *classes],
        background_label=0,
        ignore_label=IGNORED_8_BIT if len(classes) < IGNORED_8_BIT else IGNORED_16_BIT,
        evaluator_type="sem_seg",
    )
    return [records[number] for number in sorted(records)]
