"""What the predictor found in a picture → mask files and overlays."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..structures.segmentation import Segmentation
from ..utils.files import AnyPath
from ..utils.visualizer import entity_colours
from .names import FileNames

OVERLAY_SIDE = 2000  # px; overlays are for looking at, and drawing is slow on large pictures


class PredictionWriter:
    """Writes ``<stem>_<name>.png`` per entity, ``<stem>_overlay.jpg`` and, merged,
    ``<stem>_labels.png``.

    Masks are 0/255; the merged map, if ``merge`` asks for it, is a ``label_image`` with 0 for the
    background. No file is written twice by one writer, and none of ``keep`` is written over: a name
    that is taken is numbered.
    """

    def __init__(self, folder: AnyPath, merge: bool = False, keep: Iterable[AnyPath] = ()) -> None:
        self.folder, self.merge = Path(folder), merge
        own = self.folder.resolve()
        self._names = FileNames(p.name for p in map(Path, keep) if p.resolve().parent == own)
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, result: Segmentation, stem: str) -> list[Path]:
        """Write the files of a result; returns their paths."""
        overlay = self._path(stem, "overlay", ".jpg")
        Image.fromarray(result.overlay(OVERLAY_SIDE)).save(overlay, quality=92)
        written = [overlay]
        if self.merge:
            written.append(self._path(stem, "labels", ".png"))
            label_image(result.label_map()).save(written[-1])
        for i, name, mask in zip(result.ids, result.names, result.masks, strict=True):
            written.append(self._path(stem, name or f"entity{i}", ".png"))
            Image.fromarray(mask.astype(np.uint8) * 255).save(written[-1])
        return written

    def _path(self, stem: str, label: str, suffix: str) -> Path:
        return self.folder / self._names.take(stem, label, suffix)


def label_image(labels: np.ndarray) -> Image.Image:
    """A label map (H, W), ids ≥ 0, as a Pillow image: palette, or 16-bit grey for ids above 254.

    255 is never used as an id in 8 bits: readers take it for "ignored".
    """
    if labels.max() > 254:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette(entity_colours().reshape(-1).tolist())
    return image
