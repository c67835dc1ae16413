"""References as people give them → what ``SegIC.encode_context`` takes."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from detectron2.data import transforms as T

from ..io.annotations import format_of, masks_of_file, references_in
from ..io.odd_masks import suspicion
from ..io.pictures import AnyPicture, file_of, to_picture
from ..io.prompts import AnyPrompt
from ..structures.episode import Reference
from ..structures.picture import Picture, to_tensor
from ..structures.prompts import Marked
from ..structures.view import InputSpec, Masks
from ..utils.texts import one_line
from .marking import Complete, complete_masks, read_marked

# of a mask of one id; in the order of its ids; by id
AnyNames: TypeAlias = str | Sequence[str] | dict[int, str | None] | None
AnyReference: TypeAlias = (
    tuple[AnyPicture]
    | tuple[AnyPicture, AnyPrompt | None]
    | tuple[AnyPicture, AnyPrompt | None, AnyNames]
    | dict[str, Any]
)

logger = logging.getLogger(__name__)


def read_references(
    references: Iterable[AnyReference] | str, spec: InputSpec, complete: Complete
) -> tuple[list[Reference], dict[int, str | None]]:
    """Read pictures and what is marked in them, and tell the entities apart.

    An entity is a name; where there is none, an id of the mask (a binary mask has id 1). So the
    same name twice is two shots of one entity, and all nameless binary masks are shots of one. An
    entity keeps the id that its first mask gave it unless an earlier entity has it; then it gets
    the smallest id that is free.

    A picture of which a part is transparent, a cut-out, is its own mask where none is given, or
    where it is given twice: the mask is what is opaque. The model sees every cut-out on white;
    colours that a file keeps below its transparent pixels are never seen.

    What is odd about a mask is said in one warning: it covers (almost) all, it looks inverted, it
    has hardly a pixel, or it is noise (``suspicion``).

    Args:
        references: (image,), (image, mask), (image, mask, names) or dicts with these keys. See
            ``to_picture`` and ``to_marked``: what is called a mask may be a box, points or a
            scribble too, and each reference may have another kind. names: a string for a mask of
            one id; for several a list in the order of the ids, or a dict {id: name}, whose other
            ids are left out. A mask may be a file of labelme (.json) or YOLO (.txt), whose classes
            are the names where none are given. Or one text for all: "labelme:/data/cats", a name
            of ``io.annotations``, whose pictures and things are all taken.
        spec: of the model, which makes the views.
        complete: called with (picture, marked) for what a box, points or a scribble leave open;
            what is surely inside or outside stays so, whatever it returns.

    Returns:
        references with ``entity_ids`` int64 (n,); names: {entity id: name or None}, in the order of
            first appearance.

    Raises:
        FileNotFoundError, ValueError: naming the reference by its number, from 1, and its file.
    """
    if isinstance(references, str) and format_of(references):
        references = references_in(references)
    if isinstance(references, str | os.PathLike | dict):
        raise ValueError(f"references must be a list of (image, mask[, names]), not {references!r}")
    read: list[Reference] = []
    keys: list[list[str | int]] = []
    entities: dict[str | int, int] = {}
    for number, reference in enumerate(references, 1):
        image, mask, names = _unpack(reference, number)
        with _named(number, image):
            picture = to_picture(image)
        source = mask if isinstance(mask, str | os.PathLike) else image
        with _named(number, source, "mask"):
            if (labelled := masks_of_file(mask, picture.shape[:2])) is not None:
                mask, names = labelled[0], labelled[1] if names is None else names
            marked = read_marked(image, mask, picture, isinstance(names, dict | list | tuple))
            asked = names_by_id(names, marked)
            masks = complete_masks(Picture(picture), marked, asked, complete, mask)
        shown = _by_entity(masks, asked)
        for key, (first_id, one) in shown.items():
            entities.setdefault(key, first_id)
            by_box = not any(marked[i].inside.any() for i in asked if (asked[i] or i) == key)
            if odd := suspicion(one, by_box):
                which = f" of {key!r}" if isinstance(key, str) else f" of id {key}"
                logger.warning("%s: mask%s %s", _place(number, source), which, odd)
        view = spec.reference(Picture(picture), [mask for _, mask in shown.values()])
        read.append({**view, "file_name": file_of(image)})
        keys.append(list(shown))
    if not read:
        raise ValueError("no references: at least one image with a mask is needed")
    ids = _distinct(entities)
    for view, own in zip(read, keys, strict=True):
        view["entity_ids"] = torch.tensor([ids[k] for k in own])
    return read, {ids[k]: k if isinstance(k, str) else None for k in entities}


class _AsGiven(InputSpec):
    """Its views of references are the whole pictures in their own size."""

    def reference(
        self,
        picture: Picture,
        masks: Masks,
        crop: T.CropTransform | None = None,
        about: np.ndarray | None = None,
    ) -> Reference:
        shown = torch.from_numpy(np.stack(list(masks)))
        return {"image": to_tensor(picture.pixels), "masks": shown}


def read_as_given(
    references: Iterable[AnyReference], complete: Complete
) -> tuple[list[Reference], dict[int, str | None]]:
    """``read_references`` in the size of the pictures, with masks bool (n, H, W)."""
    return read_references(references, _AsGiven(1, (), ()), complete)


def _unpack(reference: AnyReference, number: int) -> tuple[AnyPicture, AnyPrompt | None, AnyNames]:
    found = str(reference)[:80]
    if isinstance(reference, dict):
        odd = [key for key in reference if key not in ("image", "mask", "names")]
        if "image" in reference and not odd:
            return reference["image"], reference.get("mask"), reference.get("names")
        found = f"a dict with {odd[0]!r}" if odd else "a dict without 'image'"
    elif isinstance(reference, tuple | list) and len(reference) in (1, 2, 3):
        return (*reference, None, None)[:3]
    raise ValueError(
        f"reference {number}: expected (image, mask), (image, mask, names) or a dict with the keys "
        f"image, mask and names, not {found}"
    )


def names_by_id(names: AnyNames, masks: Mapping[int, Marked]) -> dict[int, str | None]:
    """The names by id of the masks that are asked for."""
    have = ", ".join(map(str, masks))
    if names is None or names == "":
        return dict.fromkeys(masks)
    if isinstance(names, str):
        names = [names]
    if isinstance(names, list | tuple):
        if len(names) != len(masks):
            raise ValueError(
                f"mask has the ids {have}, the names are {list(names)}; one per id, or {{id: name}}"
            )
        names = dict(zip(masks, names, strict=True))
    if not isinstance(names, dict) or not names:
        raise ValueError(f"names {names!r} are neither a string nor a list nor {{id: name}}")
    absent = [i for i in names if i not in masks]
    if absent:
        raise ValueError(f"mask has no id {absent[0]!r} ({names[absent[0]]!r}); it has {have}")
    wrong = [n for n in names.values() if not isinstance(n, str | None)]
    if wrong:
        raise ValueError(f"a name must be a string, not {wrong[0]!r}")
    return {i: one_line(name) or None if name else None for i, name in names.items()}


def _by_entity(
    masks: Mapping[int, np.ndarray], names: Mapping[int, str | None]
) -> dict[str | int, tuple[int, np.ndarray]]:
    """First id and mask by name, or by id where there is none; two ids of one name are one mask."""
    shown: dict[str | int, tuple[int, np.ndarray]] = {}
    for i, name in names.items():
        key = name or i
        first_id, mask = shown.get(key, (i, masks[i]))
        shown[key] = first_id, np.logical_or(mask, masks[i])
    return shown


def _distinct(entities: Mapping[str | int, int]) -> dict[str | int, int]:
    """Ids by key from those that are wanted; an earlier entity has the first claim."""
    owner: dict[int, str | int] = {}
    for key, wanted in entities.items():
        owner.setdefault(wanted, key)
    for key in entities:
        if key not in owner.values():
            owner[next(i for i in range(1, len(entities) + len(owner) + 1) if i not in owner)] = key
    return {key: i for i, key in owner.items()}


def _place(number: int, source: object) -> str:
    file = file_of(source)
    return f"reference {number}{f' ({file})' if file else ''}"


@contextlib.contextmanager
def _named(number: int, source: object, field: str = "image") -> Iterator[None]:
    """Whatever is wrong inside is said with the reference's number, file and field."""
    try:
        yield
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        text = str(error).removeprefix(f"{file_of(source)}: ")
        field = "" if text.startswith(field) else f"{field}: "
        raise kind(f"{_place(number, source)}: {field}{text}") from error
