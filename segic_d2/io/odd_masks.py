"""What is odd about a mask, in words: it is right by its form, and yet hardly what was meant."""

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from .formats import suffix_of
from .pictures import array_of, opened

FULL = 0.98  # share of the picture from which a mask leaves nothing out
LARGE, FRAMED = 0.6, 0.8  # shares of the picture, and of its border, of a mask that is inverted
MOST = 6  # values that a message lists
SPECK, SPECKS = 4, 10  # px below which a piece is a speck; specks from which a mask is noise


def suspicion(mask: np.ndarray, found: bool = False) -> str:
    """What is odd about a mask, bool (H, W), that is not empty: the end of a sentence that begins
    with it, or "". ``found``: by a model, in a box about the thing.

    It covers all, it has hardly a pixel, it is inverted (most of the picture, nearly all of its
    border, and less of its middle), or most of its pieces are specks.
    """
    pixels, share = int(mask.sum()), float(mask.mean())
    of_it = f"{100 * share:.{0 if share > 0.1 else 2}f} % of the picture"
    if pixels < SPECK:
        return f"has {pixels} px, {of_it}; is it of this picture?"
    if share >= FULL and found:
        return f"covers {of_it}: a box that leaves nothing out tells the thing from nothing"
    if share >= FULL:
        return f"covers {of_it}; is it inverted?"
    if _is_inverted(mask, share):
        return f"covers {of_it}, but not its middle; is it inverted?"
    sizes = np.bincount(ndimage.label(mask)[0].reshape(-1))[1:]
    specks = int((sizes < SPECK).sum())
    if specks >= SPECKS and 2 * specks > len(sizes):
        return f"covers {of_it} and has {specks} specks of less than {SPECK} px; is it noise?"
    return ""


def _is_inverted(mask: np.ndarray, share: float) -> bool:
    """A large thing that passes all borders fills the middle first and the border last."""
    sides = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    height, width = (n // 4 for n in mask.shape)
    middle = mask[height : mask.shape[0] - height, width : mask.shape[1] - width]
    around = np.concatenate(sides)
    return share > LARGE and around.mean() >= FRAMED and float(middle.mean()) < share


def describe_values(mask: object) -> str:
    """What a picture or an array of a mask holds, "the values 0, 2" or "the colours (255, 0, 0)";
    "" where it is of another form. Errors of reading as of ``read_label_map``."""
    if isinstance(mask, str | os.PathLike) and suffix_of(mask) not in (".json", ".npy"):
        with opened(mask) as image:
            return describe_values(image)
    if isinstance(mask, Image.Image) and len(mask.getbands()) > 1:
        colours = mask.getcolors(mask.width * mask.height) or ()
        return listed("colours", sorted(colour for _, colour in colours))
    if isinstance(mask, torch.Tensor):
        mask = array_of(mask)
    if isinstance(mask, Image.Image | np.ndarray):
        return listed("values", np.unique(np.asarray(mask)).tolist())
    return ""


def listed(what: str, values: list[Any]) -> str:
    """Up to ``MOST`` values and the number of the others, in words."""
    shown = [*map(str, values[:MOST]), *([f"{len(values) - MOST} more"] * (len(values) > MOST))]
    return f"the {what} {', '.join(shown)}"
