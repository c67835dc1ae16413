"""What people corrected of a round, and which of it becomes references."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...io.annotations import Annotated, read_annotations
from ...io.annotations.outline import joined, joined_rings
from ...io.rle import decode, encode
from ...structures.context import Context
from ...utils.store import fetch, is_remote
from .report import written_stems
from .review import class_masks
from .state import Record, Round

LOOKED_AT = 50  # corrected pictures of a class of which references are chosen
MANY = 0.5  # share of a whole folder above which corrections look like another program's rounding

logger = logging.getLogger(__name__)


def corrected_records(before: Round, name: str) -> list[Record]:
    """The corrected pictures in a name of ``io.annotations``, as records of a round: of a part of
    the round's pictures all, else those whose masks are not as they were written. ValueError: what
    is wrong with the files, pictures that the round does not have, or nothing was corrected."""
    found = read_annotations(name)
    if found.faults:
        raise ValueError(found.faults[0])
    stems = written_stems(before)
    unknown = [p.file_name for p in found if Path(p.file_name).stem not in stems]
    if unknown:
        raise ValueError(
            f"{name}: round {before.number} has no picture {Path(unknown[0]).name!r} (of "
            f"{len(unknown)} like it); corrected files keep the names that the round gave them"
        )
    asked, whole = before.asked, len(found) >= len(stems)
    places = {place.file: place for place in before.places()}
    back = {new: old for old, new in asked["names"].items()}
    records, same = [], 0
    for picture in found:
        file = stems[Path(picture.file_name).stem]
        if whole and _same(picture.masks(), _written(before.record(places[file]), asked)):
            same += 1
        else:
            records.append(_record(file, picture, back))
    if not records:
        raise ValueError(f"{name}: all {same} pictures are as round {before.number} wrote them")
    if whole and len(records) > MANY * len(found):
        logger.warning(
            "%s: %d of %d pictures are not as they were written, and all of these are kept as they "
            "are; a tool that rounds coordinates changes pictures that nobody touched: give those "
            "alone that were corrected",
            name,
            len(records),
            len(found),
        )
    return records


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    a, b = ({k: m for k, m in masks.items() if m.any()} for masks in (a, b))
    return set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)


def _written(record: Record, asked: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The masks of classes that the labels of a record were when they were written; people correct
    some formats in place."""
    kind, tolerance, names = asked["format"], asked["tolerance"], asked["names"]
    height, width = record["size"]
    found: dict[str, np.ndarray] = {}
    for label, _, counts in record["things"]:
        mask = decode({"size": [height, width], "counts": counts}, height, width)
        if tolerance is not None and not record.get("given"):
            rings = [joined(mask, tolerance)] if kind == "yolo" else joined_rings(mask, tolerance)
            mask = decode([ring.reshape(-1).tolist() for ring in rings], height, width)
        if kind == "masks":  # one answer per pixel
            found = {k: m & ~mask for k, m in found.items()}
        name = record["names"][label]
        name = names.get(name, name)
        found[name] = found[name] | mask if name in found else mask
    return found


def _record(file: str, picture: Annotated, back: dict[str, str]) -> Record:
    names = [back.get(n, n) for n in picture.names]
    masks = [
        (thing.label, decode(thing.segmentation, *picture.size, picture.file_name))
        for thing in picture.things
        if not thing.crowd
    ]
    if picture.label_file:
        by_name = {back.get(k, k): m for k, m in picture.masks().items()}
        names, masks = list(by_name), list(enumerate(by_name.values()))
    things = [[label, 1.0, encode(mask)["counts"]] for label, mask in masks if mask.any()]
    about = {"size": list(picture.size), "names": names, "things": things}
    return {"file": file, **about, "doubt": 0.0, "most": 0.0, "why": "corrected", "given": True}


@contextlib.contextmanager
def as_references(records: Sequence[Record]) -> Iterator[list[tuple[str, np.ndarray, list[str]]]]:
    """Records with marked things as (file, masks bool (n, H, W), n names); files of other machines
    are here as long as this lasts."""
    with TemporaryDirectory(prefix="segic_d2-") as folder:
        found = []
        for number, record in enumerate(records):
            masks, file = class_masks(record), record["file"]
            if masks and is_remote(file):
                own = Path(folder) / str(number)
                own.mkdir()
                file = os.fspath(fetch(file, own))
            if masks:
                found.append((file, np.stack(list(masks.values())), list(masks)))
        yield found


def joined_context(
    predictor: Any, first: Context, records: Sequence[Record], shots: int
) -> Context:
    """A context with corrected pictures as further shots: of each class at most ``shots``, chosen
    so that what they show is far apart (k-centre, greedy, by the cosine of prototypes), beginning
    with the shots of ``first``. A class that ``first`` lacks becomes an entity."""
    titles = [name or f"entity {i}" for i, name in zip(first.ids, first.names, strict=True)]
    own: dict[str, list[Context]] = {t: [first.take([row])] for row, t in enumerate(titles)}
    seen: dict[str, list[Context]] = {}
    with as_references(records) as given:
        for reference in given:
            if all(len(seen.get(name, ())) >= LOOKED_AT for name in reference[2]):
                continue
            context = predictor.encode_references([reference], first.task)
            for row, name in enumerate(context.names):
                seen.setdefault(name, []).append(context.take([row]))
    for title, candidates in seen.items():
        if title not in own:
            number = max([*first.ids, *(c[0].ids[0] for c in own.values())]) + 1
            named = replace(candidates[0], ids=[number], names=[title])
            own[title] = [_as(candidates.pop(_first(candidates)), named)]
        start = own[title]
        chosen = _far_apart(start, candidates, shots - (0 if title in titles else 1))
        own[title] = [*start, *(_as(candidates[i], start[0]) for i in chosen)]
    return Context.join_entities([Context.join_shots(parts) for parts in own.values()])


def _as(context: Context, other: Context) -> Context:
    """A context of one entity as another one."""
    return replace(context, ids=other.ids, names=other.names, meta=other.meta, about=other.about)


def _first(candidates: Sequence[Context]) -> int:
    """The candidate that is most like all of them."""
    units = torch.stack([_units(c)[0] for c in candidates])
    return int((units @ units.mean(0)).argmax())


def _far_apart(start: Sequence[Context], candidates: Sequence[Context], count: int) -> list[int]:
    """Which candidates to take: each time the one that is least like those that are there."""
    if not candidates:
        return []
    known = torch.cat([_units(c) for c in start])
    units = torch.stack([_units(c)[0] for c in candidates])
    nearest = (units @ known.T).amax(1)
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        best = int(nearest.argmin())
        chosen.append(best)
        nearest = torch.maximum(nearest, units @ units[best])
        nearest[chosen] = torch.inf
    return chosen


def _units(context: Context) -> Tensor:
    """Unit vectors (shots, C) of the one entity of a context."""
    vectors = context.tensors["prototypes"][0][context.shots[0]].float().flatten(1)
    return torch.nn.functional.normalize(vectors, dim=1)
