"""LVIS v1 in miniature: images found by their coco_url, 1203 categories with their frequencies."""

from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from tests.miniatures import objects

# image number → (COCO folder, categories of its boxes, known to be absent, not fully labelled)
SHOWN = {
    "train": {
        1: ("train2017", (1, 1, 703), [5], []),
        2: ("train2017", (1203, 703, 1), [], [1]),
        3: ("train2017", (703, 1203, 1203), [], []),
    },
    "val": {  # validation has images of COCO's training set, too
        101: ("val2017", (1, 703, 1), [1203], []),
        102: ("train2017", (1203, 1203, 703), [], [1]),
    },
}


def make(root):
    """Write ``lvis/lvis_v1_{train,val}.json`` and the images in ``coco/{train,val}2017``."""
    for split, shown in SHOWN.items():
        images = []
        for number, (folder, categories, absent, partly) in shown.items():
            file = f"{folder}/{number:012d}.jpg"
            objects.picture(root / "coco" / file, categories, number)
            images.append(
                {
                    "id": number,
                    "coco_url": f"http://images.cocodataset.org/{file}",
                    "height": objects.SIZE[0],
                    "width": objects.SIZE[1],
                    "neg_category_ids": absent,
                    "not_exhaustive_category_ids": partly,
                }
            )
        objects.write_json(
            root / f"lvis/lvis_v1_{split}.json",
            images=images,
            annotations=objects.annotations({n: about[1] for n, about in shown.items()}),
            categories=[{**c, "image_count": 1, "instance_count": 1} for c in LVIS_CATEGORIES],
        )
