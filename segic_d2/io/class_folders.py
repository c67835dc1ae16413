"""Folders of pictures with a mask beside each: which file is the mask."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from .formats import pictures_among
from .mask_pictures import DARK, LIGHT, TINT
from .pictures import opened

Pair: TypeAlias = tuple[Path, Path]
LOOKED_AT = 5  # pairs of a folder, whose looks tell which file is the mask
TWO_TONE, SOME = 0.9, 0.002  # shares of a mask: black or white; each of them

logger = logging.getLogger(__name__)


def pair_files(folder: Path) -> tuple[list[Pair], dict[Path, Exception]]:
    """(picture, mask) of a class folder, sorted, and what is wrong by file.

    The mask of ``N.jpg`` is ``N_mask.png`` (or another format) or ``N.png``. Where PNG files are
    the pictures and what lies beside them is black and white, as the first, the last and some
    others look, it is the mask, and the log says so; where some pairs look this way and others the
    other, they are wrong.

    Raises:
        ValueError: several pictures for one mask.
    """
    files = sorted(pictures_among(_visible(folder)))
    by_name = {f.stem + f.suffix.lower(): f for f in files}  # cameras write ".JPG", people ".PNG"
    named = {f.stem.removesuffix("_mask"): f for f in files if f.stem.endswith("_mask")}
    stems: dict[str, list[Path]] = {}
    for file in files:
        stems.setdefault(file.stem, []).append(file)
    told: list[Pair] = []
    beside: list[Pair] = []
    for stem, group in stems.items():
        png = by_name.get(f"{stem}.png") if len(group) > 1 else None
        mask = by_name.get(f"{stem}_mask.png") or named.get(stem) or png
        if mask is None:
            continue
        images = [f for f in group if f != mask]
        if len(images) != 1:
            raise ValueError(f"{[str(f) for f in images]} are images for one mask {mask}")
        (beside if mask == png else told).append((images[0], mask))
    beside, errors = _by_looks(folder, beside)
    paired = {f for pair in (*told, *beside) for f in pair}
    for file in sorted(set(files) - paired - set(errors)):
        stem = file.stem.removesuffix("_mask")
        what = "mask without an image" if file.stem != stem else "image without a mask"
        errors[file] = FileNotFoundError(
            f"{what}: {file}; expected an image {stem}.jpg (or another format) and its mask "
            f"{stem}.png or {stem}_mask.png in one folder"
        )
    return sorted(told + beside), errors


def _visible(folder: Path) -> Iterable[Path]:
    return (f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))


def _by_looks(folder: Path, pairs: list[Pair]) -> tuple[list[Pair], dict[Path, Exception]]:
    """Pairs of a picture and a PNG file, turned round where the picture is the mask."""
    rows = np.linspace(0, max(len(pairs) - 1, 0), LOOKED_AT).astype(int).tolist()
    shown = [pairs[i] for i in sorted(set(rows)) if pairs]
    turned = {pair: _is_two_tone(pair[0]) and not _is_two_tone(pair[1]) for pair in shown}
    if not any(turned.values()):
        return pairs, {}
    kinds = ", ".join(sorted({picture.suffix for picture, _ in pairs}))
    if all(turned.values()):
        logger.warning(
            "%s: the PNG files look like pictures, and the %s files are black and white: they are "
            "taken as the masks",
            *(folder, kinds),
        )
        return [(mask, picture) for picture, mask in pairs], {}
    one = next(pair for pair, is_turned in turned.items() if is_turned)
    other = next(pair for pair, is_turned in turned.items() if not is_turned)
    error = ValueError(
        f"{folder}: {one[0]} looks like the mask of {one[1]}, and {other[1]} like that of "
        f"{other[0]}: name all masks N_mask.png"
    )
    return [], {folder: error, **dict.fromkeys((f for p in pairs for f in p), error)}


def _is_two_tone(file: Path) -> bool:
    """Whether a file is black and white, with some of each; False where it cannot be read."""
    try:
        with opened(file) as image:
            if image.mode not in ("1", "L", "P", "RGB", "LA", "RGBA"):
                return False
            image.thumbnail((512, 512), Image.Resampling.NEAREST)
            colours = np.asarray(image.convert("RGB"))
    except (ValueError, OSError):
        return False
    dark, light = (colours.max(-1) <= DARK), (colours.min(-1) >= LIGHT)
    grey = int(np.ptp(colours, axis=2).max(initial=0)) <= TINT
    return bool(
        grey and (dark | light).mean() >= TWO_TONE and min(dark.mean(), light.mean()) > SOME
    )
