"""References whose mask is a filled box: what of it is the thing is found in their own picture.

Who gives a box says where a thing lies, and the background in its corners would count as the thing.
A mask that is a box to the pixel is one, whoever made it.

Shapes: n masks of a reference, h×w a view on the canvas, C channels, g grid side (cells).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from detectron2.structures import BitMasks
from torch import Tensor
from torch.nn import functional as F

from ...structures.episode import Reference
from ...structures.features import Features
from ...structures.frame import Frame
from .context_encoder import ContextEncoder
from .mask_head import InContextMaskHead
from .queries import Queries
from .readout import Readout
from .regions.matcher import Seen

FILLED = 0.98  # of its box, a mask that is one; resizing softens its edges
SMALLEST = 14  # px on the canvas: of smaller ones the pixels make boxes

logger = logging.getLogger(__name__)


def filled_boxes(masks: Tensor) -> list[bool]:
    """Which of float masks (n, h, w) in [0, 1] are filled boxes that leave something out."""
    inside = masks > 0.5
    boxes = BitMasks(inside).get_bounding_boxes()
    sides, areas = boxes.tensor[:, 2:] - boxes.tensor[:, :2], boxes.area()
    full = inside.flatten(1).sum(1).cpu() >= FILLED * areas
    full &= (sides.amin(1) >= SMALLEST) & (areas < inside[:1].numel())
    return full.tolist()


class BoxMasks:
    """Replaces filled boxes by what a ``RegionMatcher`` (the head's) and, where it is asked, the
    head's decoder find in them."""

    def __init__(self, head: InContextMaskHead, contexts: ContextEncoder, readout: Readout) -> None:
        self.head, self.contexts, self.readout = head, contexts, readout

    def __call__(
        self, references: Sequence[Reference], maps: Tensor, wholes: Sequence[Tensor] | None
    ) -> list[Reference]:
        """References with their masks, and those of their whole pictures, where these are boxes;
        ``maps`` (R, C, g, g) and R ``wholes`` (C, g, g) are their features."""
        if self.head.matcher is None or wholes is None or not self.head.matcher.options.boxes:
            return list(references)
        rows = zip(references, maps, wholes, strict=True)
        return [self._one(reference, own, far) for reference, own, far in rows]

    def _one(self, reference: Reference, own: Tensor, far: Tensor) -> Reference:
        rows = [i for i, is_box in enumerate(filled_boxes(reference["masks"])) if is_box]
        if not rows:
            return reference
        file = reference.get("file_name", "")
        logger.info("reference %s: a mask that is a filled box is taken for a box", file)
        masks, whole = reference["masks"].clone(), reference.get("whole", reference)
        around = self._seen(far, whole["masks"][rows])
        masks[rows] = self._found(self._seen(own, masks[rows]), around, masks[rows])
        told: Reference = {**reference, "masks": masks}
        if "whole" not in reference:
            return told
        if whole["masks"] is reference["masks"]:
            there = masks
        else:
            there = whole["masks"].clone()
            there[rows] = self._found(around, around, there[rows])
        return {**told, "whole": {**whole, "masks": there}}

    def _seen(self, features: Tensor, masks: Tensor) -> Seen:
        size = int(masks.shape[-2]), int(masks.shape[-1])
        return Seen(features, size, self.contexts.weights(masks, features.shape[-1]))

    def _found(self, own: Seen, around: Seen, masks: Tensor) -> Tensor:
        """Masks (n, h, w) of what the boxes of a view hold."""
        matcher = self.head.matcher
        assert matcher is not None  # see __call__
        said = self.chances(own, masks) if self.head.decodes else None
        kept = matcher.complete(own, around, said).to(masks.dtype)
        return masks * self.enlarged(kept, own.content).to(masks.device)

    def enlarged(self, cells: Tensor, content: tuple[int, int]) -> Tensor:
        """Masks (n, h, w) of a content in px, of values of cells (n, g, g)."""
        side = (self.contexts.spec.canvas,) * 2
        return F.interpolate(cells[:, None], side)[:, 0, : content[0], : content[1]]

    def chances(self, own: Seen, masks: Tensor) -> Tensor:
        """The decoder's probabilities (n, g, g) in a view of what masks (n, h, w) of it show."""
        ids = list(range(len(masks)))
        maps = own.features[None]
        boxes: Reference = {"features": own.features, "masks": masks, "entity_ids": ids}
        boxes["image_size"] = own.content
        alone = self.contexts.from_references(maps, [boxes], dict.fromkeys(ids))
        features = Features(maps, [Frame(self.contexts.spec.canvas, own.content, own.content)], [])
        queries = Queries.from_contexts([alone])
        out = self.head(maps, features.image_sizes, queries, crossing=False)
        (logits,) = self.readout.decoded(out, features, [alone], self.head.similarity)
        return F.adaptive_avg_pool2d(logits.float().sigmoid(), maps.shape[-1])
