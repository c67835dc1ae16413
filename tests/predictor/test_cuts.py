import numpy as np

from segic_d2.predictor.cuts import GRID, LEVELS, histogram, is_cut
from tests.predictor.clips import frame


def test_a_histogram_counts_every_channel_of_every_part_between_levels():
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[:4, :, 0] = 255
    picture[..., 1] = 127  # 3.49 of 7 levels
    found = histogram(picture)
    assert found.shape == (GRID**2, 3, LEVELS)
    np.testing.assert_allclose(found.sum(2), 1)
    assert (found[:8, 0, -1] == 1).all() and (found[8:, 0, 0] == 1).all()
    share = 127 / 255 * 7 - 3
    np.testing.assert_allclose(found[:, 1, 3:5], [[1 - share, share]] * 16)


def test_motion_and_slow_light_are_no_cut_and_another_scene_is():
    shot = [histogram(frame(n)) for n in range(10)]
    assert not any(is_cut(a, b) for a, b in zip(shot, shot[1:], strict=False))
    light = [histogram(frame(0, ground=100 + 3 * n)) for n in range(10)]
    assert not any(is_cut(a, b) for a, b in zip(light, light[1:], strict=False))
    assert is_cut(histogram(frame(0)), histogram(frame(0, ground=30)))


def test_the_size_does_not_matter():
    small, large = frame(0), frame(0).repeat(4, 0).repeat(4, 1)
    assert np.abs(histogram(small) - histogram(large)).max() < 0.1
    assert not is_cut(histogram(small), histogram(large))
