"""Masks of video frames as data sets and servers have them: PNG files whose values are object ids.

8 bits with a palette, 0 the background, 255 void; or, for more than 254 objects, "packed": three
channels, id = R + 256 · G + 65536 · B.
"""

import logging
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..utils.files import AnyPath, write_picture
from .formats import suffix_of
from .mask_pictures import to_binary_mask, to_label_map
from .masks import AnyMask
from .odd_masks import listed
from .pictures import opened, upright

logger = logging.getLogger(__name__)

MOST_IDS = 20  # of a map that was hardly painted with ids
LIMIT = 254  # the highest id of 8 bits; 255 is void
PACKED_LIMIT = 2**24 - 1
Palette = list[int]  # r, g, b, r, g, b, … from id 0 on


class VideoMask(NamedTuple):
    """``labels`` int32 (H, W), ids of objects, and the file's ``palette``, None: it has none."""

    labels: np.ndarray
    palette: Palette | None


def voc_palette() -> Palette:
    """PASCAL VOC's 256 colours, as the files of DAVIS have them: bits 0, 3 and 6 of an id are the
    highest of red, from the highest down, bits 1, 4 and 7 of green, bits 2 and 5 of blue."""
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((np.arange(256) >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours.reshape(-1).tolist()


def read_video_mask(path: AnyPath, packed: bool = False) -> VideoMask:
    """Read a mask as it is: the indices of a palette, or grey values. With ``packed`` a file of
    three channels is read as ids. FileNotFoundError or ValueError names a file that is missing,
    unreadable, or coloured without ``packed``."""
    with opened(path) as image:
        if packed and image.mode == "RGB":
            channels = np.asarray(upright(image)).astype(np.int32)
            return VideoMask(channels @ np.array([1, 256, 65536], np.int32), None)
        palette = image.getpalette() if image.mode == "P" else None
        return VideoMask(to_label_map(image), palette)


class GivenMask(NamedTuple):
    """``content`` as of ``to_masks``, and the file's ``palette``, None: it has none."""

    content: AnyMask
    palette: Palette | None


def read_given_mask(path: AnyPath) -> GivenMask:
    """Read what people give as the objects of a frame: a file of ids, or, in black and white or
    colours on black, of one object. What smooth edges or JPEG leave of its values are no ids; the
    log says so. FileNotFoundError or ValueError names a file that is missing or no mask."""
    if suffix_of(path) in (".json", ".npy"):
        return GivenMask(path, None)
    with opened(path) as image:
        if image.mode == "P":
            return GivenMask(path, image.getpalette())
        try:
            odd = odd_ids(to_label_map(image))
        except ValueError:  # coloured
            odd = "has colours"
        if image.format == "JPEG" or odd:
            what = odd or "is a JPEG, which keeps no ids"
            mask = to_binary_mask(image)
            if not mask.any():
                raise ValueError(f"{what}; of one object it is no mask either: nothing is white")
            logger.warning("%s %s: it is taken for the mask of one object", path, what)
            return GivenMask(mask, None)
    return GivenMask(path, None)


def write_video_mask(
    path: AnyPath,
    labels: np.ndarray,
    palette: Palette | None = None,
    packed: bool = False,
    comment: str = "",
) -> None:
    """Write integer ids (H, W) as a PNG file of 8 bits, with the ``palette`` that came in and VOC's
    colours where it ends. ``packed`` writes three channels. ``comment``: metadata.

    ValueError, naming the file: no map of integers, an id below 0 or above 254 (packed: 16777215),
    another suffix."""
    limit = PACKED_LIMIT if packed else LIMIT
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise ValueError(f"{path}: {labels.dtype} of the shape {labels.shape} is no map of ids")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > limit:
        advice = "" if packed or low < 0 else "; more objects are written packed, in 3 channels"
        raise ValueError(f"{path}: the id {min(low, 0) or high} is outside 0 to {limit}{advice}")
    if not str(path).lower().endswith(".png"):
        raise ValueError(f"{path}: ids are written as .png, other formats change them")
    if packed:
        ids = labels.astype(np.int64)
        image = Image.fromarray(np.stack([ids >> s & 255 for s in (0, 8, 16)], -1).astype(np.uint8))
    else:
        image = Image.fromarray(labels.astype(np.uint8)).convert("P")
        own, voc = list(palette or ()), voc_palette()
        image.putpalette(own + voc[len(own) :])
    about = PngInfo()
    if comment:
        about.add_text("Comment", comment)
    write_picture(path, image, pnginfo=about)


def odd_ids(labels: np.ndarray) -> str:
    """What is odd about the ids of a given map (H, W), the end of a sentence of it, or "".

    It has more than 20 ids; or all pixels of an id have two other values within 1 px, as those have
    that smooth edges bring into a map that was resized or painted. 255 is no id.
    """
    ids = [k for k in np.unique(labels).tolist() if k not in (0, 255)]
    clear = _clear(labels)
    edges = [k for k in ids if k not in clear] if len(ids) > 1 else []
    if edges:
        return (
            f"has {len(ids)} ids; {listed('ids', edges)} lie only between two others: was it "
            "resized, or painted with smooth edges?"
        )
    if len(ids) > MOST_IDS:
        return f"has {len(ids)} ids, {listed('ids', ids)}: is each value an object?"
    return ""


def _clear(labels: np.ndarray) -> set[int]:
    """Values with a pixel that has fewer than two other values within 1 px."""
    centre = labels.astype(np.int64)
    height, width = centre.shape
    around = np.pad(centre, 1, mode="edge")
    low, high = np.full_like(centre, np.iinfo(np.int64).max), np.full_like(centre, -1)
    for y, x in np.ndindex(3, 3):
        near = around[y : y + height, x : x + width]
        other = near != centre
        np.minimum(low, near, out=low, where=other)
        np.maximum(high, near, out=high, where=other)
    return set(np.unique(centre[low >= high]).tolist())
