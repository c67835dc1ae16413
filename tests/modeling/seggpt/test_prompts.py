"""Contexts of pixels, and the prompts that they become."""

import numpy as np
import pytest
import torch

from segic_d2.modeling.seggpt.prompts import Pixels, prompts_of
from segic_d2.structures.context import Context
from segic_d2.structures.view import InputSpec
from tests.modeling.seggpt.parts import reference, scene, target, tiny_model

BOXES = (4, 4, 20, 24), (22, 30, 38, 56)


def context_of(model, *shown):
    """A context of references, each (seed, {id: box})."""
    views = [
        reference(model, *scene(seed, boxes=tuple(own.values())), list(own)) for seed, own in shown
    ]
    return model.encode_context(views)


def test_a_context_is_the_pixels_of_its_references(tmp_path):
    model = tiny_model()
    context = context_of(model, (0, {7: BOXES[0], 3: BOXES[1]}), (1, {3: BOXES[0]}))
    assert (context.kind, context.ids, context.names) == ("pixels", [7, 3], [None, None])
    assert context.shots.tolist() == [[True, False], [True, True]]
    view = reference(model, *scene(0, boxes=BOXES))
    assert torch.equal(context.tensors["image"][0, 0], view["image"])
    assert torch.equal(context.tensors["mask"][1, 0].float(), view["masks"][1])
    assert {v.dtype for v in context.tensors.values()} == {torch.uint8}
    assert context.bytes == 4 * (3 + 1) * 32 * 32
    context.save(tmp_path / "context.safetensors")
    read = Context.load(tmp_path / "context.safetensors")
    assert all(torch.equal(read.tensors[k], v) for k, v in context.tensors.items())
    assert read.fingerprint == model.fingerprint


def test_contexts_are_joined_and_taken_apart():
    model = tiny_model()
    both = context_of(model, (0, {1: BOXES[0], 2: BOXES[1]}))
    more = context_of(model, (5, {1: BOXES[1], 2: BOXES[0]}))
    shots = Context.join_shots([both, more])
    assert shots.tensors["image"].shape == (2, 2, 3, 32, 32)
    assert torch.equal(shots.take([1]).tensors["mask"][0, 1], more.tensors["mask"][1, 0])
    joined = Context.join_entities([shots.take([0]), both.take([1])])
    assert joined.shots.tolist() == [[True, True], [True, False]]
    assert joined.drop([1]).ids == [2]


def test_a_thin_mask_leaves_a_pixel():
    model, (image, masks) = tiny_model(), scene(0)
    masks[:] = False
    masks[0, 20, 1] = True
    context = model.encode_context([reference(model, image, masks)])
    assert context.tensors["mask"].sum() == 1


def test_what_no_reference_shows_is_named():
    model, (image, masks) = tiny_model(), scene(0)
    with pytest.raises(ValueError, match="no references"):
        model.encode_context([])
    view = reference(model, image, masks & False)
    with pytest.raises(ValueError, match="the references show nothing of entity cat"):
        model.encode_context([view], {1: "cat"})
    with pytest.raises(ValueError, match="nothing of entity 9"):
        model.encode_context([reference(model, image, masks)], {1: None, 9: None})


def test_prompts_are_white_on_black_one_entity_each():
    model = tiny_model()
    context = context_of(model, (0, {1: BOXES[0], 2: BOXES[1]}), (1, {2: BOXES[0]}))
    one, two = prompts_of(context, model.pixels)
    assert (one.rows, two.rows, len(one), len(two)) == ([0], [1], 1, 2)
    shown = model.pixels.shown(two.colours)
    mask = context.tensors["mask"][1]
    torch.testing.assert_close(shown, 255.0 * mask[:, None].expand(2, 3, 32, 32), atol=1e-3, rtol=0)


def test_by_colours_a_picture_shows_all_that_it_shows_at_once():
    model = tiny_model()
    context = context_of(model, (0, {1: BOXES[0], 2: BOXES[1]}), (1, {2: BOXES[0]}))
    (one,) = prompts_of(context, model.pixels, at_once=2)
    assert (one.rows, len(one)) == ([0, 1], 2)  # two pictures, of which both show entity 2
    shown, masks = model.pixels.shown(one.colours), context.tensors["mask"]
    for picture, own in ((0, [(0, 0), (1, 0)]), (1, [(1, 1)])):
        expected = torch.zeros(3, 32, 32)
        for row, shot in own:
            expected[:, masks[row, shot] > 0] = one.palette[row][:, None]
        torch.testing.assert_close(shown[picture], expected, atol=1e-3, rtol=0)
    assert len(prompts_of(context, model.pixels, at_once=1)) == 2


def test_the_same_shot_twice_counts_twice():
    model = tiny_model()
    context = context_of(model, (0, {1: BOXES[0]}), (0, {1: BOXES[0]}))
    assert [len(p) for p in prompts_of(context, model.pixels, at_once=3)] == [2]


def test_spatial_ensemble_is_one_prompt_of_tiles():
    model = tiny_model()
    context = context_of(model, *((i, {1: BOXES[0]}) for i in range(4)))
    (one,) = prompts_of(context, model.pixels, spatial=True)
    assert one.pictures.shape == one.colours.shape == (1, 3, 32, 32)
    mask = model.pixels.shown(one.colours)[0].mean(0) > 128
    assert torch.equal(mask[:16, :16], mask[16:, 16:]) and mask[:16, :16].any()


def test_a_tuned_prompt_starts_as_it_was(tmp_path):
    model = tiny_model()
    context = context_of(model, (0, {1: BOXES[0], 2: BOXES[1]}), (1, {2: BOXES[0]}))
    tuned = model.tunable(context)
    assert {k: v.dtype for k, v in tuned.tensors.items()} == dict.fromkeys(
        ("image", "colour"), torch.float32
    )
    for a, b in zip(*(prompts_of(c, model.pixels) for c in (context, tuned)), strict=True):
        torch.testing.assert_close(a.pictures, b.pictures)
        torch.testing.assert_close(a.colours, b.colours)
    again = model.tunable(tuned)
    assert all(torch.equal(again.tensors[k], v) for k, v in tuned.tensors.items())
    tuned.save(tmp_path / "tuned.safetensors")
    read = Context.load(tmp_path / "tuned.safetensors")
    assert torch.equal(read.tensors["colour"], tuned.tensors["colour"])
    assert len(prompts_of(tuned, model.pixels, at_once=2)) == 2  # its colours are its own


def test_what_was_found_becomes_a_shot():
    model, (image, _) = tiny_model(), scene(3, boxes=BOXES)
    context = context_of(model, (0, {1: BOXES[0], 2: BOXES[1]}))
    features = model.encode_images([target(model, image)])
    (found,) = model.segment(features, context)
    found.logits = found.logits.clone()
    found.logits[:] = -1
    found.logits[0, 4:9, 2:7] = 1
    found.logits[1, 20:, 20:] = 1
    shot = model.remember(features, found)
    assert (shot.ids, shot.task) == ([1, 2], "instance")
    assert torch.equal(shot.tensors["mask"][:, 0] > 0, found.logits > 0)
    assert torch.equal(shot.tensors["image"][0, 0], target(model, image)["image"])
    with pytest.raises(ValueError, match="'clusters' is not for this model"):
        model.remember(features, found, parts=2)


def test_pixels_come_back_and_padding_is_of_the_mean():
    pixels = Pixels(InputSpec(8, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)))
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 8), np.uint8))
    square = pixels.square(picture)
    assert torch.equal(pixels.shown(square)[:, :5].round(), picture.float())
    assert pixels.shown(square)[:, 6, 3].tolist() == [100, 110, 120]
    with pytest.raises(ValueError, match="9x9 px is no view: INPUT.CANVAS is 8"):
        pixels.square(torch.zeros(3, 9, 9))
