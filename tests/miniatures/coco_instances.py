"""COCO 2017 instances in miniature: polygons, one crowd as RLE, all 80 categories in the files."""

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from tests.miniatures import objects

CATEGORIES = [
    {"supercategory": "thing", "id": c["id"], "name": c["name"]}
    for c in COCO_CATEGORIES
    if c["isthing"]
]
# image number → categories of its three boxes; ids have gaps (11 is "fire hydrant", 13 the next)
SHOWN = {
    "train": {1: (1, 1, 3), 2: (13, 3, 1), 3: (90, 90, 13), 4: (3, 13, 90)},
    "val": {101: (1, 1, 13), 102: (3, 90, 3), 103: (13, 1, 3)},
}
CROWD = {"size": list(objects.SIZE), "counts": [objects.SIZE[0] * 60, objects.SIZE[0] * 4]}


def make(root):
    """Write ``coco/{train,val}2017`` and ``coco/annotations/instances_{train,val}2017.json``."""
    for split, shown in SHOWN.items():
        images = []
        for number, categories in shown.items():
            file = f"{number:012d}.jpg"
            objects.picture(root / f"coco/{split}2017" / file, categories, number)
            size = dict(zip(("height", "width"), objects.SIZE, strict=True))
            images.append({"id": number, "file_name": file, **size})
        found = [{**a, "iscrowd": 0} for a in objects.annotations(shown)]
        crowd = {**objects.annotation(len(found) + 1, images[0]["id"], 1, (60, 0, 4, 48))}
        found.append({**crowd, "iscrowd": 1, "segmentation": CROWD})
        objects.write_json(
            root / f"coco/annotations/instances_{split}2017.json",
            images=images,
            annotations=found,
            categories=CATEGORIES,
        )
