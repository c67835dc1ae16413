"""Masks that are given in a video frame → the shots of its objects.

Objects of a frame compete: one view shows them all, and what is another object is background of
each. A small one is also seen close up, a second shot.

Shapes: H×W the frame as displayed, N objects.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch

from ..io.odd_masks import suspicion
from ..io.pictures import AnyPicture, file_of
from ..io.prompts import AnyPrompt, to_marked
from ..io.video_masks import odd_ids
from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..structures.episode import Reference
from ..structures.features import Features
from ..structures.picture import Picture
from ..structures.view import InputSpec, zoom_crop
from .marking import complete_masks
from .references import AnyNames, names_by_id

CLOSER = 0.8  # of the side of the joint cut: what is no closer is no other view

logger = logging.getLogger(__name__)


def read_given(
    frame: AnyPicture,
    picture: np.ndarray,
    masks: AnyPrompt,
    ids: Sequence[int] | None,
    names: AnyNames,
    model: InContextModel,
) -> tuple[dict[int, np.ndarray], dict[int, str | None]]:
    """What is marked in a frame, uint8 (H, W, 3): masks bool (H, W) by id, and names by id. What is
    odd about it is said in a warning. Errors as of ``VideoPredictor.add``."""
    marked = to_marked(masks, (picture.shape[0], picture.shape[1]), as_ids=True)
    if ids is not None:
        if not all(isinstance(i, Integral) for i in ids):
            raise ValueError(f"ids must be whole numbers above 0, not {list(ids)}")
        if len(ids) != len(marked) or len({*ids}) < len(ids):
            raise ValueError(
                f"ids are {list(ids)}; the mask marks {len(marked)} things, {[*marked]}: give as "
                "many distinct ids"
            )
        marked = {int(i): marked[k] for i, k in zip(ids, marked, strict=True)}
    if low := [i for i in marked if i < 1]:
        raise ValueError(f"ids must be whole numbers above 0, not {low[0]}")
    named = names_by_id(names, marked)
    found = complete_masks(Picture(picture), marked, named, model.complete_mask, masks)
    source = file_of(masks) or file_of(frame) or "the frame"
    labels = np.zeros(picture.shape[:2], np.int64)
    for i, mask in found.items():
        labels[mask] = i
    if odd := odd_ids(labels):
        logger.warning("%s: the mask %s", source, odd)
    for i, mask in () if odd else found.items():
        if strange := suspicion(mask):
            logger.warning("%s: the mask of object %d %s", source, i, strange)
    return found, named


def encode_given(
    model: InContextModel,
    picture: np.ndarray,
    masks: Mapping[int, np.ndarray],
    names: Mapping[int, str | None],
    features: Features,
    views: Sequence[str],
    task: str,
) -> Context:
    """The shots of N objects in a frame whose whole picture has ``features``. Together they are cut
    about all of them ("joint" in ``views``), and each is cut about itself ("close") where it then
    is larger by ``CLOSER``; whatever a cut shows of another object is its background."""
    spec, stacked, ids = model.input, [*masks.values()], [*masks]
    shown = Picture(picture)
    references: list[Reference] = []
    places: list[list[int]] = [[] for _ in ids]  # the shots of each object that count for it
    counted = [0] * len(ids)
    everybody = [*range(len(ids))]
    abouts: list[tuple[np.ndarray | None, list[int]]] = []
    if "joint" in views:
        abouts.append((None, everybody))
    abouts += [(masks[ids[row]], [row]) for row in _closer(spec, stacked, views)]
    for about, own in abouts:
        rows = everybody if about is None or spec.whole else own
        some = [stacked[row] for row in rows]
        view = _with_features(spec.reference(shown, some, about=about), features)
        view["entity_ids"] = torch.tensor([ids[row] for row in rows])
        references.append(view)
        for row, mask in zip(rows, view["masks"], strict=True):
            if row in own:
                places[row].append(counted[row])
            counted[row] += bool(mask.sum() > 0) or spec.released
    context = model.encode_context(references, names, task)
    return _shots(context, places)


def _closer(spec: InputSpec, masks: Sequence[np.ndarray], views: Sequence[str]) -> list[int]:
    """Rows of the objects that are also seen close up."""
    if "close" not in views:
        return []
    if "joint" not in views:
        return [*range(len(masks))]
    joint = _side(spec, np.logical_or.reduce(masks))
    return [row for row, mask in enumerate(masks) if _side(spec, mask) < CLOSER * joint]


def _side(spec: InputSpec, mask: np.ndarray) -> int:
    """Of the cut about a mask, px."""
    crop: Any = zoom_crop(mask, spec.zoom)
    return max(mask.shape) if crop is None else max(crop.w, crop.h)


def _with_features(view: Reference, features: Features) -> Reference:
    """A view whose whole picture need not be encoded again."""
    whole = view.get("whole")
    if whole is not None and whole["masks"] is not view["masks"]:
        known: Any = {"features": features.map[0], "image_size": features.frames[0].content}
        view["whole"] = {**whole, **known}
    return view


def _shots(context: Context, places: Sequence[Sequence[int]]) -> Context:
    """Some of the shots of each entity, in this order."""
    most = max(map(len, places))
    index = torch.tensor([[*p, *[0] * (most - len(p))] for p in places])
    exists = torch.tensor([[n < len(p) for n in range(most)] for p in places])
    device = context.shots.device
    rows, index, exists = torch.arange(len(places))[:, None], index.to(device), exists.to(device)
    tensors = {}
    for name, values in context.tensors.items():
        kept = exists.view(*exists.shape, *[1] * (values.dim() - 2))
        tensors[name] = values[rows.to(device), index] * kept
    return replace(context, shots=exists, tensors=tensors)
