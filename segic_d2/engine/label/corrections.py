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
from ...io.annotations.records import UNLABELLED, AnnotationSet, read_map
from ...io.masks import IGNORE_LABEL, VOID_16
from ...io.rle import decode, encode
from ...structures.context import PIXELS, Context
from ...utils.store import fetch, is_remote
from .report import written_stems
from .review import class_masks
from .state import Record, Round

SMALL = 16  # px, sides of pictures by which contexts of pixels are compared
LOOKED_AT = 50  # corrected pictures of a class of which references are chosen
MANY = 0.5  # share of a whole folder above which corrections look like another program's rounding

logger = logging.getLogger(__name__)


def corrected_records(before: Round, name: str) -> list[Record]:
    """The corrected pictures in a name of ``io.annotations``, as records of a round: of a part of
    the pictures all, else those that are not as a round wrote them, the one of which most are.
    ValueError: what is wrong with the files, pictures that the round before does not have or has in
    another size, a picture that is there twice, or nothing was corrected."""
    found = read_annotations(name)
    if found.faults:
        raise ValueError(found.faults[0])
    files = _files_of(found, before, name)
    asked = before.asked
    own = os.path.abspath(name.partition(":")[2]).startswith(before.store.path("round-"))
    whole = own or len(found) + found.notes[UNLABELLED] >= len(written_stems(before))
    number, same = _unchanged(found, files, before) if whole else (before.number, set())
    back = {new: old for old, new in asked["names"].items()}
    rows = [row for row in range(len(found)) if row not in same]
    records = [_record(files[row], found[row], back, asked["names"]) for row in rows]
    if not records:
        raise ValueError(f"{name}: all {len(same)} pictures are as round {number} wrote them")
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


def _files_of(found: AnnotationSet, before: Round, name: str) -> list[str]:
    """Of which picture of a round each one is."""
    stems, places = written_stems(before), {place.file: place for place in before.places()}
    known: dict[str, str] = {}
    unknown = [p for p in map(found.file, range(len(found))) if Path(p).stem not in stems]
    if unknown:
        raise ValueError(
            f"{name}: round {before.number} has no picture {Path(unknown[0]).name!r} (of "
            f"{len(unknown)} like it); corrected files keep the names that the round gave them"
        )
    for row in range(len(found)):
        shown, file = found.file(row), stems[Path(found.file(row)).stem]
        if file in known:
            raise ValueError(f"{name}: {known[file]} and {shown} are both of {file}; give one")
        known[file] = shown
        sizes = found.size(row), tuple(before.record(places[file])["size"])
        if sizes[0] != sizes[1]:
            (height, width), (tall, wide) = sizes
            raise ValueError(
                f"{shown} is {width}x{height} px; round {before.number} labelled it as "
                f"{wide}x{tall} px"
            )
    return list(known)


def _unchanged(found: AnnotationSet, files: Sequence[str], before: Round) -> tuple[int, set[int]]:
    """The rows that are as a round wrote them, and its number: the one of which most are, for
    people may go on to correct the labels of an earlier one."""
    rounds = [Round(before.store, n) for n in range(before.number, 0, -1)]
    places = [{place.file: place for place in r.places()} for r in rounds]
    asked = before.asked
    apart = asked["instances"] and asked["format"] != "masks"
    same: list[set[int]] = [set() for _ in rounds]
    for row, file in enumerate(files):
        shown = _shown(_things_of(found[row]), apart)
        for state, own, rows in zip(rounds, places, same, strict=True):
            record = state.record(own[file]) if file in own else {"error": "unknown"}
            if "error" not in record and _shown(_written(record, asked), apart) == shown:
                rows.add(row)
    return max(zip((r.number for r in rounds), same, strict=True), key=lambda pair: len(pair[1]))


def _things_of(picture: Annotated) -> list[tuple[str, np.ndarray]]:
    """What is marked; crowds too, for no round writes any, and CVAT gives each mask as one."""
    if picture.label_file:
        labels = read_map(picture.label_file, picture.size, picture.file_name)
        for value in (IGNORE_LABEL, VOID_16):
            if (labels == value).any():
                raise ValueError(
                    f'{picture.label_file} has the value {value}, "ignored", which labels of a '
                    "round cannot keep; paint the numbers of classes, 0 for none"
                )
        return list(picture.masks().items())
    size, file = picture.size, picture.file_name
    return [(picture.names[t.label], decode(t.segmentation, *size, file)) for t in picture.things]


def _shown(things: Sequence[tuple[str, np.ndarray]], apart: bool) -> list[tuple[str, str]]:
    """Things by name and mask, to be compared; unless they are ``apart``, a class is one."""
    found: dict[str, np.ndarray] = {}
    for name, mask in () if apart else things:
        found[name] = found[name] | mask if name in found else mask
    every = things if apart else found.items()
    return sorted((name, encode(mask)["counts"]) for name, mask in every if mask.any())


def _written(record: Record, asked: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """The things that the labels of a record were when they were written; people correct some
    formats in place."""
    kind, tolerance, names = asked["format"], asked["tolerance"], asked["names"]
    height, width = record["size"]
    found: list[tuple[str, np.ndarray]] = []
    for label, _, counts in record["things"]:
        mask = decode({"size": [height, width], "counts": counts}, height, width)
        if tolerance is not None and not record.get("given"):
            rings = [joined(mask, tolerance)] if kind == "yolo" else joined_rings(mask, tolerance)
            mask = decode([ring.reshape(-1).tolist() for ring in rings], height, width)
        if kind == "masks":  # one answer per pixel
            found = [(n, m & ~mask) for n, m in found]
        name = record["names"][label]
        found.append((names.get(name, name), mask))
    return found


def _record(
    file: str, picture: Annotated, back: Mapping[str, str], names: Mapping[str, str]
) -> Record:
    things = [(name, mask) for name, mask in _things_of(picture) if mask.any()]
    for name, _ in things:
        if name in names and name not in back:
            raise ValueError(
                f"{picture.file_name}: class {name!r} is called {names[name]!r} in these labels "
                "since round 1 (--rename); call it so, or give it a new name"
            )
    titles = list(dict.fromkeys(back.get(n, n) for n in [*picture.names, *dict(things)]))
    rows = [[titles.index(back.get(n, n)), 1.0, encode(m)["counts"]] for n, m in things]
    about = {"size": list(picture.size), "names": titles, "things": rows}
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
    """Unit vectors (shots, C) of the one entity of a context; where it holds pixels, of these."""
    name = "image" if context.kind == PIXELS else "prototypes"
    vectors = context.tensors[name][0][context.shots[0]].float()
    if context.kind == PIXELS:
        vectors = torch.nn.functional.adaptive_avg_pool2d(vectors, SMALL)
        vectors = vectors - vectors.mean((2, 3), keepdim=True)
    vectors = vectors.flatten(1)
    return torch.nn.functional.normalize(vectors, dim=1)
