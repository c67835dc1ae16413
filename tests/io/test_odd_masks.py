import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.io.odd_masks import describe_values, suspicion

H, W = 60, 90
ROWS, COLUMNS = np.mgrid[:H, :W]


def ellipse(y, x, height, width):
    return ((ROWS - y) / height) ** 2 + ((COLUMNS - x) / width) ** 2 < 1


def test_a_mask_of_all_or_nearly_all():
    mask = np.ones((H, W), dtype=bool)
    assert suspicion(mask) == "covers 100 % of the picture; is it inverted?"
    mask[0] = False  # 98.3 %
    assert suspicion(mask) == "covers 98 % of the picture; is it inverted?"
    assert suspicion(mask, found=True) == (
        "covers 98 % of the picture: a box that leaves nothing out tells the thing from nothing"
    )
    mask[1] = False
    assert not suspicion(mask) and not suspicion(mask, found=True)


@pytest.mark.parametrize("seed", range(40))
def test_an_object_is_not_inverted_and_its_inverse_is(seed):
    """Off the centre too, and cut by one border, as a person who stands in front of the camera."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0.3, 0.7) * H, rng.uniform(0.3, 0.7) * W
    mask = ellipse(y, x, rng.uniform(0.12, 0.3) * H, rng.uniform(0.12, 0.3) * W)
    if seed % 2:
        below = (ROWS > y) & (abs(COLUMNS - x) < 0.15 * W)
        mask |= below
    assert not suspicion(mask)
    assert suspicion(~mask).endswith("but not its middle; is it inverted?")
    assert suspicion(~mask).startswith(f"covers {100 * (~mask).mean():.0f} % of the picture")


@pytest.mark.parametrize("seed", range(40))
def test_a_large_object_across_all_borders_is_not_inverted(seed):
    """It fills the middle, and leaves corners out."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0.46, 0.54) * H, rng.uniform(0.46, 0.54) * W
    mask = ellipse(y, x, rng.uniform(0.56, 0.62) * H, rng.uniform(0.56, 0.62) * W)
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
    assert 0.6 < mask.mean() < 0.98 and not suspicion(mask)
    mask[: H // 2, W - 12 :] = False  # a corner that shows something else
    assert not suspicion(mask)


def test_a_large_object_with_a_gap_is_not_inverted():
    mask = np.ones((H, W), dtype=bool)
    mask[:, :8] = mask[:20, 70:] = False
    mask[25:30, 40:45] = False  # between an arm and a body
    assert mask.mean() > 0.75 and not suspicion(mask)


def test_hardly_a_pixel():
    mask = np.zeros((H, W), dtype=bool)
    mask[3, 4:7] = True
    assert suspicion(mask) == "has 3 px, 0.06 % of the picture; is it of this picture?"
    mask[4, 4] = True
    assert not suspicion(mask)


def test_specks():
    mask = np.zeros((H, W), dtype=bool)
    mask[::10, ::10] = True  # 6 × 9 of one pixel
    odd = "covers 1.00 % of the picture and has 54 specks of less than 4 px; is it noise?"
    assert suspicion(mask) == odd
    birds = np.kron(mask, np.ones((2, 2), dtype=bool))  # of 4 px each
    assert not suspicion(birds)
    mask[:] = False
    mask[5:40, 5:50] = mask[50, 60:78:2] = True  # an object with a few
    assert not suspicion(mask)


def test_values_are_listed(tmp_path):
    grey = np.array([[0, 2], [2, 127]], dtype=np.uint8)
    red = Image.fromarray(np.stack([grey // 2, grey * 0, grey * 0], -1))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    red.save(tmp_path / "red.png")
    for form in (grey, torch.from_numpy(grey), Image.fromarray(grey), tmp_path / "grey.png"):
        assert describe_values(form) == "the values 0, 2, 127"
    for form in (red, tmp_path / "red.png"):
        assert describe_values(form) == "the colours (0, 0, 0), (1, 0, 0), (63, 0, 0)"
    assert describe_values(np.arange(9).reshape(3, 3)) == "the values 0, 1, 2, 3, 4, 5, 3 more"
    assert not describe_values("mask.json") and not describe_values([[1, 2]])
