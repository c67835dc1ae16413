"""The single objects of classes through a video: who is who, by where they were and how they look.

Boxes are shares of the content, as in ``merging``. Shapes: T tracks, P objects of a frame, C
feature channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from .merging import Box, box_iou

OVERLAP = 0.2  # IoU of boxes from which on it may be the same object
LIKE = 0.3  # cosine of prototypes below which it is not
ALIKE = 0.6  # cosine of prototypes from which on it may be, where boxes do not say so
RATE = 0.1  # of the running mean of a track's prototype


@dataclass
class Track:
    """One object: its class, its last box, its unit prototype (C,), a running mean, and how many
    frames ago it was seen last."""

    category: int
    box: Box
    prototype: Tensor
    missed: int = 0


class ClassTracks:
    """Gives the objects of each frame ids that count them from 1 in the order of appearance.

    Those of a frame go to the tracks of their class that their boxes overlap most (Hungarian, by
    IoU, and among like ones by the cosine of prototypes); what is left, to tracks that look alike
    and are near: no farther than a box's longer side for each frame that was missed, or after a cut
    anywhere. A track that was not seen for ``lost`` frames ends.
    """

    def __init__(self, lost: int) -> None:
        self.lost, self.tracks, self.next_id = lost, dict[int, Track](), 1

    def assign(
        self, boxes: Sequence[Box], prototypes: Tensor, categories: Sequence[int], cut: bool = False
    ) -> list[int]:
        """The ids of P objects, of prototypes (P, C)."""
        units = F.normalize(prototypes.float(), dim=1)
        found: dict[int, int] = {}  # object → id
        if not cut:
            self._match(found, boxes, units, categories, self._by_overlap)
        self._match(found, boxes, units, categories, self._anywhere if cut else self._by_look)
        for track in self.tracks.values():
            track.missed += 1
        for row, (box, unit) in enumerate(zip(boxes, units, strict=True)):
            i = found.get(row)
            if i is None:
                found[row] = i = self.next_id
                self.next_id += 1
            old = self.tracks[i].prototype if i in self.tracks else unit
            mean = F.normalize(old + RATE * (unit - old), dim=0)
            self.tracks[i] = Track(int(categories[row]), box, mean)
        self.tracks = {i: t for i, t in self.tracks.items() if t.missed <= self.lost}
        return [found[row] for row in range(len(boxes))]

    def _match(
        self,
        found: dict[int, int],
        boxes: Sequence[Box],
        units: Tensor,
        categories: Sequence[int],
        worth: Callable[[Track, Box, float], float],
    ) -> None:
        rows = [row for row in range(len(boxes)) if row not in found]
        ids = [i for i in self.tracks if i not in found.values()]
        if not rows or not ids:
            return
        value = np.zeros((len(rows), len(ids)))
        for r, row in enumerate(rows):
            for c, i in enumerate(ids):
                track = self.tracks[i]
                if track.category == categories[row]:
                    value[r, c] = worth(track, boxes[row], float(track.prototype @ units[row]))
        for r, c in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            if value[r, c] > 0:
                found[rows[r]] = ids[c]

    @staticmethod
    def _by_overlap(track: Track, box: Box, cosine: float) -> float:
        overlap = box_iou(track.box, box)
        return overlap + 0.2 * cosine if overlap >= OVERLAP and cosine >= LIKE else 0.0

    @staticmethod
    def _by_look(track: Track, box: Box, cosine: float) -> float:
        (x0, y0, x1, y1), (u0, v0, u1, v1) = track.box, box
        reach = max(x1 - x0, y1 - y0) * (1 + track.missed)
        far = max(abs(x0 + x1 - u0 - u1), abs(y0 + y1 - v0 - v1)) / 2
        return cosine if cosine >= ALIKE and far <= reach else 0.0

    @staticmethod
    def _anywhere(track: Track, box: Box, cosine: float) -> float:
        return cosine if cosine >= ALIKE else 0.0

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and what JSON can hold, for a file."""
        tensors = {f"track/{i}": t.prototype.cpu() for i, t in self.tracks.items()}
        told = {str(i): [t.category, list(t.box), t.missed] for i, t in self.tracks.items()}
        return tensors, {"next": self.next_id, "lost": self.lost, "tracks": told}

    @classmethod
    def unpacked(
        cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any], device: torch.device
    ) -> ClassTracks:
        """Those that were ``packed``."""
        tracks = cls(about["lost"])
        tracks.next_id = about["next"]
        for i, (category, box, missed) in about["tracks"].items():
            unit = tensors[f"track/{i}"].to(device)
            tracks.tracks[int(i)] = Track(category, (box[0], box[1], box[2], box[3]), unit, missed)
        return tracks
