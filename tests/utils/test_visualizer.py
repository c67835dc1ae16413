import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.utils.visualizer import GAP, TITLE, heat_map, overlay, panel, save_image

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


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match=r"masks are \(1, 40, 61\), expected \(N, 40, 60\)"):
        overlay(GREY, np.zeros((1, 40, 61), bool))
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), found float64 \(40, 60, 3\)"):
        heat_map(GREY / 255, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="one finite map"):
        heat_map(GREY, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="at least one picture"):
        panel([])
