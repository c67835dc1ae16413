"""What a model says of one target: the only output type. What is derived is derived here, once.

Shapes: N entities, r side of the low-resolution logits, H×W the target's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from .frame import Frame


@dataclass(eq=False)
class Segmentation:
    """Masks of the entities in one target, in the order of the context.

    Attributes:
        logits: float (N, r, r) over the canvas. scores: float (N,), whose meaning is the model's
            matter.
        ids: N ids, the values of ``label_map``. names: N names or None.
        frame: where the target lies on the canvas, and its own size.
        threshold: a pixel belongs to an entity where its logit is above this.
        similarity: float (N, q, q) over the canvas, the propagated masks, or None.
        classes: N contiguous classes for ``instances``; None: the ids.
        image: uint8 (H, W, 3), the target as displayed, or None. file_name: its path, or "".
        arrays: for people: what is derived, and the scores, are NumPy arrays.
    """

    logits: Tensor = field(repr=False)
    scores: Any
    ids: list[int]
    names: list[str | None]
    frame: Frame
    threshold: float = 0.0
    similarity: Tensor | None = field(default=None, repr=False)
    classes: Sequence[int] | Tensor | None = None
    image: np.ndarray | None = field(default=None, repr=False)
    file_name: str = ""
    arrays: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Segmentation:
        """Some of the entities, in the order of ``rows``."""
        similarity = None if self.similarity is None else self.similarity[rows]
        ids, names = [self.ids[i] for i in rows], [self.names[i] for i in rows]
        some = replace(
            self, logits=self.logits[rows], scores=self.scores[rows], ids=ids, names=names
        )
        some.similarity, some.classes = similarity, None
        if "masks" in self.__dict__:  # made already
            some.masks = self.masks[rows]
        return some

    @cached_property
    def masks(self) -> Any:
        """bool (N, H, W), independent of each other: they may overlap."""
        return self._out(self.frame.masks(self.logits, self.threshold))

    def label_map(self, background: int = 0) -> Any:
        """One merged map, int32 (H, W): the id of the entity with the highest logit at each pixel,
        ``background`` where no mask is. ValueError: ``background`` is the id of an entity."""
        if background in self.ids:
            raise ValueError(f"background {background} is the id of an entity; ids are {self.ids}")
        return self.labels(self.threshold, background)

    def labels(self, threshold: float | None, nothing: int) -> Any:
        """``Frame.labels`` of the entities: int32 (H, W)."""
        return self._out(self.frame.labels(self.logits, self.ids, threshold, nothing))

    @cached_property
    def boxes(self) -> Boxes:
        """Tight boxes of the masks, N xyxy in px; zeros where a mask is empty."""
        return BitMasks(torch.as_tensor(self.masks)).get_bounding_boxes()

    @property
    def propagated(self) -> Any:
        """The propagated masks, float (N, H, W), mean cosine to the references (Eq. 2); None where
        they were not kept. Computed at each access."""
        if self.similarity is None:
            return None
        return self._out(self.frame.upsample(self.similarity))

    def instances(self) -> Instances:
        """Detectron2's Instances of the entities whose mask is not empty, for stock evaluators."""
        masks = torch.as_tensor(self.masks)
        keep = masks.flatten(1).any(1)
        classes = self.ids if self.classes is None else self.classes
        found = Instances(tuple(masks.shape[-2:]))
        found.pred_masks = masks[keep]
        found.scores = torch.as_tensor(self.scores)[keep]
        found.pred_classes = torch.as_tensor(classes, device=masks.device)[keep]
        found.pred_boxes = self.boxes[keep.cpu()]  # on the CPU, wherever the masks are
        return found

    def sem_seg(self, num_classes: int, background: int | None = None) -> Tensor:
        """Class-wise logits for the stock SemSegEvaluator, which takes the arg-max: float
        (num_classes, H, W); −inf for a class that was not asked for. ``background``: class that
        wins where no logit passes the threshold; None: there is none. ValueError: an id out of
        range or given twice."""
        ids = self.ids
        if len(set(ids)) != len(ids) or not all(0 <= i < num_classes for i in ids):
            raise ValueError(f"entity ids {ids} are not distinct classes below {num_classes}")
        out = self.logits.new_full((num_classes, *self.frame.size), -torch.inf)
        out[ids] = self.frame.upsample(self.logits)
        if background is not None:
            out[background] = self.threshold
        return out

    def for_people(self, image: np.ndarray, file_name: str = "") -> Segmentation:
        """The same on the CPU, with its picture, uint8 (H, W, 3), and NumPy arrays; the masks are
        made where the logits are, for a device is quicker at it."""
        similarity = None if self.similarity is None else self.similarity.float().cpu()
        shown = replace(
            self,
            logits=self.logits.detach().cpu(),
            scores=self.scores.detach().cpu().numpy(),
            similarity=similarity,
            image=image,
            file_name=file_name,
            arrays=True,
        )
        shown.masks = self.masks.cpu().numpy()
        return shown

    def _out(self, tensor: Tensor) -> Any:
        return tensor.cpu().numpy() if self.arrays else tensor
