"""Predictions → mask files and overlays."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ..utils.visualizer import entity_colours, overlay
from .names import FileNames

OVERLAY_SIDE = 2000  # px; overlays are for looking at, and drawing is slow on large pictures


class Result(Protocol):
    """What is written of a picture (H, W): the predictor's ``Prediction``."""

    image: np.ndarray  # uint8 (H, W, 3)
    masks: np.ndarray  # bool (N, H, W)
    scores: np.ndarray  # float (N,)
    names: list[str | None]
    ids: list[int]

    def label_map(self) -> np.ndarray:
        """One merged map (H, W): an entity's id, or 0."""


def draw_overlay(result: Result) -> np.ndarray:
    """The picture with every mask in the colour of its entity, its name and its score.

    Returns:
        uint8 (h, w, 3), the longest side at most ``OVERLAY_SIDE``.
    """
    height, width = result.image.shape[:2]
    scale = min(1, OVERLAY_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(result.image).resize(size, Image.Resampling.BILINEAR)
    nearest = Image.Resampling.NEAREST
    shown = [np.asarray(Image.fromarray(m).resize(size, nearest)) for m in result.masks]
    masks = np.stack(shown) if shown else np.zeros((0, *size[::-1]), bool)
    named = zip(result.ids, result.names, result.scores, strict=True)
    texts = [f"{name or i} {score:.2f}" for i, name, score in named]
    return overlay(np.asarray(small), masks, result.ids, texts)


class PredictionWriter:
    """Writes ``<stem>_<name>.png`` per entity, ``<stem>_overlay.jpg`` and, merged,
    ``<stem>_labels.png``.

    Masks are 0/255; the merged map is a palette PNG with 0 for the background and the entities'
    ids otherwise, 16-bit grey where an id is above 254. No file is written twice by one writer: a
    name that is taken is numbered.

    Args:
        folder: made if it is missing.
        merge: whether to write the merged map too.
    """

    def __init__(self, folder: str | os.PathLike[str], merge: bool = False) -> None:
        self.folder, self.merge, self._names = Path(folder), merge, FileNames()
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, result: Result, stem: str) -> list[Path]:
        """Write the files of a result; returns their paths."""
        overlay = self._path(stem, "overlay", ".jpg")
        Image.fromarray(draw_overlay(result)).save(overlay, quality=92)
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
