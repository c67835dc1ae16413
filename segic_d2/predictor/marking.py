"""What is marked in a reference's picture → its masks, by id.

Shapes: H×W the picture as displayed.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from ..io.odd_masks import describe_values
from ..io.pictures import AnyPicture, file_of, to_cut_out, to_picture
from ..io.prompts import AnyPrompt, to_marked
from ..structures.picture import Picture
from ..structures.prompts import Marked

# a picture and what is marked in it → the thing's mask, bool (H, W)
Complete: TypeAlias = Callable[[Picture, Marked], np.ndarray]


def read_marked(
    image: AnyPicture, mask: AnyPrompt | None, picture: np.ndarray, as_ids: bool = False
) -> dict[int, Marked]:
    """What a mask of any form of ``to_marked`` marks in a picture, by id. A cut-out is its own mask
    where none is given, or where it is given twice.

    Args:
        image: as it was given. mask: None: it has none of its own.
        picture: the image as it was read, uint8 (H, W, 3). as_ids: of ``to_masks``.

    Raises:
        FileNotFoundError, ValueError: as of ``to_marked``; or a picture without transparency has no
            mask, or stands for it too. A drawing in black and white may be its own mask.
    """
    same = mask is image or "" != file_of(mask) == file_of(image)
    shown = to_cut_out(image) if mask is None or same else None
    if shown is not None:
        return {1: Marked.of_mask(shown)}
    if mask is None:
        raise ValueError("mask is missing, and no part of the image is transparent")
    if (same or _shows(mask, picture)) and not np.isin(picture, (0, 255)).all():
        raise ValueError("mask is the image itself, no part of which is transparent")
    return to_marked(mask, picture.shape[:2], as_ids)


def _shows(mask: AnyPrompt, picture: np.ndarray) -> bool:
    """Whether a mask is a copy of the picture."""
    try:
        return np.array_equal(to_picture(mask), picture)  # type: ignore[arg-type]
    except (ValueError, OSError):
        return False  # of another form


def complete_masks(
    picture: Picture,
    marked: Mapping[int, Marked],
    names: Mapping[int, str | None],
    complete: Complete,
    source: AnyPrompt | None = None,
) -> dict[int, np.ndarray]:
    """The masks, bool (H, W), by the ids of ``names``. Where something is open, ``complete`` says
    what of it is the thing; what is surely inside or outside stays so, and so does what points and
    scribbles say of other things (``names`` tells which ids are the same thing). ``source``: as it
    was given, whose values an error names.

    Raises:
        ValueError: what ``complete`` raises, or it gave no bool (H, W); or a mask is empty.
    """
    masks = {}
    for i, name in names.items():
        one, mask = _apart(marked, i, names), marked[i].inside
        is_open = one.open.any()
        if is_open:
            found = np.asarray(complete(picture, one))
            if found.dtype != bool or found.shape != mask.shape:
                raise ValueError(f"mask is {found.dtype} {found.shape}, not bool {mask.shape}")
            mask = (found | mask) & ~one.outside
        if not mask.any():
            which = "" if len(marked) == 1 else f" of id {i}" + (f" ({name!r})" if name else "")
            if is_open:
                raise ValueError(f"mask{which} is empty: the model finds nothing in what is marked")
            values = describe_values(source)
            raise ValueError(
                f"mask{which} is empty (foreground is white, or 128 and above in grey; a grey file "
                f"of ids needs names by id){values and f': it has {values}'}"
            )
        masks[i] = mask
    return masks


def _apart(marked: Mapping[int, Marked], i: int, names: Mapping[int, str | None]) -> Marked:
    """What is marked as one thing, and not as another one that is open too. A whole mask of another
    thing says nothing: it may be a part of this one."""
    one = marked[i]
    if not one.open.any():
        return one
    others = [
        other.inside
        for j, other in marked.items()
        if j != i and (names.get(j) or j) != (names[i] or i) and other.open.any()
    ]
    if not others:
        return one
    return Marked(one.inside, np.logical_or.reduce([one.outside, *others]) & ~one.inside)
