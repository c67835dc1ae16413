"""Similarity to the references' background (BACKGROUND) and per group of channels (GROUPS)."""

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from segic_d2.modeling.layers.correspondence import (
    deviations,
    pool_mask,
    pool_prototypes,
    propagated_mask,
)
from segic_d2.modeling.segic.instances import find_peaks, prompt_queries
from segic_d2.structures.context import Context
from tests.tiny import tiny_config, tiny_episode

BACKGROUND, GROUPS = "MODEL.SEGIC.BACKGROUND", "MODEL.SEGIC.SIMILARITY.GROUPS"


def build(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).eval()


def parts(model, seed=0, **options):
    episode = tiny_episode(seed, **options)
    return model.encode_images([episode]), model.encode_context(episode["references"])


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


def test_the_background_is_what_the_mask_leaves_of_the_picture():
    model, episode = build(BACKGROUND, True), tiny_episode(0)
    context = model.encode_context(episode["references"])
    features = model.encode_images(episode["references"]).map
    for entity, reference in enumerate(episode["references"]):
        inside = pool_mask(reference["masks"], 112, 8)[0]
        h, w = reference["masks"].shape[1:]
        total, expected = 0.0, torch.zeros(24)
        for y in range(8):
            for x in range(8):
                # the share of the cell that the picture covers, less that of the mask
                content = max(min(h - 14 * y, 14), 0) * max(min(w - 14 * x, 14), 0) / 14**2
                rest = content - inside[y, x]
                total += rest
                expected += rest * F.normalize(features[entity, :, y, x], dim=0)
        torch.testing.assert_close(context.background[entity, 0], expected / total)


def test_maps_are_entity_by_group_then_background_by_group():
    model = build(BACKGROUND, True, GROUPS, 3)
    features, context = parts(model)
    queries = model._queries(features, context)
    maps = model.sem_seg_head.similarities(features.map, queries)
    assert maps.shape == (2, 6, 8, 8)
    index = torch.tensor([0, 0])
    for first, vectors in ((0, context.unit_prototypes), (3, context.background)):
        expected = propagated_mask(features.map, vectors[:, 0], index, groups=3)
        torch.testing.assert_close(maps[:, first : first + 3], expected)
    (mean,) = model.propagated_mask(features, context)
    torch.testing.assert_close(mean, maps[:, :3].mean(1))
    assert model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.shape == (24, 6, 7, 7)


def test_a_mask_that_covers_its_picture_has_no_background():
    model = build(BACKGROUND, True)
    episode = tiny_episode(0, entities=1)
    episode["references"][0]["masks"] = torch.ones(1, 98, 70)
    context = model.encode_context(episode["references"])
    assert not context.background.any()
    (logits,) = model.segment(model.encode_images([episode]), context)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("opts", [(BACKGROUND, True), (GROUPS, 2), (BACKGROUND, True, GROUPS, 3)])
def test_decoding_with_and_without_autograd_is_the_same(opts):
    model = build(*opts)
    features, context = parts(model, shots=2)
    with torch.no_grad():
        (quick,) = model.segment(features, context)
    (plain,) = model.segment(features, context)
    assert plain.requires_grad
    torch.testing.assert_close(quick, plain.detach(), atol=1e-5, rtol=1e-5)


def test_the_decoder_uses_the_background():
    model = build(BACKGROUND, True)
    features, context = parts(model)
    (before,) = model.segment(features, context)
    context.background = -context.background
    (after,) = model.segment(features, context)
    assert (before - after).abs().max() > 1e-4


def test_all_of_it_is_trained_also_reversed():
    opts = (BACKGROUND, True, GROUPS, 3, "MODEL.SEGIC.REVERSION.PROB", 1.0)
    model = build(*opts).train()
    sum(model([tiny_episode(0, shots=2, training=True)]).values()).backward()
    gradient = model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.grad
    assert (gradient.abs().sum((0, 2, 3)) > 0).all()  # every map


def test_contexts_keep_it_through_files_joins_and_shots(tmp_path):
    model = build(BACKGROUND, True)
    episode = tiny_episode(0, shots=3)
    context = model.encode_context(episode["references"])
    context.save(tmp_path / "c.safetensors")
    again = Context.load(tmp_path / "c.safetensors")
    assert torch.equal(again.background, context.background)
    mean = context.background.mean(1)
    torch.testing.assert_close(context.mean_background(), mean)
    first = context.take([1])
    assert torch.equal(Context.joined([first, context]).background[0], context.background[1])
    with pytest.raises(ValueError, match="another model: background: context True, model None"):
        again.check(build().fingerprint)


def test_one_instance_prompt_per_peak_has_its_entitys_background():
    model = build(BACKGROUND, True, GROUPS, 2, "MODEL.SEGIC.INSTANCES.PER_CLASS", 3)
    features, context = parts(model)
    target = {**tiny_episode(0), "height": 84, "width": 112}
    maps = model.propagated_mask(features, context)[0]
    peaks = find_peaks(maps, torch.ones_like(maps) > 0, 112, count=3, min_distance=14)
    assert len(peaks) > 2
    prompts = prompt_queries(model._queries(features, context), peaks, 1)
    assert torch.equal(prompts.background, context.background[peaks.entity, 0])
    (found,) = model.find_instances([target], context)
    assert found["instances"].pred_masks.shape[1:] == (84, 112)


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match="GROUPS is 5; the backbone's 24 channels"):
        build(GROUPS, 5)
    with pytest.raises(ValueError, match="SIMILARITY.GROUPS is 0"):
        build(GROUPS, 0)
    for opts in ((GROUPS, 2), (BACKGROUND, True)):
        with pytest.raises(ValueError, match="INTERPOLATE is 'features'"):
            build("MODEL.SEGIC.SIMILARITY.INTERPOLATE", "features", *opts)


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


def test_the_relative_map_does_not_change_with_the_level_of_similarity():
    model = build("MODEL.SEGIC.SIMILARITY.RELATIVE", True)
    assert model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.shape == (8, 2, 7, 7)
    features, context = parts(model)
    seen = []
    inner = model.sem_seg_head.to_canvas
    model.sem_seg_head.to_canvas = lambda maps: seen.append(maps) or inner(maps)
    model.segment(features, context)
    for vectors in (context.unit_prototypes, 0.5 * context.unit_prototypes):
        context.unit_prototypes = vectors
        model.segment(features, context)
    torch.testing.assert_close(seen[1][:, 0], 2 * seen[2][:, 0])
    torch.testing.assert_close(seen[1][:, 1], seen[2][:, 1], atol=1e-4, rtol=1e-4)


def test_the_propagated_mask_may_be_that_of_the_first_groups():
    key = "MODEL.SEGIC.SIMILARITY.PROPAGATED"
    model = build(GROUPS, 3, key, 2)
    features, context = parts(model)
    maps = model.sem_seg_head.similarities(features.map, model._queries(features, context))
    (mean,) = model.propagated_mask(features, context)
    torch.testing.assert_close(mean, maps[:, :2].mean(1))
    with pytest.raises(ValueError, match="PROPAGATED is 4; it must be 0"):
        build(GROUPS, 3, key, 4)
