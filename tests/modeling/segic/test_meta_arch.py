"""The model as a whole: images, contexts, targets, batches of episodes."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segic_d2.modeling import Context
from segic_d2.modeling.segic.queries import Queries
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from segic_d2.structures.prompts import BoxPrompt, PointsPrompt, TextPrompt
from segic_d2.structures.segmentation import Segmentation
from tests.modeling.segic.parts import build, encoded
from tests.tiny import TinyBackbone, tiny_episode


@pytest.fixture(scope="module")
def model():
    return build("MODEL.SEGIC.POINTS.NUM", 3)


def test_a_batch_of_four_equals_its_episodes_one_by_one(model):
    episodes = [
        tiny_episode(i, 1 + i % 3, 1 + (i + 1) % 3, size=(112 - 14 * i, 112)) for i in range(4)
    ]
    together = model(episodes)
    for episode, output in zip(episodes, together, strict=True):
        (alone,) = model([episode])
        assert output["masks"].shape == (
            len(episode["entities"]),
            2 * episode["image"].shape[1],
            224,
        )
        assert output["masks"].dtype == torch.bool
        torch.testing.assert_close(output["scores"], alone["scores"], atol=1e-4, rtol=0)
        assert (output["masks"] != alone["masks"]).float().mean() < 1e-4


def test_logits_of_a_batch_and_of_chunks(model):
    episodes = [tiny_episode(i, 1 + i % 3, 1 + i % 3) for i in range(4)]
    features = model.encode_images([e["image"] for e in episodes])
    contexts = [model.encode_context(e["references"]) for e in episodes]
    with torch.no_grad():
        together = model.segment(features, contexts)
        model.entity_chunk = 2
        chunked = model.segment(features, contexts)
        model.entity_chunk = 0
        for i in range(4):
            (alone,) = model.segment(features[i : i + 1], contexts[i])
            for one in (alone, chunked[i]):
                torch.testing.assert_close(one.logits, together[i].logits, atol=1e-4, rtol=0)
                torch.testing.assert_close(one.scores, together[i].scores, atol=1e-4, rtol=0)


def test_a_context_is_reusable_and_survives_a_file(model, tmp_path):
    episode = tiny_episode(3, 2, 2)
    context = model.encode_context(episode["references"], {0: "a", 1: "b"})
    context.save(tmp_path / "c.safetensors")
    features = model.encode_images([episode["image"]] * 2)
    with torch.no_grad():
        one, two = model.segment(features, context)
        (loaded,) = model.segment(features[:1], Context.load(tmp_path / "c.safetensors"))
    torch.testing.assert_close(one.logits, two.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loaded.logits, one.logits, atol=1e-6, rtol=0)
    assert loaded.names == ["a", "b"] and loaded.ids == [0, 1]
    assert context.names == ["a", "b"] and context.ids == [0, 1]


def test_training_losses_depend_on_the_samples_own_seed(model):
    episodes = [tiny_episode(i, 1 + i, training=True) for i in range(2)]
    model.train()
    first, again, rest = model(episodes), model(episodes), model(episodes[1:])
    changed = model([{**e, "seed": 99} for e in episodes])
    model.eval()
    assert first["loss_mask"] == again["loss_mask"] != changed["loss_mask"]
    assert set(first) == {"loss_mask", "loss_dice"} and rest["loss_mask"] > 0
    assert first["loss_mask"].item() == pytest.approx(0.692807, abs=1e-4)
    assert first["loss_dice"].item() == pytest.approx(0.821989, abs=1e-4)


def test_two_half_batches_average_to_the_whole(model):
    """What makes two processes equal one with twice the batch (equal numbers of masks here)."""
    episodes = [tiny_episode(i, 2, training=True) for i in range(4)]
    model.train()
    whole, a, b = model(episodes), model(episodes[:2]), model(episodes[2:])
    model.eval()
    for key in whole:
        torch.testing.assert_close(whole[key], (a[key] + b[key]) / 2, atol=1e-5, rtol=0)


def test_the_backbone_is_frozen_in_eval_mode_and_sees_each_image_once(model, monkeypatch):
    seen = []
    forward = model.backbone.forward

    def counted(x):
        assert not torch.is_grad_enabled()
        seen.append(len(x))
        return forward(x)

    monkeypatch.setattr(model.backbone, "forward", counted)
    model.train()
    assert not model.backbone.training and model.sem_seg_head.training
    losses = model([tiny_episode(i, 2, 2, training=True) for i in range(3)])
    sum(losses.values()).backward()
    model.eval()
    assert sum(seen) == 3 + 3 * 4
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())


def test_no_path_builds_the_all_pairs_matrix():
    """Every tensor of an episode at 64×64 cells stays far below (64·64)² elements."""
    model = build("MODEL.SEGIC.LOSS.NUM_POINTS", 64, canvas=896)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            largest = max([largest, *sizes])
            return out

    episode = tiny_episode(0, 1, size=(896, 896), training=True)
    with Watch():
        model.train()
        sum(model([episode]).values()).backward()
        model.eval()([episode])
    assert 0 < largest <= (64 * 64) ** 2 / 2


def test_what_is_said_of_a_target(model):
    """One per target, in its own frame, with the propagated masks and the ids of the context."""
    episodes = [tiny_episode(0, 2), tiny_episode(1, 2, size=(112, 70))]
    features = model.encode_images(episodes)
    context = model.encode_context(episodes[0]["references"], {1: "one", 0: None})
    with torch.no_grad():
        found = model.segment(features, context)
        maps = model.propagated_mask(features, context)
        queries = Queries.from_contexts([context] * 2)
        out = model.sem_seg_head(features.map, features.image_sizes, queries, crossing=True)
    frames = [Frame(112, (84, 112), (168, 224)), Frame(112, (112, 70), (224, 140))]
    for i, (one, frame) in enumerate(zip(found, frames, strict=True)):
        assert isinstance(one, Segmentation) and one.frame == frame
        assert one.ids == [1, 0] and one.names == ["one", None]
        assert torch.equal(one.logits, out.logits[2 * i : 2 * i + 2])
        torch.testing.assert_close(one.similarity, maps[i])
        assert one.masks.shape == (2, *frame.size) and one.scores.shape == (2,)


# ---- prompts at the target ---------------------------------------------------------------------


def test_boxes_in_px_of_the_picture_are_boxes_on_the_canvas():
    """Of a file twice as large as its view in one direction, three times in the other; the decoder
    is told the first and the last pixel inside."""
    model = build("MODEL.SEGIC.BOX_PROMPT_PROB", 0.5)
    episodes = [tiny_episode(0, 3), tiny_episode(1, 3)]
    for episode, (height, width) in zip(episodes, ((168, 336), (84, 112)), strict=True):
        episode |= {"height": height, "width": width}
    features = model.encode_images(episodes)
    contexts = [model.encode_context(e["references"]) for e in episodes]
    contexts[0] = contexts[0].take([2, 0, 1])
    nothing = [torch.nan] * 4
    boxes = [nothing, [5.0, 4.5, 49.0, 58.5], nothing, nothing, nothing, [3.0, 5.0, 59.0, 69.0]]
    given = [
        {0: BoxPrompt((15.0, 9.0, 150.0, 119.0))},
        {2: BoxPrompt((3.0, 5.0, 60.0, 70.0))},
    ]
    with torch.no_grad():
        found = model.segment(features, contexts, given)
        plain = model.segment(features, contexts)
        queries = Queries.from_contexts(contexts)
        on_canvas = model.sem_seg_head(
            features.map,
            features.image_sizes,
            queries,
            crossing=True,
            boxes=torch.tensor(boxes),
        ).logits.split(3)
    for one, expected in zip(found, on_canvas, strict=True):
        torch.testing.assert_close(one.logits, expected, atol=1e-4, rtol=0)
    for i, row in ((0, 1), (1, 2)):
        assert (found[i].logits[row] - plain[i].logits[row]).abs().max() > 1e-3
        others = [k for k in range(3) if k != row]
        torch.testing.assert_close(
            found[i].logits[others], plain[i].logits[others], atol=1e-4, rtol=0
        )
    with torch.no_grad():
        unprompted = model.segment(features, contexts, [{}, {}])
    for one, expected in zip(unprompted, plain, strict=True):
        torch.testing.assert_close(one.logits, expected.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prompt", [PointsPrompt(((3.0, 4.0),)), TextPrompt("a cat")])
def test_another_kind_of_prompt_is_refused(model, prompt):
    features, context = encoded(model)
    with pytest.raises(ValueError, match=f"takes boxes as prompts .*, not {type(prompt).__name__}"):
        model.segment(features, context, [{1: prompt}])


def test_prompts_are_of_each_target(model):
    features, context = encoded(model)
    with pytest.raises(ValueError, match="prompts of 2 targets for 1 targets"):
        model.segment(features, context, [{}, {}])
    with pytest.raises(ValueError, match=r"prompts for \[9\]; the context has \["):
        model.segment(features, context, [{9: BoxPrompt((1.0, 2.0, 3.0, 4.0))}])


# ---- outputs, errors ---------------------------------------------------------------------------


def test_outputs_for_the_stock_evaluators(model):
    episode = tiny_episode(2, 2)
    kinds = ("masks", "sem_seg", "instances", "propagated_mask")
    (out,) = model.inference([episode], outputs=kinds, num_classes=4, background=3)
    assert out["sem_seg"].shape == (4, 168, 224) and out["propagated_mask"].shape == (2, 168, 224)
    labels = out["sem_seg"].argmax(0)
    assert set(labels.unique().tolist()) <= {0, 1, 3}
    assert torch.equal(labels == 3, ~out["masks"].any(0))
    model.readout.threshold = 0.1
    (strict,) = model.inference([episode], outputs=kinds, num_classes=4, background=3)
    model.readout.threshold = 0.0
    assert strict["masks"].sum() < out["masks"].sum()
    assert torch.equal(strict["sem_seg"].argmax(0) == 3, ~strict["masks"].any(0))
    found = out["instances"]
    assert len(found) == out["masks"].flatten(1).any(1).sum()
    assert torch.equal(found.pred_masks, out["masks"][found.pred_classes])
    with pytest.raises(ValueError, match="not distinct classes below 1"):
        model.inference([episode], outputs=("sem_seg",), num_classes=1)


def test_bad_input_says_what_is_wrong(model):
    episode = tiny_episode(0, 2)
    with pytest.raises(ValueError, match="no references"):
        model.encode_context([])
    with pytest.raises(ValueError, match=r"image of shape \(3, 500, 20\).*INPUT.CANVAS 112"):
        model.encode_images([torch.zeros(3, 500, 20, dtype=torch.uint8)])
    context = model.encode_context(episode["references"])
    with pytest.raises(ValueError, match="2 contexts for 1 targets"):
        model.segment(model.encode_images([episode["image"]]), [context, context])


def test_a_context_of_another_model_is_refused(model):
    episode = tiny_episode(0, 1)
    context = model.encode_context(episode["references"])
    other = build(seed=1)
    with pytest.raises(ValueError, match="another model: weights: context '.*', model '.*'"):
        other.segment(other.encode_images([episode["image"]]), context)
    wider = build(canvas=126)
    wider.backbone.load_state_dict(model.backbone.state_dict())
    with pytest.raises(ValueError, match="canvas: context 112, model 126"):
        wider.segment(wider.encode_images([episode["image"]]), context)


def test_a_context_of_another_kind_is_refused(model):
    features, context = encoded(model)
    for other in (replace(context, kind="frames"), replace(context, kind="frames", fingerprint={})):
        for ask in (model.segment, model.propagated_mask):
            with pytest.raises(ValueError, match="takes contexts of 'prototypes', not of 'frames'"):
                ask(features, other)
        with pytest.raises(ValueError, match="not of 'frames'"):
            model.segment(Features(features.map[[0, 0]], features.frames * 2), [context, other])
        with pytest.raises(ValueError, match="not of 'frames'"):
            model.find_instances([tiny_episode(0)], other)


def test_a_held_context_stands_for_references(model):
    episode = tiny_episode(0, 2)
    target = {k: v for k, v in episode.items() if k not in ("references", "entities")}
    with pytest.raises(ValueError, match="no references: give each input of a batch its own"):
        model([target])
    model.context = model.encode_context(episode["references"])
    try:
        (held,), (own,) = model([target]), model([episode])
        assert torch.equal(held["masks"], own["masks"])
        torch.testing.assert_close(held["scores"], own["scores"])
    finally:
        model.context = None


def test_an_unknown_output_is_named(model):
    with pytest.raises(ValueError, match="outputs has 'boxes'"):
        model.inference([tiny_episode(0)], outputs=("boxes",))
    with pytest.raises(ValueError, match="'sem_seg' needs num_classes"):
        model.inference([tiny_episode(0)], outputs=("sem_seg",))


@pytest.mark.parametrize(
    "key, value", [("INPUT.FORMAT", "YUV"), ("MODEL.SEGIC.IN_FEATURE", "res9")]
)
def test_config_keys_out_of_range_are_named(key, value, monkeypatch):
    monkeypatch.delattr(TinyBackbone, "pixel_mean")  # with its own it is RGB
    with pytest.raises(ValueError, match=f"{key} is {value!r}"):
        build(key, value)
