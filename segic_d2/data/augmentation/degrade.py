"""Worse masks and pictures, to measure how much a result depends on good ones. Distances are shares
of the picture's diagonal, so that they mean the same at any resolution."""

import io

import numpy as np
from PIL import Image, ImageFilter

MASK_SHIFT = 0.01  # of the diagonal: how far an outline moves
BLUR = 0.005  # of the diagonal: standard deviation
DARK = 0.35  # factor of the brightness
JPEG_QUALITY = 20


def eroded(mask: np.ndarray) -> np.ndarray:
    """A bool mask (H, W) whose outline moved inwards, as far as a pixel is left."""
    for _ in range(_pixels(mask.shape, MASK_SHIFT)):
        smaller = ~_grown(~mask, 1)
        if not smaller.any():
            break
        mask = smaller
    return mask


def dilated(mask: np.ndarray) -> np.ndarray:
    """A bool mask (H, W) whose outline moved outwards."""
    return _grown(mask, _pixels(mask.shape, MASK_SHIFT))


def boxed(mask: np.ndarray) -> np.ndarray:
    """The box around a bool mask (H, W), filled."""
    box = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def blurred(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 (H, W, 3), out of focus."""
    radius = BLUR * float(np.hypot(*picture.shape[:2]))
    return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def darkened(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 (H, W, 3), with little light."""
    return np.rint(picture * DARK).astype(np.uint8)


def compressed(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 (H, W, 3), after JPEG of low quality."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.array(Image.open(file).convert("RGB"))


def halved(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 (H, W, 3), of half the size, at least 1 px."""
    image = Image.fromarray(picture)
    return np.array(image.resize([max(1, side // 2) for side in image.size], Image.BILINEAR))


MASKS = {"mask eroded": eroded, "mask dilated": dilated, "box for a mask": boxed}
PICTURES = {
    "target blurred": blurred,
    "target darkened": darkened,
    "target JPEG 20": compressed,
    "target half size": halved,
}


def _pixels(shape, ratio):
    return max(1, round(ratio * float(np.hypot(*shape))))


def _grown(mask, steps):
    """A bool mask dilated by a square of 2·steps + 1 px; the frame adds nothing."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    for _ in range(steps):
        image = image.filter(ImageFilter.MaxFilter(3))
    return np.asarray(image) > 0
