import json
from pathlib import Path

import pytest
import torch

from segic_d2.modeling.segic.mask_head import InContextMaskHead, default_mask_strides
from segic_d2.modeling.segic.queries import Queries
from segic_d2.structures.context import Context

SHARED = Path(__file__).resolve().parents[4] / "shared"


def head(seed=0, **options):
    torch.manual_seed(seed)
    options = {"channels": 24, "stride": 14, "canvas": 112, "width": 32, "mlp": 64, **options}
    return InContextMaskHead(heads=4, text_dim=16, **options).eval()


def queries(*counts, shots=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    contexts = []
    for n in counts:
        exists = torch.arange(shots) < torch.randint(1, shots + 1, (n, 1), generator=g)
        vectors = torch.randn(2, n, shots, 24, generator=g) * exists[..., None]
        meta = torch.randn(n, 16, generator=g)
        contexts.append(Context(*vectors, exists, meta, list(range(n)), [None] * n))
    return contexts


def decode(model, features, contexts, crossing=True, **options):
    sizes = options.pop("sizes", [(112, 112)] * len(features))
    flags = torch.full((len(features),), crossing)
    q = Queries.from_contexts(contexts)
    with torch.no_grad():
        return model(features, sizes, q, crossing=flags, **options)


def features(count, seed=5):
    return torch.randn(count, 24, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "channels, total", [(768, 5_246_436), (1024, 5_377_508), (1536, 5_639_652)]
)
def test_trainable_parameters_of_the_released_configuration(channels, total):
    with torch.device("meta"):
        model = InContextMaskHead(channels=channels, stride=14, canvas=896)

    def count(module):
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    assert count(model) == total
    assert count(model.mask_decoder) == 4_058_340
    assert count(model.mask_decoder.transformer) == 3_291_264
    assert count(model.prompt_encoder) == 6_400


@pytest.mark.skipif(not SHARED.exists(), reason="the reference files are not here")
def test_names_and_shapes_are_those_of_the_released_checkpoint():
    with torch.device("meta"):
        state = InContextMaskHead(channels=1024, stride=14, canvas=896).state_dict()
    lines = (SHARED / "golden/official_keys.txt").read_text().splitlines()
    official = {x.split("\t")[0]: json.loads(x.split("\t")[1]) for x in lines if x[0] != "#"}
    assert {k: list(v.shape) for k, v in state.items()} == official


def test_shapes_at_the_papers_size():
    model = head(channels=8, canvas=896, width=16)
    g = torch.Generator().manual_seed(0)
    vectors, maps = torch.randn(2, 2, 1, 8, generator=g), torch.randn(1, 8, 64, 64, generator=g)
    meta = torch.randn(2, 16, generator=g)
    context = Context(*vectors, torch.ones(2, 1).bool(), meta, [0, 1], [None, None])
    out = decode(model, maps, [context], sizes=[(896, 640)])
    assert out.logits.shape == (2, 256, 256) and out.quality.shape == (2,)
    q = Queries.from_contexts([context])
    assert model.propagate(maps, q).shape == (2, 64, 64)
    # one-shot inference: 5 learned + point, padding point, text, visual (and the other entity's)
    tokens, exists = model.context_tokens(q, torch.tensor([False]))
    points, _ = model.point_tokens(maps[:, :2, :, :][0], torch.ones(2, 64, 64).bool(), None)
    assert 5 + points.shape[1] + tokens.shape[1] == 9 and exists.all()
    assert model.context_tokens(q, torch.tensor([True]))[0].shape[1] == 3


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_do_not_change_the_result(chunk):
    model, maps, contexts = head(num_points=4), features(3), queries(3, 1, 2, shots=2)
    whole = decode(model, maps, contexts)
    part = decode(model, maps, contexts, chunk=chunk)
    torch.testing.assert_close(part.logits, whole.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(part.quality, whole.quality, atol=1e-4, rtol=0)


@pytest.mark.parametrize("crossing", [[True] * 3, [False] * 3, [True, False, True]])
def test_tokens_of_some_entities_are_theirs_among_all(crossing):
    model, crossing = head(), torch.tensor(crossing)
    q = Queries.from_contexts(queries(3, 1, 2, shots=2))
    tokens, exists = model.context_tokens(q, crossing)
    for rows in torch.arange(6).split(4):
        part = model.context_tokens(q, crossing, rows)
        assert torch.equal(part[0], tokens[rows]) and torch.equal(part[1], exists[rows])


def test_crossed_tokens_of_many_classes_are_never_there_at_once():
    """They are (N, N·K, W) of the N classes of an image."""
    model, counts = head(), []
    crossed = model._crossed_tokens

    def counted(*args):
        found = crossed(*args)
        counts.append(len(found[0]))
        return found

    model._crossed_tokens = counted
    decode(model, features(1), queries(9), chunk=4)
    assert counts == [4, 4, 1]


@pytest.mark.parametrize("crossing", [True, False])
def test_a_batch_equals_its_targets_one_by_one(crossing):
    model, maps = head(num_points=3), features(4)
    contexts = queries(1, 3, 2, 3, shots=3)
    sizes = [(112, 112), (84, 112), (112, 50), (20, 112)]
    whole = decode(model, maps, contexts, crossing, sizes=sizes).logits.split([1, 3, 2, 3])
    for i in range(4):
        alone = decode(
            model, maps[i : i + 1], contexts[i : i + 1], crossing, sizes=sizes[i : i + 1]
        )
        torch.testing.assert_close(alone.logits, whole[i], atol=1e-4, rtol=0)


def test_entities_see_each_other_only_when_crossing():
    model, maps, (context,) = head(), features(1), queries(3)
    other = Context(**{**vars(context), "prototypes": context.prototypes.clone()})
    other.prototypes[2] += 1
    for crossing in (True, False):
        a, b = (decode(model, maps, [c], crossing).logits[0] for c in (context, other))
        assert torch.equal(a, b) != crossing


def test_a_visual_token_carries_its_type():
    model, (context,) = head(), queries(3)
    q = Queries.from_contexts([context])
    crossed, exists = model.context_tokens(q, torch.tensor([True]))
    own = model.inst_proj(q.prototypes[:, 0])
    for m in range(3):
        for other in range(3):
            kind = model.inst_type_embed.weight[int(m == other)]
            torch.testing.assert_close(crossed[m, 1 + other], own[other] + kind)
    assert exists.all()
    alone, _ = model.context_tokens(q, torch.tensor([False]))
    torch.testing.assert_close(alone[:, 1], own + model.inst_type_embed.weight[1])
    model.type_always = False  # released
    alone, _ = model.context_tokens(q, torch.tensor([False]))
    torch.testing.assert_close(alone[:, 1], own)


def test_released_type_rule_holds_in_a_batch_where_only_one_image_crosses():
    model, contexts = head(type_always=False), queries(2, 2)
    q = Queries.from_contexts(contexts)
    tokens, exists = model.context_tokens(q, torch.tensor([True, False]))
    own = model.inst_proj(q.prototypes[:, 0])
    torch.testing.assert_close(tokens[2, 1], own[2])
    torch.testing.assert_close(tokens[0, 1], own[0] + model.inst_type_embed.weight[1])
    assert exists[:, 1:].tolist() == [[True, True], [True, True], [True, False], [False, True]]


@pytest.mark.parametrize("points", [1, 4, 16])
def test_gradients_reach_embeddings_and_projections(points):
    model, q = head(num_points=points), Queries.from_contexts(queries(2, 1))
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
    maps, contexts = features(1), queries(2)
    full, without = head(), head(**{name: False})
    without.load_state_dict(full.state_dict(), strict=False)
    a, b = decode(full, maps, contexts).logits, decode(without, maps, contexts).logits
    assert not torch.allclose(a, b, atol=1e-4)


def test_no_instruction_at_all_still_decodes():
    model = head(dense=False, point=False, visual=False, meta=False)
    logits = decode(model, features(2), queries(1, 2)).logits
    assert logits.shape == (3, 32, 32)
    torch.testing.assert_close(logits[1], logits[2])  # nothing tells the entities apart


def test_box_prompts_replace_the_padding_point():
    model, maps, contexts = head(), features(2), queries(1, 1)
    boxes = torch.tensor([[10.0, 10, 50, 60], [torch.nan] * 4])
    mixed = decode(model, maps, contexts, boxes=boxes).logits
    plain = decode(model, maps, contexts).logits
    assert not torch.allclose(mixed[0], plain[0], atol=1e-4)
    torch.testing.assert_close(mixed[1], plain[1], atol=1e-5, rtol=0)


def test_missing_text_vectors_are_an_error():
    (context,) = queries(1)
    context.meta = None
    with pytest.raises(ValueError, match="META is on but the context has no text"):
        decode(head(), features(1), [context])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"canvas": 100}, "INPUT.CANVAS 100 is no multiple of the backbone's stride 14"),
        ({"mask_strides": (7, 3)}, r"MASK_STRIDES \(7, 3\) .* stride 14"),
        ({"stride": 7}, "stride 7"),
        ({"num_points": 0}, "POINTS.NUM is 0"),
        ({"tau": 0.0}, "TAU is 0.0"),
        ({"points_on": "image"}, "POINTS.ARGMAX is 'image'"),
        ({"interpolate": "both"}, "INTERPOLATE is 'both'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        head(**options)


def test_mask_strides_by_backbone_stride():
    assert [default_mask_strides(s) for s in (14, 16, 32, 8)] == [(7, 2), (8, 2), (8, 4), (4, 2)]


def test_pinned_output():
    logits = decode(head(), features(1), queries(2)).logits
    assert logits.mean().item() == pytest.approx(0.026559, abs=1e-5)
    assert logits.std().item() == pytest.approx(0.027010, abs=1e-5)


def gradients(model, count):
    q = Queries.from_contexts(queries(count))
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
