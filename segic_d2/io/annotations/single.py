"""One file of a labelling tool as the mask of one picture."""

import os
from pathlib import Path

import numpy as np

from ..masks import read_json
from .labelme import add_shapes
from .records import AnnotationSet, Size
from .yolo import names_beside, read_labels


def masks_of_file(mask: object, size: Size) -> tuple[np.ndarray, list[str]] | None:
    """The masks bool (n, H, W) of a picture of ``size`` and the names of the classes, ascending as
    in the file, where ``mask`` is the path of labelme's .json or YOLO's .txt; None: it is neither.

    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong, or that it marks nothing.
    """
    path = Path(os.fspath(mask)) if isinstance(mask, str | os.PathLike) else Path()
    found = AnnotationSet(str(path))
    row = found.add_picture(str(path), size)
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        found.names = names_beside(path)
        read_labels(found, row, path, bool(found.names))
    elif path.suffix.lower() == ".json" and path.is_file():
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            return None
        add_shapes(found, path, content, row)
    else:
        return None
    if found.faults:
        raise ValueError(found.faults[0])
    masks = {name: m for name, m in found[row].masks().items() if m.any()}
    if not masks:
        left_out = ", ".join(f"{count} {what}" for what, count in found.notes.items())
        raise ValueError(f"{path} marks nothing{f' ({left_out})' if left_out else ''}")
    return np.stack(list(masks.values())), list(masks)
