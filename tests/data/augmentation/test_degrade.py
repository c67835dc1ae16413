"""Worse masks and pictures against slow loops and what they promise."""

import itertools

import numpy as np
import pytest

from segic_d2.data.augmentation.degrade import (
    MASKS,
    PICTURES,
    boxed,
    darkened,
    dilated,
    eroded,
    halved,
)


@pytest.fixture
def mask():
    mask = np.kron(np.random.default_rng(0).random((6, 8)) > 0.5, np.ones((20, 20))) > 0
    assert mask.shape == (120, 160)  # the outline moves by 1 % of 200 px
    return mask


def shifted(mask, outside):
    """Dilation by 2 px, one pixel at a time; beyond the frame is ``outside``."""
    found = mask.copy()
    for y, x in itertools.product(range(mask.shape[0]), range(mask.shape[1])):
        for v, u in itertools.product(range(y - 2, y + 3), range(x - 2, x + 3)):
            inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
            found[y, x] |= mask[v, u] if inside else outside
    return found


def test_outlines_move_by_a_share_of_the_diagonal(mask):
    assert (dilated(mask) == shifted(mask, False)).all()
    assert (eroded(mask) == ~shifted(~mask, False)).all()


def test_a_mask_never_vanishes():
    mask = np.zeros((300, 400), bool)  # 5 px
    mask[100:105, 100:110] = True
    mask[200, 200] = True
    assert (
        eroded(mask).sum() == 6 and (eroded(mask) <= mask).all()
    )  # 2 of 5 px: nothing would be left
    mask[101:105] = False
    assert (eroded(mask) == mask).all()


def test_a_box_is_the_tightest(mask):
    mask[:30] = mask[:, 110:] = False
    rows, columns = np.nonzero(mask)
    expected = np.zeros_like(mask)
    expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert (boxed(mask) == expected).all()


def test_pictures_keep_their_form_and_change():
    picture = np.random.default_rng(0).integers(0, 256, (31, 41, 3), dtype=np.uint8)
    for name, change in PICTURES.items():
        worse = change(picture)
        assert worse.dtype == np.uint8 and (worse == change(picture)).all()
        assert worse.shape == ((15, 20, 3) if name == "target half size" else picture.shape)
    assert abs(darkened(picture).mean() / picture.mean() - 0.35) < 0.01
    assert halved(picture[:1, :1]).shape == (1, 1, 3)
    assert len(MASKS) == 3 and len(PICTURES) == 4
