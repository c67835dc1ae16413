"""A mask for a reference that a box, points or a scribble only point at.

Regions of the reference's own picture are told from its surroundings as in ``boxes.py``; what
somebody marked stays as it was marked. Points leave the whole picture open: what they say is found
there, and once more in a cut about it.

Shapes: H×W the picture's own size, h×w a view on the canvas, g grid side (cells), n cells.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.data import transforms as T
from scipy import ndimage
from torch.nn import functional as F

from ...structures.features import Features
from ...structures.picture import Picture
from ...structures.prompts import Marked
from ...structures.soft_masks import extent
from ...structures.view import zoom_crop
from ..layers.frozen_encoder import FrozenEncoder
from .boxes import BoxMasks
from .regions.canvas import on_canvas
from .regions.linkage import connected_parts
from .regions.matcher import RegionMatcher, Seen

SHARE = 0.7  # of the side of a cut, the area that is looked at
BEYOND = 0.6  # of its sides, what a second look sees about what was found
OPEN = 0.5  # of a cell's area, at least, for the thing to be there
LIMITED = 0.95  # of the picture: what less is open is as a box
SURE = 3.0  # logit of a cell that is, or is not, the thing


class ReferenceMasks:
    """Finds what is marked, by a matcher's features and regions and, where it is asked, the
    decoder."""

    def __init__(self, encoder: FrozenEncoder, matcher: RegionMatcher, boxes: BoxMasks) -> None:
        self.encoder, self.matcher, self.boxes = encoder, matcher, boxes

    @torch.no_grad()
    def __call__(self, picture: Picture, marked: Marked) -> np.ndarray:
        """The mask, bool (H, W)."""
        self.matcher.look(self.encoder)
        opened, far = ~marked.outside, self._encoded(picture, None)
        limited = opened.mean() < LIMITED
        found = self._found(picture, far, marked, opened, limited)
        if marked.inside.any() and not limited:  # what is open says little: look again
            found = self._found(picture, far, marked, opened & _about(found | marked.inside), False)
        return np.asarray((found | marked.inside) & opened)

    def _found(
        self, picture: Picture, far: Features, marked: Marked, opened: np.ndarray, limited: bool
    ) -> np.ndarray:
        """``far``: the whole picture. ``limited``: the thing is about all that is open, as in a
        box; otherwise it is what hangs together about the marks."""
        crop = zoom_crop(opened, SHARE)
        features = far if crop is None else self._encoded(picture, crop)
        own, whole = self._seen(features, opened, crop), self._seen(far, opened, None)
        cells = self._seen(features, marked.inside, crop).shares > 0
        # marks of what is not the thing lie in cells that are open otherwise
        against = self._seen(features, _enclosed(marked.outside), crop).shares > 0
        against &= own.shares > OPEN
        without = self.matcher.about(own, against) & ~cells
        own.shares = own.shares.masked_fill(without, 0)
        sure = self.matcher.about(own, cells) & ((own.shares > OPEN) | cells)
        said = None
        if self.boxes.head.decodes:
            begun = sure if sure.any() and not limited else own.shares > OPEN
            said = self.boxes.chances(own, self.boxes.enlarged(begun.float(), own.content))
        kept = self.matcher.complete(own, whole, said, sure, not limited)
        rows, columns = self.matcher.cells_of(own.content)
        if not limited and cells.any():
            parts = connected_parts(kept[0, :rows, :columns].long().flatten(), (rows, columns))
            held = torch.isin(parts, parts[cells[0, :rows, :columns].flatten().cpu()])
            kept[0, :rows, :columns] &= held.view(rows, columns).to(kept.device)
        logits = torch.where(kept, SURE, -SURE)
        fine = on_canvas(logits[:, :rows, :columns], kept.shape[-1])
        refined = self.boxes.readout.refined(fine, features, threshold=0.0)
        mask = features.frames[0].masks(refined)[0].cpu().numpy()
        if crop is None:
            return mask
        found = np.zeros_like(opened)
        found[crop.y0 : crop.y0 + crop.h, crop.x0 : crop.x0 + crop.w] = mask
        return found

    def _encoded(self, picture: Picture, crop: T.CropTransform | None) -> Features:
        height, width = picture.size if crop is None else (crop.h, crop.w)
        view = self.encoder.input.target(picture, crop, with_pixels=True)
        return self.encoder([{**view, "height": height, "width": width}])

    def _seen(self, features: Features, area: np.ndarray, crop: T.CropTransform | None) -> Seen:
        """An area, bool (H, W), in the cells of a view."""
        content = features.frames[0].content
        own = area if crop is None else crop.apply_segmentation(area.astype(np.uint8))
        mask = torch.from_numpy(np.ascontiguousarray(own)).to(features.map.device, torch.float32)
        small = F.interpolate(mask[None, None], content, mode="area")[0]
        weights = self.boxes.contexts.weights(small, features.map.shape[-1])
        return Seen(features.map[0], content, weights)


def _enclosed(outside: np.ndarray) -> np.ndarray:
    """Marks of what is not the thing, bool (H, W): the parts of the outside that a box leaves in
    its inside; all of it where there is no box."""
    if outside.mean() <= 1 - LIMITED:
        return outside
    spans = [slice(*(extent((~outside).any(axis)) or (0, 0))) for axis in (1, 0)]
    rows, columns = spans
    parts, count = ndimage.label(outside[rows, columns])
    enclosed = np.zeros_like(outside)
    if count:
        edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        enclosed[rows, columns] = (parts > 0) & ~np.isin(parts, edge)
    return enclosed


def _about(found: np.ndarray) -> np.ndarray:
    """A box about what was found, bool (H, W), larger by ``BEYOND`` on every side."""
    area = np.zeros_like(found)
    parts = []
    for axis, size in zip((1, 0), found.shape, strict=True):
        start, stop = extent(found.any(axis)) or (0, size)
        more = int(np.ceil(BEYOND * (stop - start)))
        parts.append(slice(max(start - more, 0), stop + more))
    area[tuple(parts)] = True
    return area
