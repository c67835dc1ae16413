"""Bilinear resizing without antialiasing, written out: what INPUT.RESIZE "float" must compute."""

import numpy as np


def gather(old, new, scale):
    """Matrix (new, old) of one axis: pixel i reads at (i + 0.5) / scale - 0.5, clamped below."""
    matrix = np.zeros((new, old))
    for i in range(new):
        source = max((i + 0.5) / scale - 0.5, 0)
        first = int(source)
        matrix[i, first] += 1 - (source - first)
        matrix[i, min(first + 1, old - 1)] += source - first
    return matrix


def bilinear(pixels, rows, columns):
    """(H, W, …) → (h, w, …) by the matrices of both axes."""
    return np.einsum("iy,jx,yx...->ij...", rows, columns, pixels.astype(np.float64), optimize=True)


def to_canvas(pixels, canvas):
    """The evaluation transform: longest side to the canvas, sizes rounded down."""
    height, width = pixels.shape[:2]
    scale = canvas / max(height, width)
    rows = gather(height, int(np.floor(height * scale)), scale)
    return bilinear(pixels, rows, gather(width, int(np.floor(width * scale)), scale))
