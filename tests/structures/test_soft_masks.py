import numpy as np
import torch

from segic_d2.structures.soft_masks import soft_resize, soft_resize_binary


def test_soft_resize_is_the_mean_of_each_cell():
    masks = np.random.default_rng(0).random((2, 12, 20)) < 0.3
    resized = soft_resize(masks, (3, 5))
    slow = masks.reshape(2, 3, 4, 5, 4).mean((2, 4))
    np.testing.assert_allclose(resized, slow, atol=1e-6)
    assert soft_resize(masks[:0], (3, 5)).shape == (0, 3, 5)
    assert soft_resize(torch.ones(1, 7, 9), (3, 20)).eq(1).all()


def test_one_pixel_survives_any_reduction():
    mask = np.zeros((1, 1501, 1999), bool)
    mask[0, 733, 1207] = True
    small = soft_resize(mask, (5, 7))
    assert small.sum() > 0 and small[0, 733 * 5 // 1501, 1207 * 7 // 1999] > 0


def test_a_binary_mask_resizes_as_a_soft_one_to_the_bit():
    """Whole or a window of it; full, sparse, single-object and empty masks of any two sizes."""
    rng = np.random.default_rng(0)
    for trial in range(300):
        (height, width), (h, w) = rng.integers(1, 90, 2), rng.integers(1, 120, 2)
        mask = np.zeros((height, width), bool)
        if trial % 3:
            mask = rng.random((height, width)) < rng.random()
        elif trial % 7:
            y, x = rng.integers(height), rng.integers(width)
            mask[y : y + 9, x : x + 5] = True
        expected = soft_resize(mask[None], (h, w))[0].numpy()
        np.testing.assert_array_equal(soft_resize_binary(mask, (h, w)), expected)
        y, x = rng.integers(h), rng.integers(w)
        window = (y, x, *(rng.integers(1, side + 1) for side in (h - y, w - x)))
        got = soft_resize_binary(mask, (h, w), window)
        np.testing.assert_array_equal(got, expected[y : y + window[2], x : x + window[3]])
