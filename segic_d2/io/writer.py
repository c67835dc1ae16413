"""What the predictor found in a picture → mask files and overlays."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..structures.segmentation import Segmentation
from ..utils.files import AnyPath, write_picture
from ..utils.visualizer import entity_colours
from .names import FileNames
from .opening import open_image

OVERLAY_SIDE = 2000  # px; overlays are for looking at, and drawing is slow on large pictures


class PredictionWriter:
    """Writes ``<stem>_<name>.png`` per entity, ``<stem>_overlay.jpg`` and, merged,
    ``<stem>_labels.png``.

    Masks are 0/255; the merged map, if ``merge`` asks for it, is a ``label_image`` with 0 for the
    background. Every file says in its metadata which picture it is a result of, by a hash. No file
    is written twice by one writer. A file that is there is written over only where it is a result
    of the same picture and none of ``keep``; else the new one's name is numbered.
    """

    def __init__(self, folder: AnyPath, merge: bool = False, keep: Iterable[AnyPath] = ()) -> None:
        self.folder, self.merge = Path(folder), merge
        own = self.folder.resolve()
        self._names = FileNames(p.name for p in map(Path, keep) if p.resolve().parent == own)
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, result: Segmentation, stem: str, absent: Iterable[str] = ()) -> list[Path]:
        """Write the files of a result; returns their paths. An earlier mask of the same picture of
        what is ``absent`` now, by name, is removed."""
        mark = _mark(result.file_name or stem)
        shown = Image.fromarray(result.overlay(OVERLAY_SIDE))
        images = [("overlay", ".jpg", shown)]
        if self.merge:
            images.append(("labels", ".png", label_image(result.label_map())))
        for i, name, mask in zip(result.ids, result.names, result.masks, strict=True):
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            images.append((file_label(i, name), ".png", image))
        for label in absent:
            self._place(stem, label, ".png", mark).unlink(missing_ok=True)
        return [self._save(image, stem, label, suffix, mark) for label, suffix, image in images]

    def _place(self, stem: str, label: str, suffix: str, mark: str) -> Path:
        """A path where nothing is, or a result of the same picture."""

        def free(name: str) -> bool:
            path = self.folder / name
            return not os.path.lexists(path) or _mark_of(path) == mark

        return self.folder / self._names.take(stem, label, suffix, free)

    def _save(self, image: Image.Image, stem: str, label: str, suffix: str, mark: str) -> Path:
        path = self._place(stem, label, suffix, mark)
        if suffix == ".jpg":
            write_picture(path, image, quality=92, comment=mark.encode())
        else:
            about = PngInfo()
            about.add_text("Comment", mark)
            write_picture(path, image, pnginfo=about)
        return path


def file_label(i: int, name: str | None) -> str:
    """What the file of an entity is called by."""
    return name or f"entity{i}"


def _mark(source: str) -> str:
    """What tells the results of a picture, a path, an address or another name, from all others."""
    place = source if "://" in source else os.path.abspath(source)
    return f"segic_d2 {hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}"


def _mark_of(path: Path) -> str:
    """The mark of a file; "" where it has none, being something else."""
    try:
        with open(path, "rb") as file, open_image(file) as image:
            found = image.info.get("Comment") or image.info.get("comment") or ""
    except Exception:  # noqa: BLE001  files of other people are anything
        return ""
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


def label_image(labels: np.ndarray) -> Image.Image:
    """A label map (H, W), ids ≥ 0, as a Pillow image: palette, or 16-bit grey for ids above 254.

    255 is never used as an id in 8 bits: readers take it for "ignored". ValueError: an id above
    65535, which a PNG cannot hold.
    """
    if labels.max() > 65535:
        raise ValueError(f"the id {labels.max()} does not fit a merged label map; ids end at 65535")
    if labels.max() > 254:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette(entity_colours().reshape(-1).tolist())
    return image
