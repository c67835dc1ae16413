"""Masks of what boxes, points and scribbles mark."""

import numpy as np
import pytest

from segic_d2.structures.picture import Picture
from segic_d2.structures.prompts import Marked
from tests.modeling.segic.parts import build
from tests.modeling.segic.regions.test_matcher import region_model

SIZE = 150, 200
AREA = "segic_d2.modeling.segic.regions.matcher.complete_area"


@pytest.fixture(scope="module")
def picture():
    return Picture(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8))


def box(y0, y1, x0, x1):
    area = np.zeros(SIZE, bool)
    area[y0:y1, x0:x1] = True
    return area


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_what_all_cells_of_a_box_are_is_the_box(picture, monkeypatch):
    """The whole way to the canvas and back, of a cut and of the whole picture."""
    monkeypatch.setattr(AREA, lambda units, labels, opened, *rest: opened)
    model, nothing = region_model(), np.zeros(SIZE, bool)
    for area in (box(40, 80, 100, 160), box(20, 140, 30, 180)):
        found = model.complete_mask(picture, Marked(nothing, ~area))
        assert iou(found, area) > 0.85 and not (found & ~area).any()


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_what_is_marked_stays_as_it_was_marked(picture, weight):
    """With and without the decoder."""
    model = region_model("MODEL.SEGIC.REGIONS.DECODER", weight)
    inside, outside = box(70, 71, 90, 91), box(0, 150, 0, 40)
    found = model.complete_mask(picture, Marked(inside, outside))
    assert found.dtype == bool and found.shape == SIZE
    assert found[70, 90] and not found[:, :40].any()
    assert np.array_equal(found, model.complete_mask(picture, Marked(inside, outside)))


def test_points_start_from_the_regions_that_they_lie_in(picture, monkeypatch):
    starts = []
    monkeypatch.setattr(AREA, lambda *a: starts.append(a[5]) or a[5])
    model = region_model("MODEL.SEGIC.REGIONS.CUT", 0.0)  # every cell its own region
    found = model.complete_mask(picture, Marked(box(70, 71, 90, 91), np.zeros(SIZE, bool)))
    assert starts[0].sum() == 1 and 1 <= starts[1].sum() <= 4  # one pixel, enlarged
    ys, xs = np.nonzero(found)  # a cell of the second look, which is closer
    assert abs(ys.mean() - 70) < 15 and abs(xs.mean() - 90) < 15 and found.mean() < 0.05


def test_a_head_without_regions_says_that_it_takes_masks(picture):
    marked = Marked(box(70, 71, 90, 91), np.zeros(SIZE, bool))
    with pytest.raises(ValueError, match="takes masks as references, not boxes or points"):
        build().complete_mask(picture, marked)
