"""Features and queries in, one mask per entity out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec

from segic_d2.modeling.layers.correspondence import propagated_mask
from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic import mask_head
from segic_d2.modeling.segic.mask_head import InContextMaskHead, mask_strides
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.released import RELEASED
from tests.modeling.segic.parts import build, encoded, features, head, random_contexts
from tests.tiny import prototype_context

SHARED = Path(__file__).resolve().parents[4] / "shared"
BACKGROUND, GROUPS = "MODEL.SEGIC.BACKGROUND", "MODEL.SEGIC.SIMILARITY.GROUPS"


def paper_head(channels):
    """The head of the paper's size without memory."""
    with torch.device("meta"):
        similarity = Similarity(896, ShapeSpec(channels=channels, stride=14))
        return InContextMaskHead(similarity=similarity, channels=channels)


def decode(model, features, contexts, crossing=True, **options):
    sizes = options.pop("sizes", [(112, 112)] * len(features))
    flags = torch.full((len(features),), crossing)
    q = Queries.from_contexts(contexts)
    with torch.no_grad():
        return model(features, sizes, q, crossing=flags, **options)


@pytest.mark.parametrize(
    "channels, total", [(768, 5_246_436), (1024, 5_377_508), (1536, 5_639_652)]
)
def test_trainable_parameters_of_the_released_configuration(channels, total):
    model = paper_head(channels)

    def count(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    assert count(model) == total
    assert count(model.mask_decoder) == 4_058_340
    assert count(model.mask_decoder.transformer) == 3_291_264
    assert count(model.prompt_encoder) == 6_400


@pytest.mark.skipif(not SHARED.exists(), reason="the reference files are not here")
def test_names_and_shapes_are_those_of_the_released_checkpoint():
    state = paper_head(1024).state_dict()
    lines = (SHARED / "golden/official_keys.txt").read_text().splitlines()
    official = {x.split("\t")[0]: json.loads(x.split("\t")[1]) for x in lines if x[0] != "#"}
    assert {k: list(v.shape) for k, v in state.items()} == official


def test_shapes_at_the_papers_size():
    model = head(channels=8, canvas=896, width=16)
    g = torch.Generator().manual_seed(0)
    vectors, maps = torch.randn(2, 2, 1, 8, generator=g), torch.randn(1, 8, 64, 64, generator=g)
    meta = torch.randn(2, 16, generator=g)
    shots = torch.ones(2, 1).bool()
    context = prototype_context(*vectors, shots, meta, [0, 1], [None, None])
    out = decode(model, maps, [context], sizes=[(896, 640)])
    assert out.logits.shape == (2, 256, 256) and out.quality.shape == (2,)
    q = Queries.from_contexts([context])
    assert model.propagate(maps, q).shape == (2, 64, 64)
    # one-shot inference: 5 learned + point, padding point, text, visual (and the other entity's)
    rows, projected = torch.arange(2), model.project(q)
    tokens, exists = model.context_tokens(q, torch.tensor([False]), rows, projected)
    points, _ = model.point_tokens(maps[:, :2, :, :][0], torch.ones(2, 64, 64).bool(), None)
    assert 5 + points.shape[1] + tokens.shape[1] == 9 and exists.all()
    assert model.context_tokens(q, torch.tensor([True]), rows, projected)[0].shape[1] == 3


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_do_not_change_the_result(chunk):
    model, maps, contexts = head(num_points=4), features(3), random_contexts(3, 1, 2, shots=2)
    whole = decode(model, maps, contexts)
    part = decode(model, maps, contexts, chunk=chunk)
    torch.testing.assert_close(part.logits, whole.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(part.quality, whole.quality, atol=1e-4, rtol=0)


def test_crossed_tokens_of_many_classes_are_never_there_at_once(monkeypatch):
    """They are (N, N·K, W) of the N classes of an image."""
    counts, crossed = [], mask_head.crossed_tokens

    def counted(*args):
        found = crossed(*args)
        counts.append(len(found[0]))
        return found

    monkeypatch.setattr(mask_head, "crossed_tokens", counted)
    decode(head(), features(1), random_contexts(9), chunk=4)
    assert counts == [4, 4, 1]


@pytest.mark.parametrize("crossing", [True, False])
def test_a_batch_equals_its_targets_one_by_one(crossing):
    model, maps = head(num_points=3), features(4)
    contexts = random_contexts(1, 3, 2, 3, shots=3)
    sizes = [(112, 112), (84, 112), (112, 50), (20, 112)]
    whole = decode(model, maps, contexts, crossing, sizes=sizes).logits.split([1, 3, 2, 3])
    for i in range(4):
        alone = decode(
            model, maps[i : i + 1], contexts[i : i + 1], crossing, sizes=sizes[i : i + 1]
        )
        torch.testing.assert_close(alone.logits, whole[i], atol=1e-4, rtol=0)


def test_entities_see_each_other_only_when_crossing():
    model, maps, (context,) = head(), features(1), random_contexts(3)
    moved = context.tensors["prototypes"].clone()
    moved[2] += 1
    other = replace(context, tensors={**context.tensors, "prototypes": moved})
    for crossing in (True, False):
        a, b = (decode(model, maps, [c], crossing).logits[0] for c in (context, other))
        assert torch.equal(a, b) != crossing


@pytest.mark.parametrize("points", [1, 4, 16])
def test_gradients_reach_embeddings_and_projections(points):
    model, q = head(num_points=points), Queries.from_contexts(random_contexts(2, 1))
    out = model(features(2), [(112, 112)] * 2, q, crossing=torch.tensor([True, True]))
    out.logits.square().mean().backward()
    for tensor in (
        model.prompt_encoder.point_embeddings[1].weight,
        model.prompt_encoder.not_a_point_embed.weight,
        model.prompt_encoder.mask_downscaling[0].weight,
        model.inst_proj.weight,
        model.prompt_proj.weight,
        model.neck[0].weight,
        model.mask_decoder.mask_tokens.weight,
    ):
        assert tensor.grad.abs().sum() > 0
    assert model.inst_type_embed.weight.grad.abs().sum(1).min() > 0
    unused = [model.prompt_encoder.point_embeddings[i].weight for i in (0, 2, 3)]
    assert all(t.grad is None or not t.grad.any() for t in unused)


@pytest.mark.parametrize("name", ["dense", "point", "visual", "meta"])
def test_every_instruction_can_be_switched_off_and_matters(name):
    maps, contexts = features(1), random_contexts(2)
    full, without = head(), head(without=[name])
    without.load_state_dict(full.state_dict(), strict=False)
    a, b = decode(full, maps, contexts).logits, decode(without, maps, contexts).logits
    assert not torch.allclose(a, b, atol=1e-4)


def test_no_instruction_at_all_still_decodes():
    model = head(without=["dense", "point", "visual", "meta"])
    logits = decode(model, features(2), random_contexts(1, 2)).logits
    assert logits.shape == (3, 32, 32)
    torch.testing.assert_close(logits[1], logits[2])  # nothing tells the entities apart


def test_box_prompts_replace_the_padding_point():
    model, maps, contexts = head(), features(2), random_contexts(1, 1)
    boxes = torch.tensor([[10.0, 10, 50, 60], [torch.nan] * 4])
    mixed = decode(model, maps, contexts, boxes=boxes).logits
    plain = decode(model, maps, contexts).logits
    assert not torch.allclose(mixed[0], plain[0], atol=1e-4)
    torch.testing.assert_close(mixed[1], plain[1], atol=1e-5, rtol=0)


def test_missing_text_vectors_are_an_error():
    (context,) = random_contexts(1)
    context.meta = None
    with pytest.raises(ValueError, match="META is on but the context has no text"):
        decode(head(), features(1), [context])


def test_options_that_exclude_each_other_are_named():
    with pytest.raises(ValueError, match="no mask encoder for a backbone of the odd stride 7"):
        head(stride=7)
    with pytest.raises(ValueError, match="RELEASED is True, which knows no SIMILARITY.RELATIVE"):
        head(rules=RELEASED, relative=True)
    released = "MODEL.SEGIC.RELEASED", True
    for key, value in ((GROUPS, 2), (BACKGROUND, True), ("MODEL.SEGIC.SIMILARITY.RELATIVE", True)):
        with pytest.raises(ValueError, match="MODEL.SEGIC.RELEASED is True, which knows n"):
            build(*released, key, value)
    with pytest.raises(ValueError, match="IN_FEATURE is 'res9'"):
        build("MODEL.SEGIC.IN_FEATURE", "res9")


def test_mask_strides_by_backbone_stride():
    assert [mask_strides(s) for s in (14, 16, 32, 8)] == [(7, 2), (8, 2), (8, 4), (4, 2)]


def test_pinned_output():
    logits = decode(head(), features(1), random_contexts(2)).logits
    assert logits.mean().item() == pytest.approx(0.026559, abs=1e-5)
    assert logits.std().item() == pytest.approx(0.027010, abs=1e-5)


def gradients(model, count):
    q = Queries.from_contexts(random_contexts(count))
    out = model.train()(features(1), [(112, 112)], q, crossing=torch.tensor([True]))
    (out.logits.square().mean() + out.quality.sum()).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out.logits.detach(), found


@pytest.mark.parametrize("count", [3, 19])
def test_checkpointed_decoding_has_the_same_gradients(count):
    logits, plain = gradients(head(), count)
    decoded, model = [], head(checkpoint=True)
    forward = model.mask_decoder.forward
    model.mask_decoder.forward = lambda *a: decoded.append(len(a[0])) or forward(*a)
    same_logits, again = gradients(model, count)
    parts = [3] if count == 3 else [8, 8, 3]
    assert decoded == parts + parts[::-1]  # once more, last first
    assert plain.keys() == again.keys() and len(plain) > 50
    if count == 3:  # in one part, to the bit
        assert torch.equal(logits, same_logits)
        assert all(torch.equal(plain[k], again[k]) for k in plain)
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)


# ---- similarity maps ---------------------------------------------------------------------------


def canvas_maps(model):
    """A list that every set of similarity maps of the head is appended to, (M, n, r, r)."""
    seen, inner = [], model.sem_seg_head.to_canvas
    model.sem_seg_head.to_canvas = lambda maps: seen.append(maps) or inner(maps)
    return seen


def test_maps_are_entity_by_group_then_background_by_group():
    model = build(BACKGROUND, True, GROUPS, 3)
    found, context = encoded(model)
    seen = canvas_maps(model)
    model.segment(found, context)
    maps = torch.cat(seen)
    assert maps.shape == (2, 6, 8, 8)
    for first, name in ((0, "unit_prototypes"), (3, "background")):
        vectors = context.tensors[name][:, 0]
        expected = propagated_mask(found.map, vectors, torch.tensor([0, 0]), groups=3)
        torch.testing.assert_close(maps[:, first : first + 3], expected)
    (mean,) = model.propagated_mask(found, context)
    torch.testing.assert_close(mean, maps[:, :3].mean(1))
    assert model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.shape == (24, 6, 7, 7)


@pytest.mark.parametrize(
    "opts", [(), (BACKGROUND, True), (GROUPS, 2), (BACKGROUND, True, GROUPS, 3)]
)
def test_the_output_has_the_propagated_masks_and_their_highest_value_in_the_picture(opts):
    model = build(*opts)
    found, context = encoded(model)
    queries, sizes = Queries.from_contexts([context]), [(56, 112)]
    with torch.no_grad():
        out = model.sem_seg_head(found.map, sizes, queries, crossing=True)
        expected = model.sem_seg_head.propagate(found.map, queries)
    torch.testing.assert_close(out.maps, expected)
    assert torch.equal(out.similarity, out.maps[:, :4].amax((1, 2)))


@pytest.mark.parametrize("opts", [(BACKGROUND, True), (GROUPS, 2), (BACKGROUND, True, GROUPS, 3)])
def test_decoding_with_and_without_autograd_is_the_same(opts):
    model = build(*opts)
    found, context = encoded(model, shots=2)
    with torch.no_grad():
        (quick,) = model.segment(found, context)
    (plain,) = model.segment(found, context)
    assert plain.logits.requires_grad
    torch.testing.assert_close(quick.logits, plain.logits.detach(), atol=1e-5, rtol=1e-5)


def test_the_decoder_uses_the_background():
    model = build(BACKGROUND, True)
    found, context = encoded(model)
    (before,) = model.segment(found, context)
    context.tensors["background"] = -context.tensors["background"]
    (after,) = model.segment(found, context)
    assert (before.logits - after.logits).abs().max() > 1e-4


def test_the_relative_map_does_not_change_with_the_level_of_similarity():
    model = build("MODEL.SEGIC.SIMILARITY.RELATIVE", True)
    assert model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.shape == (8, 2, 7, 7)
    found, context = encoded(model)
    seen, units = canvas_maps(model), context.tensors["unit_prototypes"]
    for vectors in (units, 0.5 * units):
        context.tensors["unit_prototypes"] = vectors
        model.segment(found, context)
    torch.testing.assert_close(seen[0][:, 0], 2 * seen[1][:, 0])
    torch.testing.assert_close(seen[0][:, 1], seen[1][:, 1], atol=1e-4, rtol=1e-4)


def test_the_propagated_mask_may_be_that_of_the_first_groups():
    model = build(GROUPS, 3, "MODEL.SEGIC.SIMILARITY.PROPAGATED", 2)
    found, context = encoded(model)
    seen = canvas_maps(model)
    model.segment(found, context)
    (mean,) = model.propagated_mask(found, context)
    torch.testing.assert_close(mean, seen[0][:, :2].mean(1))


# ---- names of the mean feature -----------------------------------------------------------------


def test_the_mean_feature_keeps_the_name_that_checkpoints_know():
    """It is the similarity's; saved weights call it the head's own."""
    center = "MODEL.SEGIC.SIMILARITY.CENTER", "fixed"
    model, again = build(*center), build(*center, seed=1)
    model.sem_seg_head.similarity.feature_mean += torch.linspace(-1, 1, 24)
    for module, prefix in ((model, "sem_seg_head."), (model.sem_seg_head, "")):
        state = module.state_dict()
        named = [name for name in state if "feature_mean" in name]
        assert named == [f"{prefix}feature_mean"]
        assert torch.equal(state[named[0]], torch.linspace(-1, 1, 24))
    state, names = model.state_dict(), set(model.state_dict())
    assert again.load_state_dict(state, strict=True) and set(state) == names  # left as it was
    assert torch.equal(again.sem_seg_head.similarity.feature_mean, torch.linspace(-1, 1, 24))
    head_alone = build(*center).sem_seg_head
    head_alone.load_state_dict(model.sem_seg_head.state_dict(), strict=True)
    assert torch.equal(head_alone.similarity.feature_mean, torch.linspace(-1, 1, 24))
    with pytest.raises(RuntimeError, match="feature_mean"):  # one that has none
        build().load_state_dict(state, strict=True)
    del state["sem_seg_head.feature_mean"]
    with pytest.raises(RuntimeError, match="feature_mean"):
        again.load_state_dict(state, strict=True)
