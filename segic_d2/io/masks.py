"""Pictures and masks as people have them → arrays.

Shape shorthand: H×W the picture as displayed, n masks.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ..utils.files import AnyPath
from ..utils.remote import first_line
from ..utils.texts import one_line, printable
from .formats import suffix_of
from .mask_pictures import HIGHEST_ID, holds_ids, to_binary_mask, to_label_map
from .odd_masks import describe_values
from .pictures import AnyPicture, alpha_of, array_of, open_file, opened
from .rle import decode

# masks as people have them, see `to_masks`
AnyMask: TypeAlias = AnyPicture | dict[str, Any] | Sequence[dict[str, Any] | Sequence[float]]


FOREIGN = {  # key of what is no prompt → what it is, and what to do
    "data": "it is a task of Label Studio: give labelstudio:FILE as the references",
    "annotations": "it is a whole COCO file: give the 'segmentation' of one of its 'annotations'",
    "shapes": "it is a labelme file: give {'polygon': points} with the 'points' of one of its "
    "'shapes', or {'box': …} for a rectangle",
    "segmentation": "it is a COCO annotation: give its 'segmentation'",
    "bbox": "a box is {'box': [x0, y0, x1, y1]}; COCO's bbox x, y, width, height is x, y, "
    "x + width, y + height",
    "text": "texts are not taken in references; mark the thing, and give the text as its name",
}


def to_masks(mask: AnyMask, size: tuple[int, int], as_ids: bool = False) -> dict[int, np.ndarray]:
    """One or several masks of a picture by id, bool (H, W) each, ids ascending.

    What serves as a mask, and its ids:

    - a binary image file, 0/1, 0/255, grey with the foreground at 128 and above, or colours painted
      on black: id 1 (``to_binary_mask``);
    - a cut-out, a file of which a part is transparent: what is opaque (``to_binary_mask``): id 1;
    - a palette image file with ids, such as VOC's and DAVIS': each value but 0, 255 and 65535
      (ignored).
      A file of 0 and 255 alone is binary, and so is a palette of black and white or of greys
      (``holds_ids``). A grey file is read so too where ``as_ids`` asks for it.
      It may be transparent where it is 0; with other transparency it is a cut-out;
    - a ``.json`` file that holds one of the following:
    - a COCO RLE, compressed or not: id 1; a list of n of them: 1…n;
    - the numbers of an array as lists in lists, of the picture's size;
    - polygons, a list of flat lists x, y, x, y, … in pixels of the displayed picture: id 1;
    - a PIL image, as a file;
    - an array or tensor, or a ``.npy`` file of one: bool (H, W): id 1; integer (H, W): as a palette
      file; (n, H, W): 1…n; uint8 (H, W, 1), (H, W, 3) or (H, W, 4), or bool with equal channels: as
      an image file. A float array in [0, 1] is foreground from 0.5 on.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: unreadable, of an unknown kind, or of another size than (H, W) of the picture as
            displayed (both are named). That a mask is empty is no error here.
    """
    if isinstance(mask, str | os.PathLike):
        return _from_file(os.fspath(mask), size, as_ids)
    if isinstance(mask, dict):
        return {1: _from_rle(mask, size)}
    if isinstance(mask, list | tuple):
        if mask and all(isinstance(m, dict) for m in mask):
            return {i: _from_rle(m, size) for i, m in enumerate(mask, 1)}
        if (array := _as_array(mask, size)) is not None:
            return _from_array(array, size)
        return {1: from_polygons(mask, size)}
    if isinstance(mask, torch.Tensor):
        mask = array_of(mask)
    if isinstance(mask, np.ndarray) and _has_channels(mask, size):
        mask = mask[..., 0] if mask.dtype.kind == "f" and mask.shape[2] == 1 else _to_image(mask)
    if isinstance(mask, Image.Image):
        mask = _from_image(mask, as_ids)
    if isinstance(mask, np.ndarray):
        return _from_array(mask, size)
    raise ValueError(
        "a mask is a file, a COCO RLE dict, a list of polygons or an array, "
        f"not {type(mask).__name__}"
    )


def _from_file(path: str, size: tuple[int, int], as_ids: bool) -> dict[int, np.ndarray]:
    suffix = suffix_of(path)
    content: Any
    if suffix == ".txt":
        raise ValueError(
            f"{printable(path)} is a text file, as YOLO's labels are, which are not taken: give a "
            "picture of the mask, a .npy array, or a .json file of an RLE or of polygons in pixels"
        )
    if suffix in (".json", ".npy"):
        content = read_json(path) if suffix == ".json" else _read_array(path)
    else:
        with opened(path) as image:
            content = _from_image(image, as_ids)
    try:
        return to_masks(content, size, as_ids)
    except ValueError as error:
        raise ValueError(printable(f"{path}: {error}")) from error


def read_json(path: AnyPath) -> dict[str, Any] | list[Any]:
    """The content of a ``.json`` file. FileNotFoundError: no file; ValueError: it cannot be read,
    or holds neither a dict nor a list."""
    with open_file(os.fspath(path)) as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(printable(f"cannot read {path}: {error}")) from error
    if not isinstance(content, dict | list):
        what = repr(content)[:80]
        raise ValueError(printable(f"{path} holds {what}, neither an RLE nor polygons"))
    return content


def _from_image(image: Image.Image, as_ids: bool) -> np.ndarray:
    """Integer (H, W) ids of a label map, or the foreground, bool (H, W)."""
    if as_ids or (image.mode == "P" and _is_label_map(image)):
        return to_label_map(image)
    return to_binary_mask(image)


def _is_label_map(image: Image.Image) -> bool:
    """Whether a palette image holds ids: it has no transparency but that of the background."""
    alpha = alpha_of(image)
    if alpha is None:
        return holds_ids(image)
    return not (alpha != np.where(np.asarray(image) > 0, 255, 0)).any()


def _read_array(path: str) -> np.ndarray:
    with open_file(path) as file:
        try:
            return np.load(file, allow_pickle=False)
        except Exception as error:  # its header may hold anything
            raise ValueError(printable(f"cannot read {path}: {first_line(error)}")) from error


def _has_channels(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether an array is (H, W, channels), and not n masks (n, H, W)."""
    last = mask.ndim == 3 and mask.shape[2] in (1, 3, 4)
    return last and mask.shape[:2] == size != mask.shape[1:]


def _to_image(mask: np.ndarray) -> Image.Image:
    """The image that an array (H, W, channels) shows."""
    one = mask[..., :1]
    if mask.dtype not in (np.uint8, bool) or (mask.dtype == bool and (mask != one).any()):
        raise ValueError(
            f"mask array of shape {mask.shape} and type {mask.dtype} is a coloured picture: give "
            "one mask (H, W), n of them (n, H, W), or the picture as uint8"
        )
    grey = mask.dtype == bool or mask.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(mask[..., 0] if grey else mask))


def _split(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The masks of a label map (H, W) by id."""
    values = np.unique(labels)
    if values[0] < 0:
        raise ValueError(f"mask has the negative id {values[0]}")
    if values[-1] > HIGHEST_ID:
        raise ValueError(f"mask has the id {values[-1]}; ids end at {HIGHEST_ID}")
    masks = {int(v): labels == v for v in values if v not in (0, IGNORE_LABEL, VOID_16)}
    return masks or {1: labels > 0}


def _from_array(mask: np.ndarray, size: tuple[int, int]) -> dict[int, np.ndarray]:
    if mask.ndim not in (2, 3):
        raise ValueError(f"mask array of shape {mask.shape}; expected (H, W) or (n, H, W)")
    _check_size(mask.shape[-2:], size)
    if not mask.size:
        raise ValueError(f"mask array of shape {mask.shape} holds no mask")
    if mask.dtype.kind == "f":
        out = mask[~((mask >= 0) & (mask <= 1))]  # NaN, too
        if out.size:
            raise ValueError(f"mask array of floats has {out[0]:g}, outside [0, 1]")
        mask = mask >= 0.5
    if mask.dtype.kind not in "biu":
        raise ValueError(f"mask array of type {mask.dtype}; expected bool, integer or float")
    if mask.ndim == 3:
        return {i: m > 0 for i, m in enumerate(mask, 1)}
    return {1: mask} if mask.dtype.kind == "b" else _split(mask)


def _from_rle(rle: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    if not {"size", "counts"} <= set(rle):
        advice = [text for key, text in FOREIGN.items() if key in rle]
        what = (*advice, "a COCO RLE has 'counts' and 'size'")[0]
        keys = sorted(map(str, rle))
        raise ValueError(f"mask is a dict with {keys}; {what}")
    try:
        height, width = map(int, [] if isinstance(rle["size"], str) else rle["size"])
    except (TypeError, ValueError, OverflowError) as error:
        said = repr(rle["size"])[:80]
        raise ValueError(f"mask has the size {said}; it is [height, width]") from error
    _check_size((height, width), size)
    counts = rle["counts"]
    try:
        if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
            raise ValueError(f"its counts sum to {sum(counts)}")
        return decode(rle, *size)
    except Exception as error:  # pycocotools raises what its C code finds
        raise ValueError(f"mask is no RLE of {size[1]}x{size[0]} px: {error}") from error


def _as_array(rows: Sequence[Any], size: tuple[int, int]) -> np.ndarray | None:
    """Lists of the numbers of an array (H, W) or (n, H, W); None: they may be polygons. ValueError:
    0 and 1 alone, of another size."""
    try:
        array = np.array(rows)
    except ValueError:  # of several lengths
        return None
    if array.dtype.kind == "O" and array.shape[-2:] == size:
        raise ValueError("mask has numbers that no type of an array holds")
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf" or not array.size:
        return None
    if array.shape[-2:] == size:
        return array
    if len(array) > 1 and array.ndim == 2 and np.isin(array, (0, 1)).all():
        _check_size(array.shape, size)
    return None


def from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """What polygons, flat x, y, x, y, … or pairs each, enclose together, bool (H, W) = ``size``;
    errors as of ``to_masks``."""
    try:
        points = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            "mask is a list, but not of polygons (flat lists x, y, x, y, …), nor of dicts (boxes, "
            f"points, RLE): it has {one_line(repr(polygons[0]))[:60]}"
        ) from error
    for number, corners in enumerate(points, 1):
        if len(corners) < 3 or not np.isfinite(corners).all():
            raise ValueError(
                f"polygon {number} of the mask has no 3 finite corners: {corners.tolist()} (boxes "
                "and points are given as {'box': …} and {'points': …})"
            )
    shares = all(0 <= p.min() and p.max() <= 1 for p in points)
    if points and shares and min(size) > 1:
        raise ValueError(
            "all corners of the mask are in the first pixel; coordinates are px, not shares"
        )
    # an annotated object is never empty for decode(), one outside of the picture is
    inside = [p for p in points if (p.max(0) > 0).all() and (p.min(0) < size[::-1]).all()]
    if not inside:
        return np.zeros(size, dtype=bool)
    return decode([p.reshape(-1).tolist() for p in inside], *size)


def _check_size(found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        turned = " (masks are in the displayed orientation)" if found == size[::-1] else ""
        raise ValueError(
            f"mask is {found[1]}x{found[0]} px, the image as displayed is {size[1]}x{size[0]} px"
            + turned
        )


def read_label_map(path: AnyPath) -> np.ndarray:
    """Read the raw ids of a label map, int32 (H, W), as displayed: no palette expansion or scaling.

    Accepts bilevel (ids 0 and 1), 8-bit grey, palette, 16- and 32-bit integer files, floats that
    are whole numbers, and colour files whose channels are all equal (grey maps are often saved so).
    Where a palette's 0 is white and black the only other colour, as optimisers number them, white
    is 1. FileNotFoundError or ValueError names a file that is missing, unreadable, truly a colour
    image, or has fractions.
    """
    with opened(path) as image:
        return to_label_map(image)


def read_grey(path: AnyPath) -> np.ndarray:
    """Read the luminance, uint8 (H, W), of a mask that is drawn in grey, colour or a palette;
    errors as of ``read_label_map``."""
    with opened(path) as image:
        return np.asarray(image.convert("L"))


def read_binary_mask(path: AnyPath) -> np.ndarray:
    """Read a mask's foreground, bool (H, W). FileNotFoundError or ValueError names a file that is
    missing or unreadable, and what is ambiguous (``to_binary_mask``) or too dark to show any."""
    with opened(path) as image:
        mask = to_binary_mask(image)
        if not mask.any() and image.convert("L").getextrema() != (0, 0):
            raise ValueError(
                "a mask without foreground, which is white, or 128 and above in grey; it has "
                f"{describe_values(image)}"
            )
        return mask


IGNORE_LABEL = 255  # Detectron2's usual value, for metadata that does not say
VOID_16 = 65535  # what maps of 16 bits have in its place
