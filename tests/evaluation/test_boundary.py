import math

import cv2
import numpy as np
import pytest

from segic_d2.evaluation import boundary
from segic_d2.evaluation.boundary import boundary_f, region_similarity, tolerance


def slow_boundary(mask):
    """Boundary pixels, one by one."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            others = []
            if x + 1 < width:
                others.append(mask[y, x + 1])
            if y + 1 < height:
                others.append(mask[y + 1, x])
            if x + 1 < width and y + 1 < height:
                others.append(mask[y + 1, x + 1])
            if any(other != mask[y, x] for other in others):
                found.append((y, x))
    return found


def slow_f(truth, predicted):
    """F by measuring all distances between boundary pixels."""
    radius = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    a, b = slow_boundary(truth), slow_boundary(predicted)
    if not a or not b:
        return float(len(a) == len(b))

    def share(points, others):
        near = [any(math.dist(p, q) <= radius for q in others) for p in points]
        return sum(near) / len(near)

    precision, recall = share(b, a), share(a, b)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(rng, size):
    """A mask of some ellipses, some of which leave the picture."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, dtype=bool)
    for _ in range(rng.integers(0, 4)):
        cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        mask |= ((y - cy) / rng.uniform(1, 12)) ** 2 + ((x - cx) / rng.uniform(1, 12)) ** 2 < 1
    return mask


@pytest.mark.parametrize("size", [(20, 31), (45, 60), (12, 300), (1, 40), (40, 1)])
def test_f_against_all_distances(size):
    rng, found = np.random.default_rng(size[1]), []
    for _ in range(12):
        truth = blobs(rng, size)
        predicted = np.roll(truth, rng.integers(-3, 4, 2), (0, 1)) ^ (rng.random(size) > 0.995)
        found.append(boundary_f(truth, predicted))
        assert found[-1] == pytest.approx(slow_f(truth, predicted), abs=1e-12)
        assert found[-1] == boundary_f(predicted, truth)
    assert len(set(found)) > 2


def test_the_tolerance_is_a_disk_of_the_whole_picture():
    sizes = [(480, 640), (480, 854), (480, 910), (480, 1152), (720, 1280), (75, 100)]
    assert [tolerance(*size) for size in sizes] == [7, 8, 9, 10, 12, 1]
    truth, near, far = (np.zeros((12, 400), dtype=bool) for _ in range(3))  # tolerance 4
    truth[4, 100] = near[8, 100] = far[7, 103] = True
    found = [boundary_f(truth, mask) for mask in (near, far)]
    assert found == pytest.approx([slow_f(truth, mask) for mask in (near, far)])
    assert 0.5 < found[0] and found[1] < found[0]


def test_masks_that_leave_the_picture_or_are_not_there():
    empty = np.zeros((40, 60), dtype=bool)
    full, row = ~empty, empty.copy()
    row[-1] = True
    assert (region_similarity(empty, empty), boundary_f(empty, empty)) == (1, 1)
    assert (region_similarity(full, empty), boundary_f(full, empty)) == (0, 1)
    assert (region_similarity(row, empty), boundary_f(row, empty)) == (0, 0)
    assert (region_similarity(row, row), boundary_f(row, row)) == (1, 1)
    assert region_similarity(full, row) == 1 / 40


def test_the_work_is_that_of_the_objects_box(monkeypatch):
    truth, predicted = np.zeros((2, 480, 854), dtype=bool)
    truth[100:130, 200:240] = predicted[104:134, 205:245] = True
    sizes, dilate = [], cv2.dilate
    count = lambda edge, disk: sizes.append(edge.shape) or dilate(edge, disk)  # noqa: E731
    monkeypatch.setattr(boundary.cv2, "dilate", count)
    assert 0 < boundary_f(truth, predicted) <= 1
    assert sizes == [(36, 47)] * 2  # of (480, 854)


def test_a_transposed_view_is_no_other_mask():
    rng = np.random.default_rng(5)
    a, b = blobs(rng, (50, 70)), blobs(rng, (50, 70))
    assert boundary_f(a.T, b.T) == boundary_f(a, b) < 1


@pytest.mark.parametrize("function", [region_similarity, boundary_f])
def test_misuse_is_one_line(function):
    mask = np.ones((4, 6), dtype=bool)
    with pytest.raises(ValueError, match=r"shapes \(4, 6\) and \(6, 4\)"):
        function(mask, mask.T)
    with pytest.raises(ValueError, match="masks are bool and uint8: both must be bool"):
        function(mask, mask.astype(np.uint8))
