"""Outlines are rasterised to the masks that they are of."""

import numpy as np
import pytest

from segic_d2.io.annotations.outline import joined, joined_rings, rings_of
from segic_d2.io.rle import decode
from tests.io.annotations.parts import box, noise, ring_with_a_hole


def test_rings_of_a_frame():
    outer, holes = rings_of(box(2, 1, 5, 4, (6, 8)) & ~box(3, 2, 4, 3, (6, 8)))
    assert sorted(map(tuple, outer[0])) == [(2, 1), (2, 4), (5, 1), (5, 4)]
    assert sorted(map(tuple, holes[0])) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert len(outer) == len(holes) == 1


@pytest.mark.parametrize("seed", range(20))
def test_joined_rings_give_the_mask_again(seed):
    mask = noise(seed) if seed % 2 else ring_with_a_hole() ^ (noise(seed) & box(0, 0, 60, 12))
    for rings in (joined_rings(mask), [joined(mask)]):
        flat = [ring.reshape(-1) for ring in rings]
        np.testing.assert_array_equal(decode(flat, *mask.shape), mask)


def test_there_is_a_ring_for_each_part():
    assert len(joined_rings(ring_with_a_hole())) == 3
    assert rings_of(np.zeros((4, 4), bool)) == ([], [])


def test_very_many_parts():
    """They are joined without a search for the nearest corners."""
    mask = np.random.default_rng(0).random((150, 150)) < 0.5
    assert len(rings_of(mask)[0]) > 1000
    for rings in (joined_rings(mask), [joined(mask)]):
        flat = [ring.reshape(-1) for ring in rings]
        np.testing.assert_array_equal(decode(flat, *mask.shape), mask)
