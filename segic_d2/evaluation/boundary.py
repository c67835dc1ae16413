"""J and F of two masks, as DAVIS defines them: of regions, and of boundaries within a tolerance."""

import math
from functools import cache

import cv2
import numpy as np

TOLERANCE = 0.008  # distance at which boundaries still agree, share of the picture's diagonal


def region_similarity(truth: np.ndarray, predicted: np.ndarray) -> float:
    """J: intersection over union of two bool masks (h, w); 1 if both are empty. ValueError: the
    masks have two sizes, or are not bool."""
    _check(truth, predicted)
    union = np.count_nonzero(truth | predicted)
    return float(np.count_nonzero(truth & predicted) / union) if union else 1.0


def boundary_f(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F of two bool masks (h, w): the harmonic mean of precision and recall of boundary pixels. One
    is right if the other mask has one within ``tolerance``. F is 1 if neither mask has a boundary
    (a mask that is empty or fills the picture has none), 0 if one has none. ValueError: the masks
    have two sizes, or are not bool."""
    _check(truth, predicted)
    radius = tolerance(*truth.shape)
    x, y, width, height = cv2.boundingRect((truth | predicted).view(np.uint8))
    # Nothing outside of the union's box counts. One pixel more on each side shows the masks' ends.
    box = np.s_[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
    a, b = boundary_map(truth[box]), boundary_map(predicted[box])
    of_truth, of_predicted = np.count_nonzero(a), np.count_nonzero(b)
    if not of_truth or not of_predicted:
        return float(of_truth == of_predicted)
    precision = np.count_nonzero(b & _widened(a, radius)) / of_predicted
    recall = np.count_nonzero(a & _widened(b, radius)) / of_truth
    both = precision + recall
    return float(2 * precision * recall / both) if both else 0.0


def tolerance(height: int, width: int) -> int:
    """Pixels between boundaries that agree in a picture of this size, measured as Euclid does."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool mask (h, w) that differ from their right, lower or lower-right neighbour,
    bool (h, w). The last row looks to the right alone, the last column down alone, the last pixel
    nowhere, so the picture's frame is no boundary."""
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _widened(edge: np.ndarray, radius: int) -> np.ndarray:
    """Pixels within ``radius`` of a pixel of ``edge``, bool (h, w)."""
    return cv2.dilate(edge.view(np.uint8), _disk(radius)).view(bool)


@cache
def _disk(radius: int) -> np.ndarray:
    steps = np.arange(-radius, radius + 1) ** 2
    return (steps[:, None] + steps <= radius**2).astype(np.uint8)


def _check(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(
            f"the masks have the shapes {truth.shape} and {predicted.shape}: "
            "both must be (height, width) of one picture"
        )
    if truth.dtype != bool or predicted.dtype != bool:
        raise ValueError(f"the masks are {truth.dtype} and {predicted.dtype}: both must be bool")
