import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.utils import visualizer
from segic_d2.utils.visualizer import GAP, TITLE, heat_map, overlay, paint_labels, panel, save_image

GREY = np.full((40, 60, 3), 100, np.uint8)


def test_heat_map_goes_from_blue_to_red_and_keeps_the_field_of_view():
    values = torch.full((4, 6), -0.2)
    values[:2, :3] = 0.8  # the upper left quarter, at another size than the image
    picture = heat_map(GREY, values, alpha=1.0)
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[2, 2], [128, 0, 0])  # JET's ends
    np.testing.assert_array_equal(picture[-2, -2], [0, 0, 128])
    np.testing.assert_array_equal(heat_map(GREY, values, alpha=0.5)[2, 2], [114, 50, 50])
    # fixed ends make maps comparable: half of the range is JET's green
    middle = heat_map(GREY, np.full((4, 6), 0.5), low=0, high=1, alpha=1.0)[20, 30]
    assert middle[1] == 255 and heat_map(GREY, np.zeros((4, 6))).any()


def test_overlay_colours_masks_and_nothing_else():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:35, 5:20], masks[1, 5:35, 30:50] = True, True
    picture = overlay(GREY, torch.from_numpy(masks)).astype(int)
    first, second = picture[20, 12], picture[20, 40]
    assert np.ptp(first) > 20 and np.ptp(second) > 20 and np.abs(first - second).max() > 20
    np.testing.assert_array_equal(picture[20, 57], [100, 100, 100])
    swapped = overlay(GREY, masks, ids=np.array([2, 1], np.uint8))  # as np.unique gives them
    np.testing.assert_array_equal(swapped[20, 12], overlay(GREY, masks[[0]], ids=[2])[20, 12])
    assert (overlay(GREY, masks, texts=["cat", "dog"]) != picture).any()
    np.testing.assert_array_equal(overlay(GREY, masks & False), GREY)


def test_one_answer_per_pixel():
    """The colours of the ids, half and half with the image inside, alone on the outline."""
    labels = np.full((60, 90), -1)
    labels[10:30, 10:40], labels[30:50, 20:60] = 0, 2  # the second row has no pixels
    image = np.full((60, 90, 3), 100, np.uint8)
    painted = paint_labels(image, labels, [7, 8, 9], ["", "", ""])
    colours = visualizer.entity_colours().astype(int)
    np.testing.assert_array_equal(painted[13, 35], (100 + colours[7]) // 2)
    np.testing.assert_array_equal(painted[44, 55], (100 + colours[9]) // 2)
    for y, x, i in ((10, 20, 7), (29, 15, 7), (29, 30, 7), (30, 30, 9), (49, 59, 9)):
        np.testing.assert_array_equal(painted[y, x], colours[i], err_msg=f"{y}, {x}")
    np.testing.assert_array_equal(painted[labels < 0], image[labels < 0])
    nothing = np.full((60, 90), -1)
    np.testing.assert_array_equal(paint_labels(image, nothing, [7], ["cat"]), image)
    np.testing.assert_array_equal(paint_labels(image, nothing, [], []), image)
    with pytest.raises(ValueError, match=r"labels are \(90, 60\), expected \(60, 90\)"):
        paint_labels(image, nothing.T, [7], ["cat"])


def written(monkeypatch, labels, texts):
    """{text: its box} of an image of zeros with labels over it."""
    boxes, place = {}, visualizer._free_place

    def noted(anchor, *args):
        boxes[anchor] = place(anchor, *args)
        return boxes[anchor]

    monkeypatch.setattr(visualizer, "_free_place", noted)
    image = np.zeros((*labels.shape, 3), np.uint8)
    painted = paint_labels(image, labels, list(range(1, len(texts) + 1)), texts)
    return boxes, painted


def test_texts_stand_on_their_largest_part(monkeypatch):
    labels = np.full((200, 300), -1)
    labels[100:180, 20:140], labels[10:30, 200:220] = 0, 0  # a large part and a small one
    labels[40:45, 250:255] = 1  # smaller than its text
    boxes, painted = written(monkeypatch, labels, ["large", "small"])
    (x, y), (left, top, right, bottom) = next((a, b) for a, b in boxes.items() if a[0] < 150)
    assert labels[y, x] == 0 and 20 <= left and right <= 140 and 100 <= top and bottom <= 180
    (x, _), (left, top, right, bottom) = next((a, b) for a, b in boxes.items() if a[0] > 150)
    assert 250 <= x <= 255 and left < x < right and bottom in (40, 41)  # above it
    assert (painted[top:bottom, left:right] != 0).any(-1).mean() > 0.9


def test_a_text_of_several_lines_is_one_line(monkeypatch):
    labels = np.zeros((200, 300), int)
    (one, _), (other, _) = (written(monkeypatch, labels, [t]) for t in ("a b", "a\n\tb"))
    assert one == other


def test_texts_do_not_lie_on_each_other(monkeypatch):
    labels = np.full((100, 160), -1)
    for row in range(12):  # stripes, all with their middle at the same x
        labels[4 + 6 * row : 10 + 6 * row] = row
    boxes, _ = written(monkeypatch, labels, [f"stripe {i}" for i in range(12)])
    there = [b for b in boxes.values() if b]
    assert len(there) == 12
    covered = np.zeros((100, 160), int)
    for left, top, right, bottom in there:
        assert left >= 0 and top >= 0 and right <= 160 and bottom <= 100
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1
    tiny, _ = written(monkeypatch, labels[:9, :9], ["far too long"] * 12)
    assert not any(tiny.values())


def test_the_place_of_a_text_is_the_nearest_free_one():
    assert visualizer._free_place((50, 40), (20, 10), (100, 80), []) == (40, 35, 60, 45)
    assert visualizer._free_place((2, 79), (20, 10), (100, 80), []) == (0, 70, 20, 80)
    taken = [(30, 35, 70, 45)]
    left, top, right, bottom = visualizer._free_place((50, 40), (20, 10), (100, 80), taken)
    assert (left, right) == (40, 60) and (bottom <= 35 or top >= 45) and abs(top - 35) == 10
    assert visualizer._free_place((50, 40), (20, 10), (100, 80), [(0, 0, 100, 80)]) is None
    assert visualizer._free_place((5, 5), (20, 10), (19, 80), []) is None


def test_pictures_are_shown_where_one_looks(monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(("viewer", image.size)))
    visualizer.show_image(GREY)
    notebook = types.SimpleNamespace(
        get_ipython=lambda: types.SimpleNamespace(kernel=1),
        display=types.SimpleNamespace(display=lambda x: shown.append(("notebook", x.size))),
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    visualizer.show_image(GREY)
    notebook.get_ipython = lambda: types.SimpleNamespace()  # IPython in a terminal
    visualizer.show_image(GREY)
    assert shown == [("viewer", (60, 40)), ("notebook", (60, 40)), ("viewer", (60, 40))]


def test_panel_puts_pictures_side_by_side_under_their_titles():
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    sheet = panel([("reference", GREY), ("a title far too long for its picture", red)], height=80)
    assert sheet.shape == (80 + TITLE + GAP, 3 * GAP + 120 + 80, 3)
    np.testing.assert_array_equal(sheet[TITLE + 40, GAP + 60], [100, 100, 100])
    np.testing.assert_array_equal(sheet[TITLE + 40, 2 * GAP + 120 + 40], [255, 0, 0])
    titles = sheet[:TITLE].min(-1)
    assert (titles[:, GAP : GAP + 120] < 128).any()
    assert (titles[:, 2 * GAP + 120 : -GAP] < 128).any() and (titles[:, -GAP:] > 128).all()


def test_saved_pictures_read_back(tmp_path):
    save_image(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), GREY)


ODD = (
    "$\\frac{$",
    "$",
    "a$b$c",
    "\ud800",
    "a\nb\r\n",
    "\x00\x1b[31m",
    "\u202eab",
    "狐",
    "a" * 999,
    "",
)


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_drawn(text):
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 5:30, 5:50] = True
    assert overlay(GREY, masks, texts=[text]).shape == GREY.shape
    assert paint_labels(GREY, masks[0].astype(int) - 1, [1], [text]).shape == GREY.shape
    assert panel([(text, GREY)], height=40).shape[0] == 40 + TITLE + GAP


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match=r"masks are \(1, 40, 61\), expected \(N, 40, 60\)"):
        overlay(GREY, np.zeros((1, 40, 61), bool))
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), found float64 \(40, 60, 3\)"):
        heat_map(GREY / 255, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="one finite map"):
        heat_map(GREY, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="at least one picture"):
        panel([])
