import pytest
import torch
from detectron2.modeling import build_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segic_d2.modeling import Context
from tests.tiny import tiny_config, tiny_episode


def build(*opts, seed=0, **options):
    torch.manual_seed(seed)
    return build_model(tiny_config(*opts, **options)).eval()


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
            torch.testing.assert_close(alone, together[i], atol=1e-4, rtol=0)
            torch.testing.assert_close(chunked[i], together[i], atol=1e-4, rtol=0)


def test_a_context_is_reusable_and_survives_a_file(model, tmp_path):
    episode = tiny_episode(3, 2, 2)
    context = model.encode_context(episode["references"], {0: "a", 1: "b"})
    context.save(tmp_path / "c.safetensors")
    features = model.encode_images([episode["image"]] * 2)
    with torch.no_grad():
        one, two = model.segment(features, context)
        (loaded,) = model.segment(features[:1], Context.load(tmp_path / "c.safetensors"))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    torch.testing.assert_close(loaded, one, atol=1e-6, rtol=0)
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
    features = model.backbone(image)["feat"][0, :, :7, :5]  # the 7×5 cells of the content
    torch.testing.assert_close(context.prototypes[0, 0], features.mean((1, 2)))


def test_a_tiny_object_reaches_the_prototype():
    model = build()
    reference = tiny_episode(0, 1)["references"][0]
    mask = torch.zeros(1, 98, 70)
    mask[0, 30, 40] = 0.004  # far less than a pixel, soft
    context = model.encode_context([{**reference, "masks": mask}])
    features = model.encode_images([reference["image"]]).map[0]
    torch.testing.assert_close(context.prototypes[0, 0], features[:, 2, 2])


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


def test_text_follows_task_and_name(tmp_path):
    from segic_d2.modeling import save_text_table

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


def test_outputs_for_the_stock_evaluators(model):
    episode = tiny_episode(2, 2)
    kinds = ("sem_seg", "instances", "propagated_mask")
    (out,) = model.inference([episode], outputs=kinds, num_classes=4, background=3)
    assert out["sem_seg"].shape == (4, 168, 224) and out["propagated_mask"].shape == (2, 168, 224)
    labels = out["sem_seg"].argmax(0)
    assert set(labels.unique().tolist()) <= {0, 1, 3}
    assert torch.equal(labels == 3, ~out["masks"].any(0))
    model.threshold = 0.1
    (strict,) = model.inference([episode], outputs=kinds, num_classes=4, background=3)
    model.threshold = 0.0
    assert strict["masks"].sum() < out["masks"].sum()
    assert torch.equal(strict["sem_seg"].argmax(0) == 3, ~strict["masks"].any(0))
    found = out["instances"]
    assert len(found) == out["masks"].flatten(1).any(1).sum()
    assert torch.equal(found.pred_masks, out["masks"][found.pred_classes])
    with pytest.raises(ValueError, match="not distinct classes below 1"):
        model.inference([episode], outputs=("sem_seg",), num_classes=1)


def test_bad_input_says_what_is_wrong(model):
    episode = tiny_episode(0, 2)
    first, second = episode["references"]
    with pytest.raises(ValueError, match="no references"):
        model.encode_context([])
    empty = {**second, "masks": torch.zeros(1, 98, 70)}
    with pytest.raises(ValueError, match=r"entity 1 \('dog'\).*reference1_0.png"):
        model.encode_context([first, empty], {0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match="entity 5"):
        model.encode_context([first], {0: None, 5: None})
    with pytest.raises(ValueError, match="asked for are \\[0\\]"):
        model.encode_context([first, second], {0: None})
    with pytest.raises(ValueError, match="reference0_0.png: masks of .98, 71. px for an image"):
        model.encode_context([{**first, "masks": torch.ones(1, 98, 71)}])
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


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.SEGIC.MASK_POOLING", "max"),
        ("MODEL.SEGIC.SIMILARITY.PROTOTYPE", "mean"),
        ("MODEL.SEGIC.LOSS.NUM_MASKS", "gpu"),
        ("INPUT.FORMAT", "YUV"),
        ("MODEL.SEGIC.TEST.OUTPUTS", ("boxes",)),
        ("MODEL.SEGIC.IN_FEATURE", "res9"),
    ],
)
def test_config_keys_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        build(key, value)
