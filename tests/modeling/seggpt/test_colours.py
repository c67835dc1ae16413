"""Masks to colours and back."""

import itertools

import pytest
import torch

from segic_d2.modeling.seggpt import colours as c

RED = torch.tensor([[255.0, 0.0, 0.0]])


def test_white_is_what_is_brighter_than_128():
    grey = torch.tensor([0.0, 128.0, 128.01, 255.0]).view(1, 1, 4).expand(3, 1, 4)
    assert (c.white_logits(grey)[0] > 0).tolist() == [False, False, True, True]
    assert c.white_logits(c.paint(torch.ones(1, 2, 2), RED)).max() < 0  # which red never is


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_colours_of_entities_are_far_apart(count):
    colours = c.entity_colours(count)
    assert colours.shape == (count, 3)
    greys = torch.stack([torch.full((3,), v) for v in (0.0, 128.0)])
    for a, b in itertools.combinations([*colours, greys[0]], 2):
        assert (a - b).norm() > 50
    if count > 1:
        assert (colours.amax(1) - colours.amin(1) == 255).all()  # full hues are far from any grey
    else:
        assert colours.tolist() == [[255, 255, 255]]


def test_painted_colours_are_found_again_and_exclude_each_other():
    masks = torch.zeros(3, 4, 4)
    masks[0, 0], masks[1, 1], masks[2, 3, 1:] = 1, 1, 1
    palette = c.entity_colours(3)
    painted = c.paint(masks, palette)
    assert torch.equal(c.colour_logits(painted, palette) > 0, masks > 0)
    noisy = painted + torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)) * 90
    assert (c.colour_logits(noisy, palette) > 0).sum(0).max() <= 1


def test_a_red_prompt_is_found_where_red_is_painted():
    mask = torch.tensor([[[1.0, 0.0]]])
    assert torch.equal(c.colour_logits(c.paint(mask, RED), RED) > 0, mask > 0)


def test_what_comes_later_lies_on_top():
    both = c.paint(torch.ones(2, 1, 1), torch.stack([RED[0], RED[0].flip(0)]))
    assert both[:, 0, 0].tolist() == [0, 0, 255]


def test_cleanness():
    inside = torch.tensor([[True, True, False]])
    painted = torch.tensor([255.0, 204.0, 0.0]).expand(3, 1, 3)
    assert c.cleanness(painted, torch.full((3,), 255.0), inside).item() == pytest.approx(0.9)
    assert c.cleanness(painted, torch.full((3,), 255.0), inside & False) == 0


@pytest.mark.parametrize("count, levels, steps", [(150, 0, 42), (133, 7, 36), (1000, 0, 25)])
def test_painters_palettes(count, levels, steps):
    palette = c.grid_palette(count, levels)
    assert len({tuple(x) for x in palette.tolist()}) == count
    assert palette[0].tolist() == [255, 255, 255] and palette[1].tolist() == [255, 255, 255 - steps]
    assert palette.min() > 0


def test_a_palette_has_room_for_its_colours():
    with pytest.raises(ValueError, match="2 levels per channel make 8 colours, not 9"):
        c.grid_palette(9, 2)


def test_nearest_colours_are_those_of_a_plain_search():
    g = torch.Generator().manual_seed(0)
    pixels, palette = torch.rand(5, 7, 3, generator=g) * 255, c.grid_palette(40)
    for power in (1, 2):
        far = (pixels[:, :, None] - palette).abs().pow(power).sum(-1)
        assert torch.equal(c.nearest_colour(pixels, palette, power), far.argmin(-1))
    masks, means = c.masks_of_colours(pixels, palette, 30)
    far = (pixels[:, :, None] - palette).abs().mean(-1).permute(2, 0, 1)
    kept = (far < 30).flatten(1).any(1)
    assert torch.equal(masks, (far < 30)[kept]) and 0 < kept.sum() < 40
    expected = torch.stack([f[f < 30].mean() for f in far[kept]])
    torch.testing.assert_close(means, expected)
    assert c.masks_of_colours(pixels, palette, 0)[0].shape == (0, 5, 7)


def test_tiles_lie_in_rows_and_repeat_the_first():
    values = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    for nearest in (True, False):
        found = c.tiled(values, nearest)[0, 0]
        corners = [found[0, 0], found[0, 7], found[7, 0], found[7, 7]]
        torch.testing.assert_close(torch.stack(corners), torch.tensor([10.0, 20, 30, 10]))
    assert torch.equal(c.tiled(values[:1]), values[:1])


def test_a_window_of_the_tiles_is_cut_out_and_has_the_whole_size():
    squares = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for n, place in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(c.tiled(squares, True, (0.5, *place))[0], squares[n])
    middle = c.tiled(squares, True, (0.5, 0.5, 0.5))[0]
    assert torch.equal(middle[:, :3, :3], squares[0, :, 3:, 3:])
    assert torch.equal(middle[:, 3:, 3:], squares[3, :, :3, :3])
