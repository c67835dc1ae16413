"""Paints a thing of the composites: turned, tinted, lit, and soft at its edge."""

import cv2
import numpy as np

UPSCALE = 4.0  # a cut-out is enlarged by at most this
MARGIN = 4  # px of nothing around a placed cut-out


def warped(view, length, rng):
    """Warp a view of an object to its size in the scene: premultiplied float32 (h, w, 4) in 0…1.

    The view is flipped, turned (mostly a little, sometimes fully), stretched by up to 15 % and
    skewed slightly.

    Args:
        view: uint8 (h, w, 4).
        length: px of its longer side.
        rng: numpy ``Generator``.
    """
    height, width = view.shape[:2]
    scale = min(length / max(height, width), UPSCALE)
    flip, full = rng.random() < 0.5, rng.random() < 0.2
    angle = rng.uniform(-np.pi, np.pi) if full else rng.normal(0, 0.2)
    stretch, askew = rng.uniform(0.92, 1.08, 2), rng.normal(0, 0.05, 2)
    sharp = view.astype(np.float32) / 255
    sharp[..., :3] *= sharp[..., 3:]
    if scale < 1:  # area averages, so that nothing flickers
        size = max(round(width * scale), 2), max(round(height * scale), 2)
        sharp = cv2.resize(sharp, size, interpolation=cv2.INTER_AREA)
        height, width = sharp.shape[:2]
        scale = 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.diag(stretch * scale * np.array([-1 if flip else 1, 1]))
    matrix = np.eye(3)
    matrix[:2, :2] = turn @ np.array([[1, askew[0]], [0, 1]]) @ shape
    matrix[2, :2] = askew[1] / max(height, width), 0  # perspective
    centre = np.eye(3)
    centre[:2, 2] = -(width - 1) / 2, -(height - 1) / 2
    matrix = matrix @ centre
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ matrix.T
    corners = corners[:, :2] / corners[:, 2:]
    low, high = np.floor(corners.min(0)) - MARGIN, np.ceil(corners.max(0)) + MARGIN
    shift = np.eye(3)
    shift[:2, 2] = -low
    size = tuple(int(v) for v in high - low)
    enlarged = cv2.INTER_CUBIC if scale > 1.2 else cv2.INTER_LINEAR
    result = np.clip(cv2.warpPerspective(sharp, shift @ matrix, size, flags=enlarged), 0, 1)
    rows, columns = (np.flatnonzero((result[..., 3] > 0.02).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((1, 1, 4), np.float32)
    top, left = max(rows[0] - MARGIN, 0), max(columns[0] - MARGIN, 0)
    return result[top : rows[-1] + 1 + MARGIN, left : columns[-1] + 1 + MARGIN]


def dressed(cut, ground, rng):
    """Change colour, light and edge of a warped cut-out: premultiplied float32 (h, w, 4).

    Args:
        cut: of ``warped``.
        ground: mean colour (3,) of the picture where it will lie, 0…1.
    """
    alpha = cut[..., 3:]
    colour = cut[..., :3] / np.maximum(alpha, 1e-3)
    strong = 2.5 if rng.random() < 0.15 else 1.0
    colour = np.clip(colour, 0, 1) ** np.exp(strong * rng.normal(0, 0.12))  # gamma
    colour = (
        colour * (1 + strong * rng.normal(0, 0.05, 3)) * np.exp(strong * rng.normal(-0.03, 0.08))
    )
    grey = colour.mean(-1, keepdims=True)
    colour = grey + (colour - grey) * np.clip(rng.normal(1, 0.15 * strong), 0.2, 1.6)
    if rng.random() < 0.5:  # the light of the place
        mean = (colour * alpha).sum((0, 1)) / max(alpha.sum(), 1e-3)
        pull = rng.uniform(0.1, 0.4) * (np.asarray(ground) / max(np.mean(ground), 0.05) - 1)
        colour = colour * (1 + 0.4 * pull)
        colour = colour * (1 + rng.uniform(0, 0.3) * (np.mean(ground) - mean.mean()))
    height, width = alpha.shape[:2]
    if rng.random() < 0.6:  # light from one side
        slope = rng.uniform(-0.35, 0.35, 2)
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        colour = colour * (1 + slope[0] * rows + slope[1] * columns)[..., None]
    soft = rng.uniform(0.3, 1.1)  # px
    result = np.dstack([np.clip(colour, 0, 1) * alpha, alpha]).astype(np.float32)
    return cv2.GaussianBlur(result, (0, 0), soft) if min(height, width) > 24 else result


def shadow(alpha, length, rng):
    """The shadow of a thing, float32 of alpha's shape in 0…1: one close below it, one wider."""
    close = cv2.GaussianBlur(alpha, (0, 0), max(length * 0.02, 1))
    wide = cv2.GaussianBlur(alpha, (0, 0), max(length * 0.08, 2))
    shift = rng.uniform(-0.05, 0.05) * length, rng.uniform(0.01, 0.07) * length
    matrix = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
    wide = cv2.warpAffine(wide, matrix, (alpha.shape[1], alpha.shape[0]))
    return rng.uniform(0.1, 0.35) * close + rng.uniform(0.1, 0.45) * wide
