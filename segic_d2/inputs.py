"""Pictures and masks as people have them → arrays.

Shape shorthand: H×W the picture as displayed, n masks.
"""

import json
import os

import numpy as np
import torch
from PIL import Image

from .data.image_io import (
    is_palette,
    read_binary_mask,
    read_image,
    read_label_map,
    to_binary_mask,
    to_rgb,
    upright,
)
from .data.masks import IGNORE_LABEL, decode


def file_of(source):
    """Path of a picture or mask for messages; "" where it did not come from a file."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return getattr(source, "filename", "") or ""


def to_picture(image):
    """A picture as it is displayed, uint8 array (H, W, 3) RGB.

    Args:
        image: path; PIL image (EXIF rotation is applied); uint8 or uint16 array (H, W), (H, W, 3)
            or (H, W, 4), RGB order.

    Raises:
        FileNotFoundError, ValueError: naming the file, or the type, shape and dtype that came.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.array(to_rgb(upright(image)))
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a path, a PIL image or an array, not {type(image).__name__}")
    colours = image.ndim == 3 and image.shape[2] in (3, 4)
    if (
        image.dtype not in (np.uint8, np.uint16)
        or not (image.ndim == 2 or colours)
        or not image.size
    ):
        raise ValueError(
            f"image array of shape {image.shape} and type {image.dtype}; expected uint8 or uint16 "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    return np.array(to_rgb(Image.fromarray(np.ascontiguousarray(image))))


def to_masks(mask, size, as_ids=False):
    """One or several masks of a picture by id, {id: bool array (H, W)}, ids ascending.

    What serves as a mask, and its ids:

    - a binary image file, 0/1, 0/255, or grey with the foreground at 128 and above: id 1;
    - a palette image file with ids, such as VOC's and DAVIS': each value but 0 and 255 (ignored).
      A file of 0 and 255 alone is binary. A grey file is read so too where ``as_ids`` asks for it;
    - a ``.json`` file that holds one of the following:
    - a COCO RLE, compressed or not: id 1; a list of n of them: 1…n;
    - polygons, a list of flat lists x, y, x, y, … in pixels of the displayed picture: id 1;
    - a PIL image, as a file;
    - an array or tensor: bool (H, W): id 1; integer (H, W): as a palette file; (n, H, W): 1…n. A
      float array in [0, 1] is foreground from 0.5 on.

    Args:
        mask: see above.
        size: (H, W) of the picture as displayed.
        as_ids: read a grey file as ids.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: unreadable, of an unknown kind, or of another size than the picture (both sizes
            are named). That a mask is empty is no error here.
    """
    if isinstance(mask, str | os.PathLike):
        return _from_file(os.fspath(mask), size, as_ids)
    if isinstance(mask, dict):
        return {1: _from_rle(mask, size)}
    if isinstance(mask, list | tuple):
        if mask and all(isinstance(m, dict) for m in mask):
            return {i: _from_rle(m, size) for i, m in enumerate(mask, 1)}
        return {1: _from_polygons(mask, size)}
    if isinstance(mask, torch.Tensor):
        mask = mask.detach().cpu().numpy()
    if isinstance(mask, Image.Image):
        mask = _from_pil(mask, as_ids)
    if isinstance(mask, np.ndarray):
        return _from_array(mask, size)
    raise ValueError(
        "a mask is a file, a COCO RLE dict, a list of polygons or an array, "
        f"not {type(mask).__name__}"
    )


def _from_file(path, size, as_ids):
    if path.lower().endswith(".json"):
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}") from error
        if not isinstance(content, dict | list):
            raise ValueError(f"{path} holds {content!r}, neither an RLE nor polygons")
        return to_masks(content, size)
    binary = read_binary_mask(path)  # also the check that the file is readable
    as_ids = as_ids or is_palette(path)
    _check_size(binary.shape, size)
    return _split(read_label_map(path)) if as_ids else {1: binary}


def _from_pil(mask, as_ids):
    """An array for ``_from_array``, by the rules for files."""
    if as_ids or mask.mode in ("1", "P"):
        return np.asarray(mask)
    return to_binary_mask(mask)


def _split(labels):
    """A label map (H, W) as {id: mask}."""
    values = np.unique(labels)
    if values[0] < 0:
        raise ValueError(f"mask has the negative id {values[0]}")
    ids = [int(v) for v in values if v not in (0, IGNORE_LABEL)]
    if not ids:
        return {1: labels == IGNORE_LABEL}
    return {i: labels == i for i in ids}


def _from_array(mask, size):
    if mask.ndim not in (2, 3):
        raise ValueError(f"mask array of shape {mask.shape}; expected (H, W) or (n, H, W)")
    _check_size(mask.shape[-2:], size)
    if mask.dtype.kind == "f":
        if not ((mask >= 0) & (mask <= 1)).all():
            raise ValueError("mask array of floats outside [0, 1]")
        mask = mask >= 0.5
    if mask.dtype.kind not in "biu":
        raise ValueError(f"mask array of type {mask.dtype}; expected bool, integer or float")
    if mask.ndim == 3:
        return {i: m > 0 for i, m in enumerate(mask, 1)}
    return {1: mask} if mask.dtype.kind == "b" else _split(mask)


def _from_rle(rle, size):
    if not {"size", "counts"} <= set(rle):
        raise ValueError(f"mask is a dict with {sorted(rle)}; a COCO RLE has 'counts' and 'size'")
    _check_size(tuple(rle["size"]), size)
    counts = rle["counts"]
    try:
        if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
            raise ValueError(f"its counts sum to {sum(counts)}")
        return decode(rle, *size)
    except Exception as error:  # pycocotools raises what its C code finds
        raise ValueError(f"mask is no RLE of {size[1]}x{size[0]} px: {error}") from error


def _from_polygons(polygons, size):
    try:
        points = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"mask is a list, but not of polygons (flat lists x, y, x, y, …): {error}"
        ) from error
    for number, corners in enumerate(points, 1):
        if len(corners) < 3 or not np.isfinite(corners).all():
            raise ValueError(f"polygon {number} of the mask has no 3 finite corners: {corners}")
    # an annotated object is never empty for decode(), one outside of the picture is
    inside = [
        p
        for p in points
        if (p.max(0) > 0).all() and p[:, 0].min() < size[1] and p[:, 1].min() < size[0]
    ]
    if not inside:
        return np.zeros(size, dtype=bool)
    return decode([p.reshape(-1).tolist() for p in inside], *size)


def _check_size(found, size):
    found, size = tuple(found), tuple(size)
    if found != size:
        turned = " (masks are in the displayed orientation)" if found == size[::-1] else ""
        raise ValueError(
            f"mask is {found[1]}x{found[0]} px, the image as displayed is {size[1]}x{size[0]} px"
            + turned
        )
