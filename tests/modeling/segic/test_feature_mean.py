"""Similarities without the backbone's mean feature (MODEL.SEGIC.SIMILARITY.CENTER)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from segic_d2.checkpoint import SegICCheckpointer, trainable_state_dict
from segic_d2.modeling.layers.correspondence import pool_mask
from segic_d2.modeling.segic.feature_mean import (
    compute_feature_mean,
    load_feature_mean,
    save_feature_mean,
)
from tests.modeling.segic.parts import build
from tests.tiny import tiny_config, tiny_episode

TOOL = Path(__file__).resolve().parents[3] / "tools" / "compute_feature_mean.py"
CENTER, MEAN = "MODEL.SEGIC.SIMILARITY.CENTER", "MODEL.SEGIC.SIMILARITY.MEAN"


@pytest.fixture
def mean_file(tmp_path):
    path = tmp_path / "mean.safetensors"
    save_feature_mean(torch.linspace(-0.5, 0.5, 24), path)
    return path


def parts(model, episode):
    features = model.encode_images([episode])
    references = model.encode_images(episode["references"])
    return features, references, model.encode_context(episode["references"])


def test_cosines_are_those_of_centered_features(mean_file):
    model, episode = build(CENTER, "fixed", MEAN, str(mean_file)), tiny_episode(0)
    features, references, context = parts(model, episode)
    (maps,) = model.propagated_mask(features, context)
    mean = torch.linspace(-0.5, 0.5, 24)
    for entity, reference in enumerate(episode["references"]):
        weights = pool_mask(reference["masks"], 112, 8)[0]
        expected = torch.zeros(8, 8)
        for y, x in (weights > 0).nonzero().tolist():  # every position of the reference
            own = references.map[entity][:, y, x] - mean
            cosines = F.cosine_similarity(
                own[:, None, None], features.map[0] - mean[:, None, None], 0
            )
            expected += weights[y, x] / weights.sum() * cosines
        assert torch.allclose(maps[entity], expected, atol=1e-5)
    raw = build()
    plain = parts(raw, episode)
    (raw_maps,) = raw.propagated_mask(plain[0], plain[2])
    assert not torch.allclose(raw_maps, maps, atol=0.05)
    # the visual instruction stays as it is
    assert torch.equal(context.tensors["prototypes"], plain[2].tensors["prototypes"])


def test_by_default_nothing_changes():
    model = build()
    assert model.sem_seg_head.similarity.feature_mean is None
    assert not any("feature_mean" in key for key in model.state_dict())
    assert "center" not in model.fingerprint
    zeros = build(CENTER, "fixed")
    first, second = (parts(m, tiny_episode(1)) for m in (model, zeros))
    for one, other in zip(model.segment(*first[::2]), zeros.segment(*second[::2]), strict=True):
        assert torch.equal(one.logits, other.logits)


def test_the_mean_is_saved_with_the_weights(mean_file, tmp_path):
    model = build(CENTER, "fixed", MEAN, str(mean_file))
    saved = trainable_state_dict(model)
    assert [name for name in saved if "mean" in name] == ["sem_seg_head.feature_mean"]
    torch.save({"model": saved}, tmp_path / "w.pth")
    again = build(CENTER, "fixed")
    context = model.encode_context(tiny_episode(0)["references"])
    with pytest.raises(ValueError, match="another model: center"):
        context.check(again.fingerprint)
    SegICCheckpointer(again, complete=True).load(str(tmp_path / "w.pth"))
    assert torch.equal(again.sem_seg_head.similarity.feature_mean, torch.linspace(-0.5, 0.5, 24))
    context.check(again.fingerprint)
    torch.save({"model": trainable_state_dict(build())}, tmp_path / "raw.pth")
    with pytest.raises(ValueError, match="lacks 1 .*feature_mean"):
        SegICCheckpointer(again, complete=True).load(str(tmp_path / "raw.pth"))


def test_the_mean_of_pictures_leaves_the_padding_out():
    model = build()
    g = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=g) for size in ((56, 112), (112, 28))]
    maps = [model.encode_images([image]).map[0] for image in images]
    expected = (maps[0][:, :4].flatten(1).mean(1) + maps[1][..., :2].flatten(1).mean(1)) / 2
    assert torch.allclose(compute_feature_mean(model, images), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no pictures"):
        compute_feature_mean(model, [])


def test_training_reaches_no_mean(mean_file):
    model = build(CENTER, "fixed", MEAN, str(mean_file)).train()
    losses = model([tiny_episode(0, training=True)])
    sum(losses.values()).backward()
    assert not model.sem_seg_head.similarity.feature_mean.requires_grad
    assert "feature_mean" not in dict(model.sem_seg_head.named_parameters())


def test_wrong_values_are_named(mean_file, tmp_path):
    with pytest.raises(ValueError, match=r"SIMILARITY.CENTER is 'image'"):
        build(CENTER, "image")
    with pytest.raises(ValueError, match=r"CENTER is 'fixed'.*MODEL.SEGIC.RELEASED"):
        build(CENTER, "fixed", "MODEL.SEGIC.RELEASED", True)
    with pytest.raises(FileNotFoundError, match=r"SIMILARITY.MEAN none.safetensors"):
        build(CENTER, "fixed", MEAN, "none.safetensors")
    with pytest.raises(ValueError, match=r"is for \(24,\) channels; the backbone has 384"):
        load_feature_mean(mean_file, 384)
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match="holds no tensor"):
        load_feature_mean(tmp_path / "text", 24)


def test_the_tool_takes_pictures_and_no_masks(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("compute_feature_mean", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / "in" / "cat").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (112, 84, 3), dtype=np.uint8) for _ in range(2)]
    Image.fromarray(pixels[0]).save(tmp_path / "in" / "cat" / "1.bmp")
    Image.fromarray(pixels[1]).save(tmp_path / "in" / "other.png")
    for mask in ("cat/1.png", "other_mask.png"):
        Image.new("L", (84, 112)).save(tmp_path / "in" / mask)
    config, output = tmp_path / "tiny.yaml", tmp_path / "mean.safetensors"
    config.write_text(tiny_config().dump())
    torch.manual_seed(0)  # of the random backbone
    tool.main([str(tmp_path / "in"), str(output), "--config-file", str(config)])
    assert "2 pictures" in capsys.readouterr().out
    images = [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in pixels]
    expected = compute_feature_mean(build(), images)
    assert torch.allclose(load_feature_mean(output, 24), expected, atol=1e-6)
    with pytest.raises(SystemExit, match="error: no pictures"):
        tool.main([str(tmp_path / "nothing"), str(output), "--config-file", str(config)])
