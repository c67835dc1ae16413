"""SegGPT behind the protocol: whatever serves SegIC serves it, and nothing else knows its name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.solver.build import get_default_optimizer_params

from segic_d2.checkpoint import save_weights
from segic_d2.config.load import load_config
from segic_d2.engine.requirements import find_missing
from segic_d2.engine.trainer import Trainer
from segic_d2.modeling.seggpt.colours import BRIGHT, PER_LOGIT
from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.structures.context import Context
from tests.modeling.seggpt.parts import (
    TINY,
    episode,
    lively,
    reference,
    scene,
    small_config,
    target,
    tiny_model,
)

ROOT = Path(__file__).resolve().parents[3]
ROOM = ROOT / "segic_d2/modeling/seggpt"
CONFIGS = sorted((ROOT / "configs/seggpt").glob("*.yaml"))
BOXES = (4, 4, 20, 24), (22, 30, 38, 56)


def two_entities(model, seed=0):
    image, masks = scene(seed, boxes=BOXES)
    return [reference(model, image, masks, [1, 2])]


@torch.no_grad()
def found_in(model, context, *seeds):
    """Targets of different sizes."""
    images = [scene(s, (40 + 4 * s, 60), BOXES)[0] for s in seeds]
    return model.segment(model.encode_images([target(model, x) for x in images]), context)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.name)
def test_configs_build_and_are_short(config):
    assert len(config.read_text().splitlines()) < 40
    cfg = load_config(str(config), ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    sizes = {"vit_large": 370_723_203, "painter": 370_721_155, "tiny": 1_117_603}
    sizes["shapes"] = sizes["shapes_whole"] = 965_107
    assert sum(p.numel() for p in model.parameters()) == sizes[config.stem]
    assert model.input.resize == "squash" and cfg.INPUT.MIN_SIZE_TEST == 0
    assert not [line for line in find_missing(cfg) if "DATASETS" not in line]
    assert Trainer.build_optimizer(cfg, model)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("INPUT.CANVAS", 100, "INPUT.CANVAS 100 is no multiple of MODEL.SEGGPT.PATCH 16"),
        ("MODEL.SEGGPT.HEADS", 5, "WIDTH 1024 is no multiple of HEADS 5"),
        ("MODEL.SEGGPT.ENSEMBLE", "sum", "MODEL.SEGGPT.ENSEMBLE is 'sum'"),
        ("MODEL.SEGGPT.CONTEXT", "no.safetensors", "MODEL.SEGGPT.CONTEXT: context file not found"),
    ],
)
def test_what_a_config_cannot_say_is_refused(key, value, said):
    cfg = load_config("seggpt/vit_large.yaml", [key, value, "MODEL.DEVICE", "cpu"])
    with pytest.raises((ValueError, FileNotFoundError), match=said), torch.device("meta"):
        build_model(cfg)


def test_targets_of_a_batch_are_as_apart_and_have_their_own_size():
    model = lively()
    context = model.encode_context(two_entities(model))
    together = found_in(model, context, 1, 2, 3)
    for seed, one in zip((1, 2, 3), together, strict=True):
        (alone,) = found_in(model, context, seed)
        torch.testing.assert_close(one.logits, alone.logits, rtol=0, atol=1e-4)
        assert one.masks.shape == (2, 40 + 4 * seed, 60)
        assert (one.scores == 0).eq(~(one.logits > 0).flatten(1).any(1)).all()
    assert sum(bool(one.masks.any()) for one in together) > 0


def test_each_target_may_have_its_own_context_of_any_shots():
    model = lively(BATCH=3)
    one = model.encode_context(two_entities(model))
    more = Context.join_shots([one, model.encode_context(two_entities(model, 7))]).take([1])
    other = replace(more, task="instance")
    together = found_in(model, [one, more, other], 1, 2, 2)
    assert [x.ids for x in together] == [[1, 2], [2], [2]]
    for seed, context, x in zip((1, 2, 2), (one, more, other), together, strict=True):
        (alone,) = found_in(model, context, seed)
        torch.testing.assert_close(x.logits, alone.logits, rtol=0, atol=1e-4)
    assert (together[1].logits - together[2].logits).abs().max() > 1e-3  # the task is told


def test_masks_are_where_the_mean_is_above_128_by_the_nearest_pixel():
    model = lively()
    (found,) = found_in(model, model.encode_context(two_entities(model)), 1)
    grey = (found.logits * PER_LOGIT + BRIGHT).numpy()
    rows, columns = np.arange(44) * 32 // 44, np.arange(60) * 32 // 60
    assert np.array_equal(found.masks.numpy(), grey[:, rows][:, :, columns] > 128)
    smooth = lively(RESIZE="bilinear")
    (other,) = found_in(smooth, smooth.encode_context(two_entities(smooth)), 1)
    assert torch.equal(other.logits, found.logits)
    assert not torch.equal(other.masks, found.masks)


def test_entities_by_colours_exclude_each_other_and_one_is_as_by_itself():
    model, colours = lively(), lively(COLORS=4)
    context = model.encode_context(two_entities(model))
    (found,) = found_in(colours, context, 1)
    assert found.ids == [1, 2] and (found.logits > 0).sum(0).max() <= 1
    pairs = (found_in(m, context.take([0]), 1)[0] for m in (model, colours))
    first, second = (x.logits for x in pairs)
    assert torch.equal(first, second) and not torch.equal(first[0], found.logits[0])


def test_spatial_ensemble_is_another_answer_of_one_pass():
    model, tiles = lively(), lively(ENSEMBLE="spatial")
    one = model.encode_context(two_entities(model))
    both = Context.join_shots([one, model.encode_context(two_entities(model, 7))])
    a, b = (found_in(m, both, 1)[0].logits for m in (model, tiles))
    assert (a - b).abs().max() > 1e-3
    torch.testing.assert_close(found_in(tiles, one, 1)[0].logits, found_in(model, one, 1)[0].logits)


def test_a_context_is_of_its_model():
    model, other = tiny_model(), tiny_model(seed=1)
    context = model.encode_context(two_entities(model))
    with pytest.raises(ValueError, match="made by another model: weights"):
        found_in(other, context, 1)
    with pytest.raises(ValueError, match="made by another model: canvas: context 32, model 48"):
        larger = tiny_model(48)
        larger._known = model._known
        found_in(larger, context, 1)
    with pytest.raises(ValueError, match="contexts of 'pixels', not of 'prototypes'"):
        found_in(model, replace(context, kind="prototypes"), 1)
    with pytest.raises(ValueError, match="knows no prompts at targets"):
        model.segment(model.encode_images([torch.zeros(3, 32, 32)]), context, [{}])
    before = model.fingerprint["weights"]
    with torch.no_grad():
        model.net.norm.bias.add_(1)
    assert model.fingerprint["weights"] != before
    assert tiny_model(TYPE_TOKENS=False).fingerprint["model"] == "Painter"


def test_the_predictor_serves_it(tmp_path):
    model = lively()
    save_weights(model, tmp_path / "weights.safetensors")
    (image, masks), picture = scene(0, boxes=BOXES), scene(5, (44, 60), BOXES)[0]
    cfg = small_config(32, **TINY)
    predictor = InContextPredictor(cfg, tmp_path / "weights.safetensors", "cpu")
    labels = masks[0] + 2 * masks[1].astype(np.uint8)
    predictor.set_references([(image, labels, {1: "one", 2: "two"})])
    result = predictor(picture, independent=True)
    assert result.names == ["one", "two"] and result.masks.shape == (2, 44, 60)
    competing = predictor(picture)
    assert competing.masks.sum(0).max() <= 1 and competing.label_map().shape == (44, 60)
    predictor.save_context(tmp_path / "context.safetensors")
    again = InContextPredictor(cfg, tmp_path / "weights.safetensors", "cpu")
    again.load_context(tmp_path / "context.safetensors")
    assert np.array_equal(again(picture, independent=True).masks, result.masks)
    with pytest.raises(ValueError, match="SegGPT does not tell the objects of an entity apart"):
        predictor.predict([picture], instances=True)  # before the first picture
    with pytest.raises(ValueError, match="SegGPT does not tell the objects"):
        VideoPredictor(predictor).follow_references()


def test_a_video_keeps_the_given_frame_and_the_latest():
    model = lively()
    cfg = small_config(32, **TINY)
    cfg.merge_from_list(["TEST.VIDEO.MEMORY_SIZE", 2])
    predictor = InContextPredictor.from_model(model)
    video = VideoPredictor(predictor, type(predictor.video).from_config(cfg))
    image, masks = scene(0, boxes=BOXES)
    video.add(image, masks[0] + 2 * masks[1].astype(np.uint8))
    for seed in range(4):
        found = video.step(scene(seed, boxes=BOXES)[0])
    assert found.masks.shape == (2, 40, 60)
    shots = [len(video.memory[i].recent) for i in video.memory.ids]
    assert max(shots) == 2  # of what has a pixel
    assert video.memory.read().kind == "pixels"


@pytest.mark.parametrize("kind", ["mean", "clusters"])
def test_pixels_are_not_averaged(kind):
    predictor = InContextPredictor.from_model(lively())
    options = replace(predictor.video, memory=replace(predictor.video.memory, kind=kind))
    image, masks = scene(0)
    with pytest.raises(ValueError, match="pixels|clusters"):
        VideoPredictor(predictor, options).add(image, masks[0])


def test_a_held_context_answers_detectron2s_predictor(tmp_path):
    model = lively()
    model.encode_context(two_entities(model)).save(tmp_path / "context.safetensors")
    save_weights(model, tmp_path / "weights.pth")
    cfg = small_config(32, **TINY, CONTEXT=str(tmp_path / "context.safetensors"))
    cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST = str(tmp_path / "weights.pth"), ()
    for size in ((44, 60), (32, 20), (32, 32)):
        image = scene(5, size, ((4, 4, 20, 18),))[0]
        (expected,) = model.segment(
            model.encode_images([target(model, image)]),
            Context.load(tmp_path / "context.safetensors"),
        )
        found = DefaultPredictor(cfg)(image[..., ::-1])
        assert found["sem_seg"].shape == (3, *size)
        assert torch.equal(found["masks"], expected.masks)


def test_layer_decay_and_no_decay_of_vectors():
    model = tiny_model(LAYER_DECAY=0.5)
    rates = {n: model.lr_factor(n) for n, _ in model.named_parameters()}
    assert rates["net.patch_embed.proj.weight"] == rates["net.pos_embed"] == 0.5**6
    assert rates["net.blocks.0.attn.qkv.bias"] == 0.5**5 and rates["net.blocks.4.norm1.bias"] == 0.5
    assert rates["net.mask_token"] == rates["net.decoder_embed.weight"] == 1
    cfg = small_config(32, **TINY, LAYER_DECAY=0.5)
    found = {}
    for group in Trainer.build_optimizer(cfg, model).param_groups:
        found |= {id(p): (group["lr"], group["weight_decay"]) for p in group["params"]}
    for name, p in model.named_parameters():
        lr, decay = found[id(p)]
        assert lr == pytest.approx(1e-4 * rates[name])
        assert (decay == 0) == (p.dim() == 1 or "pos_embed" in name), name
    assert get_default_optimizer_params(model)


def test_a_trainer_takes_a_step_with_it():
    model = tiny_model().train()
    losses = model([episode(model, s, 2) for s in range(2)])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_nothing_else_knows_its_name():
    own = {
        *("modeling/__init__.py", "config/keys.py", "config/seggpt_keys.py"),
        *("checkpoint/seggpt.py", "checkpoint/checkpointer.py", "checkpoint/pretrained.py"),
    }
    package = ROOT / "segic_d2"
    for file in package.rglob("*.py"):
        if ROOM not in file.parents and str(file.relative_to(package)) not in own:
            text = file.read_text().lower()
            assert "seggpt" not in text and "painter" not in text, file


def test_the_room_is_small():
    lines = sum(len(f.read_text().splitlines()) for f in ROOM.glob("*.py"))
    assert lines <= 900
