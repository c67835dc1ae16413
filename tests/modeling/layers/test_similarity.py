"""The similarity of targets to what was pooled under the masks of references."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from segic_d2.modeling.layers.similarity import Similarity

SHAPE = ShapeSpec(channels=24, stride=14)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def build(rng, center=False, **options):
    mean = torch.randn(24, generator=rng) if center else None
    return Similarity(112, SHAPE, mean, **options)


def slow_maps(similarity, target, reference, weights):
    """Mean cosine of each position of a target (C, g, g) to all those of a reference, weighed;
    position by position and group by group: (v · groups, g, g) of v weights (v, g, g)."""
    if similarity.feature_mean is not None:
        mean = similarity.feature_mean[:, None, None]
        target, reference = target - mean, reference - mean
    found = []
    for own in weights:
        for part in torch.arange(24).chunk(similarity.groups):
            result = torch.zeros(8, 8)
            for y, x in own.nonzero().tolist():
                vector = reference[part, y, x][:, None, None]
                result += own[y, x] / own.sum() * F.cosine_similarity(vector, target[part], 0)
            found.append(result)
    return torch.stack(found)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("groups, propagated", [(1, 0), (3, 0), (3, 2)])
@pytest.mark.parametrize("background", [False, True])
def test_maps_against_a_loop_over_pairs_of_positions(rng, center, groups, propagated, background):
    """Two targets of two and one entities. Groups of the entity, then those of its background."""
    similarity = build(rng, center, groups=groups, propagated=propagated, background=background)
    targets = torch.randn(2, 24, 8, 8, generator=rng)
    references = torch.randn(3, 24, 8, 8, generator=rng)
    weights = torch.rand(3, 1 + background, 8, 8, generator=rng)
    weights *= torch.rand(3, 1 + background, 8, 8, generator=rng) > 0.5
    pooled = [similarity.pool(x, w) for x, w in zip(references, weights, strict=True)]
    units = torch.stack([unit for _, unit in pooled])  # (3, v, C)
    index = torch.tensor([0, 0, 1])
    maps = similarity.maps(targets, units, index, [2, 1])
    assert maps.shape == (3, groups * (1 + background), 8, 8)
    for m, image in enumerate(index.tolist()):
        expected = slow_maps(similarity, targets[image], references[m], weights[m])
        torch.testing.assert_close(maps[m], expected, atol=1e-5, rtol=0)
        mean = weights[m][:, None] * references[m]
        mean = mean.sum((2, 3)) / weights[m].sum((1, 2))[:, None]
        torch.testing.assert_close(pooled[m][0], mean, atol=1e-5, rtol=0)
    kept = propagated or groups
    torch.testing.assert_close(similarity.mean(maps), maps[:, :kept].mean(1))
    only = similarity.maps(targets, units[:, :1], index, [2, 1])
    torch.testing.assert_close(similarity.mean(only), similarity.mean(maps))


def test_released_maps_are_cosines_with_upsampled_features(rng):
    similarity = build(rng, upsampled=True)
    targets = torch.randn(2, 24, 8, 8, generator=rng)
    vectors = F.normalize(torch.randn(3, 1, 24, generator=rng), dim=-1)
    maps = similarity.maps(targets, vectors, torch.tensor([0, 1, 1]), [1, 2])
    up = F.interpolate(targets, size=(28, 28), mode="bilinear", align_corners=False)
    for m, image in enumerate((0, 1, 1)):
        expected = F.cosine_similarity(up[image], vectors[m, 0][:, None, None], 0)
        torch.testing.assert_close(maps[m, 0], expected, atol=1e-6, rtol=0)
    assert torch.equal(similarity.mean(maps), maps[:, 0])


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("groups, propagated", [(1, 0), (3, 2)])
def test_cells_of_one_target_against_a_loop(rng, center, groups, propagated):
    similarity = build(rng, center, groups=groups, propagated=propagated)
    target = torch.randn(24, 8, 8, generator=rng)
    alike, cells = similarity.within(target, (84, 100))
    assert cells == (8, 6, 8) and alike.shape == (48, 48)  # 100 px are 7.1 cells
    if center:
        target = target - similarity.feature_mean[:, None, None]
    parts = torch.arange(24).chunk(groups)[: propagated or groups]
    for y, x, v, u in ((0, 0, 5, 7), (2, 3, 4, 1), (5, 0, 5, 0)):
        pairs = [(target[part, y, x], target[part, v, u]) for part in parts]
        expected = sum(F.cosine_similarity(*pair, dim=0) for pair in pairs) / len(parts)
        torch.testing.assert_close(alike[8 * y + x, 8 * v + u], expected)


def test_nothing_and_no_entity_are_no_errors(rng):
    similarity = build(rng, background=True)
    prototypes, units = similarity.pool(torch.randn(24, 8, 8, generator=rng), torch.zeros(2, 8, 8))
    assert not prototypes.any() and not units.any()
    none = torch.zeros(0, dtype=torch.long)
    maps = similarity.maps(torch.randn(1, 24, 8, 8), torch.zeros(0, 2, 24), none, [0])
    assert maps.shape == (0, 2, 8, 8) and similarity.mean(maps).shape == (0, 8, 8)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"canvas": 100}, "INPUT.CANVAS 100 is no multiple of the backbone's stride 14"),
        ({"groups": 5}, "SIMILARITY.GROUPS is 5; the backbone's 24 channels"),
        ({"groups": 3, "propagated": 4}, "SIMILARITY.PROPAGATED is 4; it must be 0"),
        ({"groups": 3, "propagated": -1}, "SIMILARITY.PROPAGATED is -1; it must be 0"),
        ({"groups": 2, "upsampled": True}, "MODEL.SEGIC.RELEASED is True, .*GROUPS above 1"),
        ({"background": True, "upsampled": True}, "MODEL.SEGIC.RELEASED is True, .*BACKGROUND"),
    ],
)
def test_options_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Similarity(**{"canvas": 112, "shape": SHAPE, **options})
