"""References as people give them → what ``SegIC.encode_context`` takes."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..io.masks import AnyMask, to_masks
from ..io.pictures import AnyPicture, file_of, to_picture
from ..structures.episode import Reference
from ..structures.picture import Picture
from ..structures.view import InputSpec

# of a mask of one id; in the order of its ids; by id
AnyNames: TypeAlias = str | Sequence[str] | dict[int, str | None] | None
AnyReference: TypeAlias = (
    tuple[AnyPicture, AnyMask] | tuple[AnyPicture, AnyMask, AnyNames] | dict[str, Any]
)


def read_references(
    references: Iterable[AnyReference], spec: InputSpec
) -> tuple[list[Reference], dict[int, str | None]]:
    """Read pictures and masks, and tell the entities apart.

    An entity is a name; where there is none, an id of the mask (a binary mask has id 1). So the
    same name twice is two shots of one entity, and all nameless binary masks are shots of one. An
    entity keeps the id that its first mask gave it unless an earlier entity has it; then it gets
    the smallest id that is free.

    Args:
        references: (image, mask), (image, mask, names) or dicts with these keys. See ``to_picture``
            and ``to_masks``; names: a string for a mask of one id; for several a list in the order
            of the ids, or a dict {id: name}, whose other ids are left out.
        spec: of the model, which makes the views.

    Returns:
        references with ``entity_ids`` int64 (n,); names: {entity id: name or None}, in the order of
            first appearance.

    Raises:
        FileNotFoundError, ValueError: naming the reference by its number, from 1, and its file.
    """
    if isinstance(references, str | os.PathLike | dict):
        raise ValueError(f"references must be a list of (image, mask[, names]), not {references!r}")
    read: list[Reference] = []
    keys: list[list[str | int]] = []
    entities: dict[str | int, int] = {}
    for number, reference in enumerate(references, 1):
        image, mask, names = _unpack(reference, number)
        with _named(number, image):
            picture = to_picture(image)
        with _named(number, mask if isinstance(mask, str | os.PathLike) else image, "mask"):
            masks = to_masks(mask, picture.shape[:2], isinstance(names, dict | list | tuple))
            shown = _by_entity(masks, _names(names, masks))
        for key, (first_id, _) in shown.items():
            entities.setdefault(key, first_id)
        view = spec.reference(Picture(picture), [mask for _, mask in shown.values()])
        read.append({**view, "file_name": file_of(image)})
        keys.append(list(shown))
    if not read:
        raise ValueError("no references: at least one image with a mask is needed")
    ids = _distinct(entities)
    for one, own in zip(read, keys, strict=True):
        one["entity_ids"] = torch.tensor([ids[k] for k in own])
    return read, {ids[k]: k if isinstance(k, str) else None for k in entities}


def _unpack(reference: AnyReference, number: int) -> tuple[AnyPicture, AnyMask, AnyNames]:
    if isinstance(reference, dict) and (
        {"image", "mask"} <= set(reference) <= {"image", "mask", "names"}
    ):
        return reference["image"], reference["mask"], reference.get("names")
    if isinstance(reference, dict):
        keys = "image, mask and names"
        wrong = [f"the key {k!r}" for k in reference if k not in ("image", "mask", "names")]
        lacks = [f"no key {k!r}" for k in ("image", "mask") if k not in reference]
        raise ValueError(f"reference {number} has {' and '.join(wrong + lacks)}; keys are {keys}")
    if isinstance(reference, tuple | list) and len(reference) in (2, 3):
        return (*reference, None)[:3]
    raise ValueError(
        f"reference {number}: expected (image, mask), (image, mask, names) or a dict with the keys "
        f"image, mask and names, not {str(reference)[:80]}"
    )


def _names(names: AnyNames, masks: Mapping[int, np.ndarray]) -> dict[int, str | None]:
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
    return {i: name or None for i, name in names.items()}


def _by_entity(
    masks: Mapping[int, np.ndarray], names: Mapping[int, str | None]
) -> dict[str | int, tuple[int, np.ndarray]]:
    """First id and mask by name, or by id where there is none; two ids of one name are one mask."""
    shown: dict[str | int, tuple[int, np.ndarray]] = {}
    for i, name in names.items():
        if not masks[i].any():
            which = "" if len(masks) == 1 else f" of id {i}" + (f" ({name!r})" if name else "")
            raise ValueError(
                f"mask{which} is empty (foreground is white, or 128 and above in grey; a grey file "
                "of ids needs names by id)"
            )
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


@contextlib.contextmanager
def _named(number: int, source: object, field: str = "image") -> Iterator[None]:
    """Whatever is wrong inside is said with the reference's number, file and field."""
    try:
        yield
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        file = file_of(source)
        text = str(error)
        field = "" if text.startswith(field) else f"{field}: "
        raise kind(f"reference {number}{f' ({file})' if file else ''}: {field}{text}") from error
