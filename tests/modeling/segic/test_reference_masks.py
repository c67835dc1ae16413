"""Masks of what boxes, points and scribbles mark."""

import numpy as np
import pytest
import torch

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


def test_of_what_a_point_finds_only_what_hangs_together_with_it_is_kept(picture, monkeypatch):
    def two_corners(units, labels, opened, *rest):
        if len(units) != 48:  # the second look, at a part of the picture
            return opened
        found = torch.zeros(6, 8, dtype=torch.bool)
        found[:2, :2] = found[4:, 5:] = True
        return found.flatten()

    monkeypatch.setattr(AREA, two_corners)
    model, nothing = region_model("MODEL.SEGIC.REGIONS.CUT", 0.0), np.zeros(SIZE, bool)
    found = model.complete_mask(picture, Marked(box(10, 11, 10, 11), nothing))
    assert found[8:20, 8:20].all() and not found[100:, 120:].any()


def test_what_is_marked_as_something_else_is_left_out_with_its_region(picture, monkeypatch):
    """In a box; the rest of the box is as open as before."""
    asked = []
    monkeypatch.setattr(AREA, lambda units, labels, opened, *rest: asked.append(opened) or opened)
    model, area = region_model("MODEL.SEGIC.REGIONS.CUT", 0.0), box(20, 140, 30, 180)
    for against in (box(0, 0, 0, 0), box(70, 71, 90, 91)):
        model.complete_mask(picture, Marked(np.zeros(SIZE, bool), ~area | against))
    plain, without = asked
    assert 1 <= (plain & ~without).sum() <= 4 and not (without & ~plain).any()


def test_points_in_a_box_add_to_what_the_box_says(picture, monkeypatch):
    """The search begins with all of the box; points alone begin with their region."""
    asked = []
    monkeypatch.setattr(AREA, lambda *a: asked.append(a[5:]) or a[2])
    model, inside = region_model("MODEL.SEGIC.REGIONS.CUT", 0.0), box(70, 71, 90, 91)
    model.complete_mask(picture, Marked(inside, ~box(20, 140, 30, 180)))
    model.complete_mask(picture, Marked(inside, np.zeros(SIZE, bool)))
    assert [alone for _, alone in asked] == [False, True, True]
    assert all(1 <= sure.sum() <= 4 for sure, _ in asked)


def test_a_head_without_regions_says_that_it_takes_masks(picture):
    marked = Marked(box(70, 71, 90, 91), np.zeros(SIZE, bool))
    with pytest.raises(ValueError, match="takes masks as references, not boxes or points"):
        build().complete_mask(picture, marked)
