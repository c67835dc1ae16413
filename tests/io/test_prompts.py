"""Every kind of prompt against slow, obvious references, and a line for each that is none."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.io.masks import to_masks
from segic_d2.io.prompts import PROMPT_REGISTRY, to_marked
from segic_d2.structures.prompts import Marked
from tests.io.test_masks import H, W, rle, soft_grey, square, uncompressed  # noqa: F401

NONE = np.zeros((H, W), dtype=bool)
SEEDS = range(25)


def same(marked, inside, outside):
    np.testing.assert_array_equal(marked.inside, inside)
    np.testing.assert_array_equal(marked.outside, outside)


def drawn(*pixels):
    mask = NONE.copy()
    for x, y in pixels:
        mask[y, x] = True
    return mask


@pytest.mark.parametrize("form", ["array", "file", "rle", "rle counts", "polygon", "json", "own"])
def test_masks_leave_nothing_open(square, tmp_path, form):  # noqa: F811
    if form == "file":
        Image.fromarray(soft_grey(square)).save(tmp_path / "mask.png")
    (tmp_path / "mask.json").write_text(json.dumps(uncompressed(square)))
    mask = {
        "array": square,
        "file": tmp_path / "mask.png",
        "rle": rle(square),
        "rle counts": uncompressed(square),
        "polygon": [[10, 5, 22, 5, 22, 15, 10, 15]],
        "json": tmp_path / "mask.json",
        "own": {"mask": square},
    }[form]
    marked = to_marked(mask, (H, W))
    assert list(marked) == [1]
    same(marked[1], square, ~square)


def test_a_mask_keeps_its_ids():
    ids = np.zeros((H, W), dtype=int)
    ids[:5], ids[20:] = 3, 8
    marked = to_marked(ids, (H, W))
    assert list(marked) == [3, 8]
    same(marked[8], ids == 8, ids != 8)


def test_four_numbers_are_a_box(tmp_path):
    outside = ~to_masks([[10, 5, 22, 5, 22, 15, 10, 15]], (H, W))[1]  # COCO's own pixels of it
    corners = [10, 5, 22, 15]
    (tmp_path / "box.json").write_text(json.dumps({"box": corners}))
    (tmp_path / "bare.json").write_text(json.dumps(corners))
    for box in (
        *({"box": corners}, {"box": np.array(corners)}, {"box": [corners]}, corners),
        *(tuple(corners), np.array(corners), torch.tensor(corners), torch.tensor(corners) * 1.0),
        *(tmp_path / "box.json", str(tmp_path / "bare.json"), np.array(corners, np.float32)),
    ):
        marked = to_marked(box, (H, W))
        assert list(marked) == [1]
        same(marked[1], NONE, outside)


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_leave_open_what_they_touch(seed):
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(rng.integers(1, 4)):
        x0, y0 = rng.uniform(0, (W - 2, H - 2))
        x1, y1 = rng.uniform((x0 + 0.01, y0 + 0.01), (W, H))
        boxes.append(np.round([x0, y0, x1, y1], rng.integers(0, 3)) + [0, 0, 1e-3, 1e-3])
        boxes[-1] = boxes[-1].clip(0, [W, H, W, H])
    outside = ~NONE
    for x0, y0, x1, y1 in boxes:
        for y in range(H):
            for x in range(W):
                if x + 1 > x0 and x < x1 and y + 1 > y0 and y < y1:  # they share some area
                    outside[y, x] = False
    same(to_marked({"box": boxes}, (H, W))[1], NONE, outside)


@pytest.mark.parametrize("seed", SEEDS)
def test_points_mark_the_pixel_they_lie_in(seed):
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 9))
    pixels = rng.permutation(H * W)[:number]
    where = np.stack([pixels % W, pixels // W], 1) + rng.uniform(0, 0.999, (number, 2))
    labels = rng.integers(0, 2, number)
    labels[0] = 1
    inside, outside = NONE.copy(), NONE.copy()
    for (x, y), label in zip(where, labels, strict=True):
        for row in range(H):
            for column in range(W):
                if column <= x < column + 1 and row <= y < row + 1:
                    (inside if label else outside)[row, column] = True
    given = {"points": where.tolist(), "labels": labels.tolist()}
    same(to_marked(given, (H, W))[1], inside, outside)
    tensors = {"points": torch.from_numpy(where), "labels": torch.from_numpy(labels == 1)}
    same(to_marked(tensors, (H, W))[1], inside, outside)
    same(to_marked({"points": where}, (H, W))[1], inside | outside, NONE)


def test_one_point():
    same(to_marked({"points": [7, 9]}, (H, W))[1], drawn((7, 9)), NONE)
    same(to_marked({"points": (39, 29), "labels": 1}, (H, W))[1], drawn((39, 29)), NONE)


def test_scribbles(square, tmp_path):  # noqa: F811
    line = [[3, 4], [3, 8], [7, 8]]
    inside = drawn(*((3, y) for y in range(4, 9)), *((x, 8) for x in range(3, 8)))
    negative = drawn(*((20 + n, 2 + n) for n in range(5)))
    two = [line[:2], line[1:]]
    arrays = np.array(two), torch.tensor(two), [np.array(two[0]), torch.tensor(two[1])]
    for strokes in (line, [line], np.array(line), np.array(line) + 0.9, two, *arrays):
        marked = to_marked({"scribble": strokes, "negative": [[20, 2], [24, 6]]}, (H, W))[1]
        same(marked, inside, negative)
    same(to_marked({"scribble": [[5, 6]]}, (H, W))[1], drawn((5, 6)), NONE)
    wide = to_marked({"scribble": [[5, 10], [30, 10]], "width": 3}, (H, W))[1].inside
    np.testing.assert_array_equal(np.flatnonzero(wide.any(1)), [9, 10, 11])
    Image.fromarray(square).save(tmp_path / "strokes.png")
    for painted in (square, tmp_path / "strokes.png", rle(square)):
        same(to_marked({"scribble": painted}, (H, W))[1], square, NONE)


def test_polygons():
    flat = [10, 5, 22, 5, 22, 15, 10, 15]
    pairs = np.reshape(flat, (4, 2))
    expected = to_masks([flat], (H, W))[1]
    for polygon in (flat, [flat], pairs, pairs.tolist(), [pairs.tolist()], torch.tensor(flat)):
        same(to_marked({"polygon": polygon}, (H, W))[1], expected, ~expected)
    both = to_marked({"polygon": [flat, [30, 20, 35, 20, 35, 28]]}, (H, W))[1].inside
    assert (both & ~expected).sum() == to_masks([[30, 20, 35, 20, 35, 28]], (H, W))[1].sum() > 0


def test_kinds_in_one_dict_are_of_one_thing_and_in_a_list_of_several(square):  # noqa: F811
    box = {"box": [5, 5, 25, 20]}
    clicks = {"points": [[10, 10], [20, 12]], "labels": [1, 0]}
    outside = to_marked(box, (H, W))[1].outside
    same(to_marked({**box, **clicks}, (H, W))[1], drawn((10, 10)), outside | drawn((20, 12)))
    negative = to_marked({**box, "points": [[20, 12]], "labels": [0]}, (H, W))[1]
    same(negative, NONE, outside | drawn((20, 12)))
    marked = to_marked([box, clicks, rle(square), {"mask": square}], (H, W))
    assert list(marked) == [1, 2, 3, 4]
    same(marked[1], NONE, outside)
    same(marked[2], drawn((10, 10)), drawn((20, 12)))
    for i in (3, 4):
        same(marked[i], square, ~square)


POINTS = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            [10, 20, 30],
            r"list of 3 numbers; four are a box .* with box, .*points \(with labels\)",
        ),
        (np.zeros(6), "list of 6 numbers; four are a box"),
        ([[1, 2, 9, 9]], r"polygon 1 .* no 3 finite corners: .*boxes .* given as \{'box'"),
        ([30, 5, 10, 20], r"box \[30, 5, 10, 20\] is no x0, y0, x1, y1 .*COCO's"),
        ({"box": [30, 5, 30, 20]}, r"box \[30, 5, 30, 20\] is no x0, y0, x1, y1"),
        ({"box": [0, 0, 41, 20]}, r"box \[0, 0, 41, 20\] reaches out of the picture of 40x30 px"),
        ({"box": [-0.5, 0, 20, 20]}, r"box \[-0.5, 0, 20, 20\] reaches out"),
        ({"box": [[1, 1, 5, 5], [0, 0, 40, 31]]}, r"box \[0, 0, 40, 31\] reaches out"),
        ({"box": [0.2, 0.1, 0.9, 0.8]}, "in the first pixel; coordinates are px, not shares"),
        ({"box": [0, 0, float("nan"), 9]}, r"box \[0, 0, nan, 9\] is no list of finite numbers"),
        ({"box": [1, 2, 3]}, r"box \[1, 2, 3\] is no list of finite numbers x0, y0, x1, y1"),
        ({"box": "here"}, "box 'here' is no list of finite numbers"),
        ({"box": []}, r"box \[\] is no list"),
        ({"points": [[1, 2, 3]]}, "points .* is no list of finite numbers x, y"),
        ({"points": [[1, 2], [40, 3]]}, r"points: \(40, 3\) is not in the picture of 40x30 px"),
        ({"points": [[1, -1]]}, r"points: \(1, -1\) is not in"),
        ({"points": POINTS, "labels": [1]}, r"points have the labels \[1\]; expected 2"),
        ({"points": POINTS, "labels": [1, 2]}, r"the labels \[1, 2\]; expected 2, each 1"),
        ({"points": POINTS, "labels": [0, 0]}, "points are all negative"),
        ({"points": [[1, 2], [1, 2]], "labels": [1, 0]}, r"pixel \(1, 2\) is marked both"),
        ({"points": [[30, 9]], "box": [0, 0, 9, 9]}, r"pixel \(30, 9\) is marked both"),
        ({"points": [[5, 9]], "mask": NONE}, r"pixel \(5, 9\) is marked both"),
        ({"scribble": []}, "scribble is empty"),
        ({"scribble": NONE}, "scribble is empty"),
        ({"scribble": [[3, 4]], "negative": NONE}, "negative scribble is empty"),
        ({"scribble": [[3, 99]]}, r"scribble: \(3, 99\) is not in the picture"),
        ({"scribble": [[3, 4, 5], [3, 4, 5]]}, "scribble .* is no list of finite numbers x, y"),
        ({"scribble": POINTS, "width": 0}, "scribble has the width 0; it must be from 1 to 40"),
        ({"scribble": POINTS, "negative": POINTS}, r"pixel \(1, 2\) is marked both"),
        ({"polygon": [1, 2, 3, 4]}, "polygon 1 of the mask has no 3 finite corners"),
        ({"polygon": 5}, "polygon 5 is no list of corners x, y, x, y"),
        ({"polygon": "mask.png"}, "polygon 'mask.png' is no list of corners"),
        ({"polygon": NONE}, "polygon has the numbers of a mask .*: give them as 'mask'"),
        ({"polygon": (NONE + 7).tolist()}, "polygon has the numbers of a mask"),
        ({"polygon": [{"counts": [H * W], "size": [H, W]}]}, "not of polygons"),
        ({"polygon": [1, 1, 9, 1, 9, 10**400]}, "not of polygons"),
        ({"box": [1, 2, 3, 10**400]}, "box .* is no list of finite numbers"),
        ({"box": "a\nb\ud800"}, r"box 'a\\nb\\ud800' is no list of finite numbers"),
        ({"points": POINTS, "labels": [[1], 0]}, r"points have the labels \[\[1\], 0\]; expected"),
        ({"mask": np.diag([1, 2, 3])}, "mask is 3x3 px, the image as displayed is 40x30 px"),
        ({"mask": np.eye(H, W, dtype=int) + 1}, "mask in a dict has the ids 1, 2; one is meant"),
        ({"boxes": [1, 2, 3, 4]}, "a dict with .*'boxes' is none of its keys: .*with box, mask"),
        ({"points": POINTS, "label": [1, 1]}, r"'label' is none of its keys: .*\(with labels\)"),
        ({"box": [1, 2, 3, 4], "labels": [1]}, "'labels' is none of its keys"),
        ({1: NONE}, "a dict with .*1 is none of its keys"),
        ({"text": "a cat"}, "texts are not taken in references; .* give the text as its name"),
        ({"bbox": [1, 2, 3, 4]}, r"COCO's bbox x, y, width, height is x, y, x \+ width"),
        ({"segmentation": [[1, 2]], "bbox": []}, "it is a COCO annotation: give its 'segm"),
        ([{"segmentation": []}] * 2, "it is a COCO annotation"),
        ({"images": [], "annotations": []}, "it is a whole COCO file: give the 'segmentation' of"),
        ({"shapes": [], "imagePath": ""}, r"it is a labelme file: give \{'polygon': points\}"),
        ({"counts": [5]}, r"a dict with \['counts'\]; a COCO RLE has 'counts' and 'size'"),
        ({}, r"a dict with \[\]; a prompt is a dict with box, mask"),
    ],
)
def test_bad_prompt(prompt, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_marked(prompt, (H, W))
    try:
        text = json.dumps(prompt)
    except TypeError:
        return  # holds what no file can
    (tmp_path / "prompt.json").write_text(text)
    with pytest.raises(ValueError, match=message.replace("1 is none", "'1' is none")):
        to_marked(tmp_path / "prompt.json", (H, W))


def test_a_kind_of_ones_own(monkeypatch):
    monkeypatch.setattr(PROMPT_REGISTRY, "_obj_map", dict(PROMPT_REGISTRY))

    @PROMPT_REGISTRY.register()
    def rows(size, rows, beside=()):
        marked = np.zeros((2, *size), dtype=bool)
        marked[0, rows], marked[1, list(beside)] = True, True
        return Marked(*marked)

    marked = to_marked({"rows": [3, 4], "beside": [9], "box": [0, 0, W, 12]}, (H, W))[1]
    assert marked.inside.sum() == 2 * W and marked.outside.sum() == W + (H - 12) * W
    with pytest.raises(ValueError, match=r"polygon, rows \(with beside\), scribble"):
        to_marked({"columns": 3}, (H, W))
