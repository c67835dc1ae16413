"""Finds images of COCO 2017, which lists name in one of several ways."""

import os


def coco2017_image(root, name):
    """Path of an image of COCO 2017.

    Args:
        root: folder that holds ``train2017`` and ``val2017``.
        name: a URL or a path that ends in ``val2017/000000000139.jpg``, or the bare file name,
            which is looked for in val2017 and then in train2017.
    """
    parts = name.split("/")[-2:]
    if len(parts) == 2:
        return os.path.join(root, *parts)
    found = (os.path.join(root, folder, name) for folder in ("val2017", "train2017"))
    return next((path for path in found if os.path.isfile(path)), os.path.join(root, name))
