"""Paints objects of COCO's form into a label map."""

import numpy as np

from segic_d2.io.rle import decode, has_mask

BACKGROUND, IGNORED = 0, 255


def paint(record):
    """Paint the label map of an image's objects.

    Where objects overlap, the smaller one is painted over the larger one, which would hide it. A
    crowd is ignored, because nobody knows how much of it is its class; objects in it are painted.

    Args:
        record: dataset dict with ``height``, ``width`` and ``annotations`` of classes below 254.

    Returns:
        uint8 array (H, W): 0 where nothing is, c + 1 of class c, 255 ignored.
    """
    height, width = record["height"], record["width"]
    labels = np.full((height, width), BACKGROUND, np.uint8)
    objects = []
    for annotation in record["annotations"]:
        crowd = bool(annotation.get("iscrowd")) and "segmentation" in annotation
        if crowd or has_mask(annotation):
            mask = decode(annotation["segmentation"], height, width, record["file_name"])
            value = IGNORED if crowd else annotation["category_id"] + 1
            objects.append((crowd, int(mask.sum()), mask, value))
    objects.sort(key=lambda x: (not x[0], -x[1]))  # crowds, then from large to small
    for *_, mask, value in objects:
        labels[mask] = value
    return labels
