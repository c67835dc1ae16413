import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.layers.correspondence import (
    best_points,
    deviations,
    pool_mask,
    pool_prototypes,
    propagated_mask,
)
from segic_d2.structures.frame import valid_cells


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_mean_unit_prototype_equals_the_all_pairs_average(rng):
    """Eq. 1-2 literally: all cosines between target and reference positions, averaged over the
    mask. Only this test builds the (g·g)×(g·g) matrix."""
    target, reference = torch.randn(2, 32, 12, 12, generator=rng)
    masks = (torch.rand(3, 12, 12, generator=rng) > 0.7).float()
    all_pairs = F.normalize(target.flatten(1), dim=0).T @ F.normalize(reference.flatten(1), dim=0)
    expected = torch.stack([all_pairs[:, m.flatten() > 0].mean(1).reshape(12, 12) for m in masks])
    _, unit = pool_prototypes(reference, masks)
    got = propagated_mask(target[None], unit, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_soft_weights_average_by_coverage(rng):
    features = torch.randn(8, 4, 4, generator=rng)
    weights = torch.rand(2, 4, 4, generator=rng)
    prototypes, units = pool_prototypes(features, weights)
    for n in range(2):
        total, mean, unit = 0.0, torch.zeros(8), torch.zeros(8)
        for y in range(4):
            for x in range(4):
                f = features[:, y, x]
                total += weights[n, y, x]
                mean += weights[n, y, x] * f
                unit += weights[n, y, x] * f / f.norm()
        torch.testing.assert_close(prototypes[n], mean / total)
        torch.testing.assert_close(units[n], unit / total)


def test_targets_with_different_numbers_of_entities(rng):
    features = torch.randn(3, 8, 5, 5, generator=rng)
    vectors = torch.randn(4, 8, generator=rng)
    index = torch.tensor([0, 2, 2, 2])
    got = propagated_mask(features, vectors, index, tau=0.5)
    unit = F.normalize(features, dim=1)
    for m, b in enumerate(index.tolist()):
        torch.testing.assert_close(got[m], torch.einsum("c,chw->hw", vectors[m], unit[b]) / 0.5)


def test_released_similarity_on_upsampled_features(rng):
    """The cheap form (numerator interpolates, norm once per image) equals upsampling first."""
    features = torch.randn(2, 70, 6, 6, generator=rng)
    vector = F.normalize(torch.randn(2, 70, generator=rng), dim=1)
    up = F.interpolate(features, size=(21, 21), mode="bilinear", align_corners=False)
    expected = torch.stack(
        [F.cosine_similarity(up[b], vector[b][:, None, None], 0) for b in (0, 1)]
    )
    got = propagated_mask(features, vector, torch.tensor([0, 1]), upsample_to=21)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_each_group_has_its_own_cosine():
    """Against every pair of positions, group by group."""
    rng = torch.Generator().manual_seed(0)
    target, reference = torch.randn(2, 24, 6, 6, generator=rng)
    center = torch.randn(24, generator=rng)
    weights = torch.rand(1, 6, 6, generator=rng)
    _, unit = pool_prototypes(reference, weights, center=center, groups=3)
    index = torch.tensor([0])
    got = propagated_mask((target - center[:, None, None])[None], unit, index, groups=3)
    assert got.shape == (1, 3, 6, 6)
    for group in range(3):
        own = slice(8 * group, 8 * group + 8)
        a = F.normalize((target - center[:, None, None])[own].flatten(1), dim=0)
        b = F.normalize((reference - center[:, None, None])[own].flatten(1), dim=0)
        expected = (a.T @ b) @ weights.flatten() / weights.sum()
        torch.testing.assert_close(got[0, group].flatten(), expected, atol=1e-5, rtol=0)


def test_area_pooling_keeps_what_center_pixels_lose():
    """A 10-px square at S = 896: every position keeps weight; the released rule loses most."""
    kept = {False: 0, True: 0}  # by the centre alone
    for offset in range(14):
        mask = torch.zeros(1, 56, 56)
        mask[:, 14 + offset : 24 + offset, 14 + offset : 24 + offset] = 1
        for center in kept:
            weights = pool_mask(mask, 56, 4, center)
            kept[center] += bool(weights.sum() > 0)
            if not center:
                assert weights.sum() * 14**2 == pytest.approx(100)
    assert kept == {False: 14, True: 9}


def test_center_pooling_needs_three_of_four_centre_pixels(rng):
    mask = (torch.rand(1, 56, 56, generator=rng) > 0.4).float()
    got = pool_mask(mask, 56, 4, center=True)
    for y in range(4):
        for x in range(4):
            centre = mask[0, 14 * y + 6 : 14 * y + 8, 14 * x + 6 : 14 * x + 8]
            assert got[0, y, x] == float(centre.sum() >= 3)


def test_masks_are_padded_right_and_bottom():
    weights = pool_mask(torch.ones(1, 20, 28), 56, 4)
    assert weights[0, 0].tolist() == [1, 1, 0, 0]
    assert weights[0, 1].tolist() == pytest.approx([6 / 14, 6 / 14, 0, 0])
    assert weights[0, 2:].sum() == 0


def test_a_mask_larger_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match="70x20 px does not fit the canvas of 56 px"):
        pool_mask(torch.ones(1, 70, 20), 56, 4)


def test_deviations_are_those_of_the_content():
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 5, 6, generator=rng)
    inside = torch.rand(3, 5, 6, generator=rng) > 0.4
    got = deviations(maps, inside)
    for m in range(3):
        values = maps[m][inside[m]]
        expected = (values - values.mean()) / values.std(correction=0)
        torch.testing.assert_close(got[m][inside[m]], expected)
        assert not got[m][~inside[m]].any()
    flat = deviations(torch.ones(1, 5, 6), inside[:1])
    assert torch.isfinite(flat).all()


@pytest.mark.parametrize("count", [1, 4, 16])
@pytest.mark.parametrize("cells", [1.0, 2.0])
def test_points_are_the_best_and_keep_their_distance(rng, count, cells):
    canvas, side = 168, 12
    maps = torch.rand(3, side, side, generator=rng)
    valid = valid_cells([(168, 100), (90, 168), (168, 168)], side, canvas)
    xy, found = best_points(maps, valid, count, cells * 14, canvas)
    assert found.all() and xy.shape == (3, count, 2)
    cell = ((xy + 0.5) / 14 - 0.5).round().long()
    for m in range(3):
        free = {(x, y) for y in range(side) for x in range(side) if valid[m, y, x]}
        for x, y in cell[m].tolist():  # greedy, one by one
            best = max(free, key=lambda p, m=m: maps[m, p[1], p[0]])
            assert best == (x, y)
            free = {p for p in free if (p[0] - x) ** 2 + (p[1] - y) ** 2 >= cells**2 and p != best}
        distances = torch.pdist(cell[m].float())
        assert len(distances) == 0 or distances.min() >= cells


@pytest.mark.parametrize("distance", [0.0, 1.0])
def test_points_of_a_finer_map_lie_in_distinct_cells(rng, distance):
    """Two pixels of one 14-px cell can be more than 14 px apart, along its diagonal."""
    maps = torch.rand(4, 56, 56, generator=rng)
    maps[:, 14, 14], maps[:, 27, 27] = 3, 2  # opposite corners of one cell
    valid = torch.ones(4, 56, 56, dtype=torch.bool)
    xy, found = best_points(maps, valid, 16, distance * 14, 56, 14)
    for points, there in zip(xy, found, strict=True):
        cells = ((points[there] + 0.5) / 14).floor()
        assert len(cells.unique(dim=0)) == len(cells) == (16 if distance == 0 else there.sum())
        assert there.sum() > 4 and points[0].tolist() == [14, 14]
        if distance:
            assert torch.pdist(points[there]).min() >= distance * 14 - 1e-3


def test_no_point_lies_in_the_padding_even_where_it_scores_best():
    maps = torch.zeros(1, 8, 8)
    maps[0, 6:, :] = 1
    xy, found = best_points(maps, valid_cells([(80, 112)], 8, 112), 4, 14, 112)
    assert found.all() and (xy[..., 1] < 80).all()


def test_points_beyond_the_free_cells_are_marked():
    _, found = best_points(torch.rand(1, 4, 4), valid_cells([(1, 1)], 4, 56), 3, 14, 56)
    assert found.tolist() == [[True, False, False]]
