"""Where an image's content lies on the square canvas, and how maps over it come to its own size.

Shapes: N entities, r side of a map over the canvas, S canvas side (px), H×W the image's own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor
from torch.nn import functional as F

from ..utils.devices import upload

FULL_SIZE_PIXELS = 2**22  # of full-size logits held at once


@dataclass(frozen=True)
class Frame:
    """One image on the canvas of side S px: the (h, w) of its content there, px, which lies in the
    upper left corner, and its own size (H, W). ``nearest``: maps come to their size by the nearest
    pixel, not bilinear."""

    canvas: int
    content: tuple[int, int]
    size: tuple[int, int]
    nearest: bool = False

    def pad(self, masks: Tensor) -> Tensor:
        """Masks (…, h, w) padded right and bottom to (…, S, S)."""
        missing = (0, self.canvas - masks.shape[-1], 0, self.canvas - masks.shape[-2])
        return F.pad(masks, missing)

    def cells(self, side: int, device: torch.device | None = None) -> Tensor:
        """Which cells of a side×side grid have their centre in the content: bool (side, side)."""
        return valid_cells([self.content], side, self.canvas, device)[0]

    def rows_columns(self, side: int) -> tuple[int, int]:
        """How many rows and columns of a side×side map are content, at least one of each."""
        height, width = (max(1, round(x * side / self.canvas)) for x in self.content)
        return height, width

    def upsample(self, maps: Tensor) -> Tensor:
        """Maps (N, r, r) → (N, H, W): bilinear to the canvas, content cut out, bilinear to the
        image's own size; or both by the nearest pixel."""
        if not len(maps):
            return maps.new_zeros(0, *self.size)
        side = (self.canvas, self.canvas)
        if self.nearest:
            full = F.interpolate(maps[None], side, mode="nearest")
            return F.interpolate(full[..., : self.content[0], : self.content[1]], self.size)[0]
        full = F.interpolate(maps[None], side, mode="bilinear", align_corners=False)[0]
        if self.content == self.size:  # the last step would change nothing
            return full[:, : self.size[0], : self.size[1]]
        return sem_seg_postprocess(full, self.content, *self.size)

    def masks(self, logits: Tensor, threshold: float = 0.0) -> Tensor:
        """Where the upsampled logits (N, r, r) are above a threshold, bool (N, H, W). Full-size
        logits of many entities are gigabytes, so that they exist for a few at a time."""
        masks = torch.empty(len(logits), *self.size, dtype=torch.bool, device=logits.device)
        for part in self._parts(len(logits)):
            torch.gt(self.upsample(logits[part]), threshold, out=masks[part])
        return masks

    def labels(
        self, logits: Tensor, ids: Sequence[int], threshold: float | None = 0.0, nothing: int = 255
    ) -> Tensor:
        """One label per pixel: the id, in [0, 65535], of the highest logit (of equal ones the
        first), int32 (H, W). The running best is kept, and full-size logits exist for a few
        entities at a time. ``threshold``: an entity takes a pixel only above it, None: the best
        always; ``nothing``: the label where none does."""
        best = logits.new_full(self.size, -torch.inf if threshold is None else threshold)
        labels = torch.full(self.size, nothing, dtype=torch.int32, device=logits.device)
        own = upload(list(ids), logits.device, torch.int32)
        for part in self._parts(len(logits)):
            value, index = self.upsample(logits[part]).max(0)
            better = value > best
            labels = torch.where(better, own[part][index], labels)
            best = torch.where(better, value, best)
        return labels

    def _parts(self, count: int) -> list[slice]:
        """Slices of N entities whose full-size maps are held at once."""
        pixels = max(self.canvas * self.canvas, self.size[0] * self.size[1])
        step = max(1, FULL_SIZE_PIXELS // pixels)
        return [slice(start, start + step) for start in range(0, count, step)]


def valid_cells(
    sizes: Sequence[tuple[int, int]], side: int, canvas: int, device: torch.device | None = None
) -> Tensor:
    """Which cells of a side×side grid over the canvas have their centre in the content: bool (B,
    side, side) of B contents (h, w), px. The first row and column always count, so that no image is
    without."""
    centres = (torch.arange(side, device=device) + 0.5) * (canvas / side)
    contents = upload(sizes, device).reshape(-1, 2)
    inside = centres[None, None] < contents[:, :, None]  # (B, 2, side)
    inside[..., 0] = True
    return inside[:, 0, :, None] & inside[:, 1, None, :]
