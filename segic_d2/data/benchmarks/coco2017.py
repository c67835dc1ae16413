"""Finds images of COCO 2017, which lists name in one of several ways."""

import os

from ...utils.files import AnyPath


def coco2017_image(root: AnyPath, name: str) -> str:
    """Path of an image of COCO 2017 below ``root``. ``name`` is a URL or a path that ends in
    ``val2017/000000000139.jpg``, or the bare file name, looked for in val2017 and then in
    train2017."""
    parts = name.split("/")[-2:]
    if len(parts) == 2:
        return os.path.join(root, *parts)
    found = (os.path.join(root, folder, name) for folder in ("val2017", "train2017"))
    return next((path for path in found if os.path.isfile(path)), os.path.join(root, name))
