"""What the frozen backbone receives: normalised content, and zeros beyond it."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling import Context
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from tests.tiny import tiny_config, tiny_episode

GOLDEN = Path(__file__).resolve().parents[4] / "shared/golden/golden_seed0.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def record(model, monkeypatch):
    """The batches that the model's backbone receives from now on."""
    seen, forward = [], model.backbone.forward

    def recorded(x):
        seen.append(x.clone())
        return forward(x)

    monkeypatch.setattr(model.backbone, "forward", recorded)
    return seen


def formula(image, canvas):
    """(3, h, w) in 0–255 → (3, S, S): (x/255 - mean) / std, then zeros outside the content."""
    result = torch.zeros(3, canvas, canvas, dtype=torch.float64)
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    result[:, : image.shape[1], : image.shape[2]] = (image.double() / 255 - mean) / std
    return result


def check(got, image):
    torch.testing.assert_close(got.double(), formula(image, got.shape[-1]), atol=5e-6, rtol=0)
    assert not got[:, image.shape[1] :].any() and not got[:, :, image.shape[2] :].any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalised_inside_and_zero_outside_the_content(monkeypatch, dtype):
    model = build_model(tiny_config()).eval()
    seen = record(model, monkeypatch)
    sizes = [(84, 112), (112, 30), (112, 112), (1, 5)]
    images = [(torch.rand(3, h, w) * 255).to(dtype) for h, w in sizes]
    assert model.encode_images(images).image_sizes == sizes
    for got, image in zip(torch.cat(seen), images, strict=True):
        check(got, image)


def test_without_padding_each_picture_is_encoded_at_its_own_size(monkeypatch):
    """Padded to the stride alone; beyond, features go on. Alike neighbours share a batch."""
    model = build_model(tiny_config("INPUT.MULTIPLE", 14)).eval()
    seen = record(model, monkeypatch)
    images = [torch.rand(3, h, w) * 255 for h, w in [(84, 112), (84, 112), (30, 112), (84, 112)]]
    maps = model.encode_images(images).map
    assert [tuple(x.shape) for x in seen] == [(2, 3, 84, 112), (1, 3, 42, 112), (1, 3, 84, 112)]
    for got, image in zip(torch.cat([seen[0], seen[2]]), [*images[:2], images[3]], strict=True):
        content = formula(image, 112)[:, :84]
        torch.testing.assert_close(got.double(), content, atol=5e-6, rtol=0)
    assert maps.shape == (4, 24, 8, 8)
    assert (maps[0, :, 6:] == maps[0, :, 5:6]).all() and (maps[2, :, 3:] == maps[2, :, 2:3]).all()
    padded = build_model(tiny_config()).eval()
    padded.load_state_dict(model.state_dict())
    expected = padded.encode_images(images).map
    torch.testing.assert_close(expected[0, :, :6], maps[0, :, :6])
    # as training asks for them; what is remembered of one is not taken for the other
    assert torch.equal(model.encode_images(images, padded=True).map, expected)
    assert torch.equal(model.encode_images(images).map, maps) and not torch.equal(maps, expected)


def test_references_and_targets_are_encoded_alike(monkeypatch):
    model = build_model(tiny_config()).eval()
    seen = record(model, monkeypatch)
    episode = tiny_episode(0, 1)
    reference = episode["references"][0]
    for part in (episode, reference):
        part["image"] = part["image"] + torch.rand(part["image"].shape)  # between the 8-bit values
    model([episode])
    for got, part in zip(torch.cat(seen), (episode, reference), strict=True):
        check(got, part["image"])


def test_remembered_features_tell_the_types_apart():
    image = torch.zeros(3, 4, 6)
    keys = {FeatureMemory.key(image.to(t)) for t in (torch.uint8, torch.float32, torch.int32)}
    assert len(keys) == 3


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference files are not here")
def test_the_released_encoder_input(monkeypatch):
    """Case C: content smaller than the canvas, padded with 128 by the released loader."""
    from safetensors.torch import load_file

    golden = load_file(GOLDEN)
    model = build_model(tiny_config(canvas=224)).eval()
    seen, images = record(model, monkeypatch), []
    for part in ("target", "ref"):
        image = golden[f"C/in/{part}_image"]
        height, width = golden[f"C/in/{part}_ori_size"].tolist()
        assert (height, width) != (224, 224)
        images.append(image[:, :height, :width])
    model.encode_images(images)
    torch.testing.assert_close(torch.cat(seen), golden["C/encoder_input"], atol=5e-6, rtol=0)


def test_the_way_of_resizing_is_part_of_the_fingerprint(tmp_path):
    default, released = (
        build_model(tiny_config(*opts)).eval() for opts in ((), ("INPUT.RESIZE", "float"))
    )
    released.load_state_dict(default.state_dict())
    assert released.fingerprint == {**default.fingerprint, "resize": "float"}
    default.encode_context(tiny_episode(0, 1)["references"]).save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="another model: resize: context None, model 'float'"):
        Context.load(tmp_path / "c.safetensors").check(released.fingerprint)
    said = "INPUT.RESIZE is 'cv2'; it must be 'pil', 'float' or 'squash'"
    with pytest.raises(ValueError, match=said):
        build_model(tiny_config("INPUT.RESIZE", "cv2"))
