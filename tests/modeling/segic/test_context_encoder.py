"""References into contexts of prototypes: what is pooled, arranged, refused."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling import Context, save_text_table
from segic_d2.modeling.layers.correspondence import pool_mask
from segic_d2.modeling.segic.context_encoder import Shot
from segic_d2.modeling.segic.released import PAPER, RELEASED, direction
from tests.modeling.segic.parts import build, context_encoder, features
from tests.tiny import tiny_episode

BACKGROUND = "MODEL.SEGIC.BACKGROUND"


def rectangle(*box, size=(112, 112)):
    """A mask (1, h, w) of the pixels y0:y1, x0:x1."""
    mask = torch.zeros(1, *size)
    mask[0, box[0] : box[1], box[2] : box[3]] = 1
    return mask


def shown(masks, ids):
    """A reference without pixels, of which only the size is read."""
    return {"image": torch.zeros(3, *masks.shape[1:]), "masks": masks, "entity_ids": ids}


# three references: entity 7 has three shots, 5 has two, 9 has one; all soft
MASKS = [
    torch.cat([rectangle(0, 30, 0, 40), rectangle(50, 90, 20, 112)]) * 0.9,
    rectangle(14, 60, 60, 80) * 0.4,
    torch.cat([rectangle(0, 9, 0, 9), rectangle(70, 112, 0, 50), rectangle(30, 60, 30, 60)]),
]
IDS = [[7, 5], [7], [9, 5, 7]]
NAMES = {5: "five", 9: None, 7: "seven"}


@pytest.mark.parametrize("rules", [PAPER, RELEASED])
@pytest.mark.parametrize("options", [{}, {"background": True, "groups": 3}])
def test_masks_of_known_features_are_references_without_pixels(rules, options):
    """``from_masks`` is what is left of ``from_references`` without pixels and files."""
    if rules is RELEASED and options:
        rules = replace(PAPER, direction=True)  # the background is none of the released rules
    encoder, maps = context_encoder(rules, **options), features(3)
    references = [shown(m, i) for m, i in zip(MASKS, IDS, strict=True)]
    shots = [Shot(m, i, rules.keep_empty) for m, i in zip(MASKS, IDS, strict=True)]
    one = encoder.from_references(maps, references, NAMES, "instance")
    other = encoder.from_masks(maps, shots, NAMES, "instance")
    assert one.ids == other.ids == [5, 9, 7] and one.names == other.names == ["five", None, "seven"]
    assert one.task == other.task == "instance" and one.kind == other.kind
    assert torch.equal(one.shots, other.shots) and one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(x, other.tensors[name]) for name, x in one.tensors.items())
    assert len(one.tensors) == 2 + ("background" in options)
    assert one.shots.sum(1).tolist() == [2, 1, 3]


@pytest.mark.parametrize("options", [{}, {"background": True, "groups": 3}])
def test_shots_are_arranged_by_entity_and_order(options):
    """Against pooling each mask by itself."""
    encoder, maps = context_encoder(**options), features(3)
    shots = [Shot(m, i) for m, i in zip(MASKS, IDS, strict=True)]
    context = encoder.from_masks(maps, shots, NAMES)
    assert context.shots.tolist() == [[True, True, False], [True, False, False], [True] * 3]
    for row, places in enumerate((((0, 1), (2, 1)), ((2, 0),), ((0, 0), (1, 0), (2, 2)))):
        for k, (image, mask) in enumerate(places):
            weights = pool_mask(MASKS[image][mask : mask + 1], 112, 8)
            prototype, unit = encoder.similarity.pool(maps[image], weights)
            torch.testing.assert_close(context.tensors["prototypes"][row, k], prototype[0])
            torch.testing.assert_close(context.tensors["unit_prototypes"][row, k], unit[0])
            if "background" in options:
                _, around = encoder.similarity.pool(maps[image], 1 - weights)
                torch.testing.assert_close(context.tensors["background"][row, k], around[0])
    for tensor in context.tensors.values():
        assert not tensor[~context.shots].any() and tensor[context.shots].any(1).all()


def test_weights_are_those_of_the_spec():
    mask = rectangle(8, 30, 3, 20)
    for rules in (PAPER, RELEASED):
        encoder = context_encoder(rules)
        expected = pool_mask(mask, 112, 8, center=rules is RELEASED)
        assert torch.equal(encoder.weights(mask, 8), expected) and expected.any()


def test_binary_masks_are_what_is_pooled():
    maps, mask = features(1), torch.full((1, 112, 112), 0.4)
    mask[0, :14, :14] = 0.6
    encoder = context_encoder()
    soft = encoder.from_masks(maps, [Shot(mask, [0])], {0: None})
    encoder.spec = replace(encoder.spec, binarize=True)
    binary = encoder.from_masks(maps, [Shot(mask, [0])], {0: None})
    torch.testing.assert_close(binary.tensors["prototypes"][0, 0], maps[0, :, 0, 0])
    assert not torch.allclose(soft.tensors["prototypes"], binary.tensors["prototypes"], atol=0.1)


# ---- the background ----------------------------------------------------------------------------


def test_the_background_is_what_the_mask_leaves_of_the_picture():
    model, episode = build(BACKGROUND, True), tiny_episode(0)
    context = model.encode_context(episode["references"])
    maps = model.encode_images(episode["references"]).map
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
                expected += rest * F.normalize(maps[entity, :, y, x], dim=0)
        torch.testing.assert_close(context.tensors["background"][entity, 0], expected / total)


def test_a_mask_that_covers_its_picture_has_no_background():
    model = build(BACKGROUND, True)
    episode = tiny_episode(0, entities=1)
    episode["references"][0]["masks"] = torch.ones(1, 98, 70)
    context = model.encode_context(episode["references"])
    assert not context.tensors["background"].any()
    (found,) = model.segment(model.encode_images([episode]), context)
    assert torch.isfinite(found.logits).all()


def test_contexts_keep_it_through_files_joins_and_shots(tmp_path):
    model = build(BACKGROUND, True)
    episode = tiny_episode(0, shots=3)
    context = model.encode_context(episode["references"])
    context.save(tmp_path / "c.safetensors")
    again = Context.load(tmp_path / "c.safetensors")
    around = context.tensors["background"]
    assert torch.equal(again.tensors["background"], around)
    torch.testing.assert_close(context.mean_over_shots("background"), around.mean(1))
    joined = Context.join_entities([context.take([1]), context.take([0])])
    assert torch.equal(joined.tensors["background"][0], around[1])
    with pytest.raises(ValueError, match="another model: background: context True, model None"):
        again.check(build().fingerprint)


# ---- what is left out --------------------------------------------------------------------------


def test_padding_never_changes_a_context():
    """The context of a reference is the plain mean over its content, whatever lies beyond it."""
    model = build()
    reference = tiny_episode(0, 1)["references"][0]
    context = model.encode_context([{**reference, "masks": torch.ones(1, 98, 70)}])
    image = torch.zeros(1, 3, 112, 112)
    mean, std = (
        torch.tensor(x)[:, None, None]
        for x in (model.backbone.pixel_mean, model.backbone.pixel_std)
    )
    image[0, :, :98, :70] = (reference["image"] - mean) / std
    own = model.backbone(image)["feat"][0, :, :7, :5]  # the 7×5 cells of the content
    torch.testing.assert_close(context.tensors["prototypes"][0, 0], own.mean((1, 2)))


def test_a_tiny_object_reaches_the_prototype():
    model = build()
    reference = tiny_episode(0, 1)["references"][0]
    mask = torch.zeros(1, 98, 70)
    mask[0, 30, 40] = 0.004  # far less than a pixel, soft
    context = model.encode_context([{**reference, "masks": mask}])
    own = model.encode_images([reference["image"]]).map[0]
    torch.testing.assert_close(context.tensors["prototypes"][0, 0], own[:, 2, 2])


def vanished():
    """Two references of one entity: the first shows one cell, the second nothing."""
    masks = torch.zeros(2, 1, 28, 28)
    masks[0, 0, :14, :14] = 1
    maps = torch.randn(2, 24, 2, 2, generator=torch.Generator().manual_seed(0))
    return maps, [shown(m, torch.tensor([4])) for m in masks]


def test_a_vanished_mask_is_no_shot():
    """By the share that is covered, and by the centre alone."""
    maps, references = vanished()
    for center in (False, True):
        encoder = context_encoder(canvas=28)
        if center:  # the weights without the rest of the released rules
            shots = [Shot(r["masks"], [4]) for r in references]
            encoder.spec = replace(encoder.spec, released=True)
            context = encoder.from_masks(maps, shots, {4: "cat"})
        else:
            context = encoder.from_references(maps, references, {4: "cat"})
        assert context.shots.tolist() == [[True]]
        torch.testing.assert_close(context.tensors["prototypes"][0, 0], maps[0, :, 0, 0])
    with pytest.raises(ValueError, match=r"entity 4 \('cat'\)"):
        context_encoder(canvas=28).from_references(maps[1:], references[1:], {4: "cat"})


def test_a_vanished_mask_is_a_zero_prototype_as_released():
    maps, references = vanished()
    encoder = context_encoder(RELEASED, canvas=28)
    context = encoder.from_references(maps, references, {4: "cat"})
    prototypes, units = (context.tensors[k] for k in ("prototypes", "unit_prototypes"))
    assert context.shots.tolist() == [[True, True]]
    torch.testing.assert_close(prototypes[0, 0], maps[0, :, 0, 0])
    torch.testing.assert_close(units, direction(prototypes))
    assert not prototypes[0, 1].any() and not units[0, 1].any()
    alone = encoder.from_references(maps[1:], references[1:], {4: "cat"})
    assert alone.shots.all() and not alone.tensors["prototypes"].any()


def test_masks_without_an_entity_make_an_empty_context():
    context = context_encoder().from_masks(features(0), [], {})
    assert len(context) == 0 and context.tensors["prototypes"].shape == (0, 0, 24)


# ---- texts and errors --------------------------------------------------------------------------


def test_text_follows_task_and_name(tmp_path):
    texts = ["", "a photo of a class0", "please segment the instances"]
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    save_text_table(tmp_path / "t.safetensors", texts, vectors)
    model = build(
        *("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.DIM", 16),
        *("MODEL.SEGIC.TEXT.TABLE", str(tmp_path / "t.safetensors")),
    )
    references = tiny_episode(0, 1)["references"]
    for names, task, row in (
        ({0: None}, "semantic", 0),
        ({0: "class0"}, "semantic", 1),
        ({0: "class0"}, "instance", 2),
    ):
        assert torch.equal(model.encode_context(references, names, task).meta[0], vectors[row])


def test_without_an_encoder_of_texts_there_are_no_vectors():
    encoder, shot = context_encoder(), Shot(rectangle(0, 9, 0, 9), [0])
    assert encoder.texts.vectors(["a"], "semantic") is None
    assert encoder.from_masks(features(1), [shot], {0: "a"}).meta is None


def test_bad_references_are_named():
    first, second = tiny_episode(0, 2)["references"]
    maps, encoder = features(2), context_encoder()
    empty = {**second, "masks": torch.zeros(1, 98, 70)}
    with pytest.raises(ValueError, match=r"entity 1 \('dog'\).*reference1_0.png"):
        encoder.from_references(maps, [first, empty], {0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match="entity 5"):
        encoder.from_references(maps[:1], [first], {0: None, 5: None})
    with pytest.raises(ValueError, match="asked for are \\[0\\]"):
        encoder.from_references(maps, [first, second], {0: None})
    with pytest.raises(ValueError, match="1 masks for entities .0, 1.; asked for are"):
        encoder.from_references(maps[:1], [{**first, "entity_ids": [0, 1]}], {0: None, 1: None})
    with pytest.raises(ValueError, match="reference0_0.png: masks of .98, 71. px for an image"):
        encoder.from_references(maps[:1], [{**first, "masks": torch.ones(1, 98, 71)}], {0: None})
