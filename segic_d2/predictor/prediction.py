"""What the predictor found in one picture.

Shape shorthand: N entities, H×W the picture as displayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..structures.context import Context
from ..structures.frame import masks_in_image, resize_to_image


@dataclass
class Prediction:
    """Masks of the entities in one picture, in the order of their first appearance.

    Attributes:
        masks: bool array (N, H, W), independent of each other: they may overlap.
        scores: float32 array (N,), mean foreground probability inside each mask, 0: nothing found;
            or the expected IoU, or that times the highest similarity found
            (``MODEL.SEGIC.TEST.SCORE``). A mask whose score is below
            ``MODEL.SEGIC.TEST.MIN_SCORE`` is empty.
        names: N, None for an entity without one. ids: N, the values of ``label_map``.
        image: uint8 array (H, W, 3), the picture as displayed.
        file_name: its path, or "" where it came as an array.
    """

    masks: np.ndarray
    scores: np.ndarray
    names: list[str | None]
    ids: list[int]
    image: np.ndarray = field(repr=False)
    file_name: str
    _logits: torch.Tensor = field(repr=False)  # float (N, r, r) over the canvas
    _similarity: torch.Tensor | None = field(repr=False)  # float (N, q, q) over the canvas, or None
    # canvas px, (h, w) of the picture on it, threshold
    _frame: tuple[int, tuple[int, int], float] = field(repr=False)

    @classmethod
    def from_logits(
        cls,
        model: Any,
        context: Context,
        logits: torch.Tensor,
        quality: torch.Tensor,
        similarity: torch.Tensor | None,
        image_size: tuple[int, int],
        image: np.ndarray,
        file_name: str = "",
    ) -> Prediction:
        """What a model's output means at the size of the picture.

        Args:
            model: SegIC, or one with its ``scored``, ``canvas`` and ``threshold``.
            logits, similarity: float (N, r, r) and float (N, q, q) or None, over the canvas.
            quality: float (N,), the estimates of ``SegIC.segment_scored``.
            image_size: (h, w) of the picture on the canvas; image: uint8 (H, W, 3), itself.
        """
        scores, logits = model.scored(logits.float(), image_size, quality.float())
        height, width = image.shape[:2]
        masks = masks_in_image(logits, model.canvas, image_size, height, width, model.threshold)
        return cls(
            masks=masks.cpu().numpy(),
            scores=scores.cpu().numpy(),
            names=list(context.names),
            ids=list(context.ids),
            image=image,
            file_name=file_name,
            _logits=logits.cpu(),
            _similarity=None if similarity is None else similarity.float().cpu(),
            _frame=(model.canvas, image_size, model.threshold),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def label_map(self, background: int = 0) -> np.ndarray:
        """One merged map, int32 (H, W): the id of the entity with the highest logit at each pixel,
        ``background`` where no mask is.

        Raises:
            ValueError: ``background`` is the id of an entity.
        """
        if background in self.ids:
            raise ValueError(f"background {background} is the id of an entity; ids are {self.ids}")
        threshold = self._frame[2]
        labels = np.full(self.masks.shape[1:], background, dtype=np.int32)
        best = np.full(self.masks.shape[1:], threshold, dtype=np.float32)
        for i, logits in zip(self.ids, self._logits, strict=True):  # one full-size map at a time
            full = self._full_size(logits[None])[0]
            labels[full > best] = i
            np.maximum(best, full, out=best)
        return labels

    @property
    def propagated(self) -> np.ndarray | None:
        """The propagated masks, float32 (N, H, W), mean cosine to the references (Eq. 2); None
        unless the predictor was asked for them. Computed at each access."""
        return None if self._similarity is None else self._full_size(self._similarity)

    def _full_size(self, maps: torch.Tensor) -> np.ndarray:
        canvas, image_size, _ = self._frame
        return resize_to_image(maps, canvas, image_size, *self.masks.shape[1:]).numpy()
