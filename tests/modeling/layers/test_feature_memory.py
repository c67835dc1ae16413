import torch
from detectron2.modeling import build_model

from segic_d2.modeling.layers.feature_memory import FeatureMemory
from tests.tiny import tiny_config, tiny_episode


def test_the_least_recently_used_make_room():
    memory = FeatureMemory(megabytes=3 * 400 / 2**20)  # three maps of 100 floats
    maps = [torch.full((4, 5, 5), float(i)) for i in range(5)]
    for i in range(3):
        memory.put(i, maps[i])
    assert torch.equal(memory.get(0), maps[0])  # now 1 is the oldest
    memory.put(3, maps[3])
    assert memory.get(1) is None and all(memory.get(i) is not None for i in (0, 2, 3))
    memory.put(9, torch.zeros(4, 10, 10))  # larger than all of it
    assert memory.get(9) is None and memory.get(3) is not None
    memory.use("other weights")
    assert memory.get(0) is None


def test_remembered_features_are_the_features_and_are_computed_once(monkeypatch):
    torch.manual_seed(0)
    plain = build_model(tiny_config())
    model = build_model(tiny_config("MODEL.SEGIC.FEATURE_MEMORY", 10))
    model.load_state_dict(plain.state_dict())
    seen = []
    forward = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x: seen.append(len(x)) or forward(x))
    images = [tiny_episode(i)["image"] for i in (0, 1, 0)]
    for _ in range(2):
        got = model.encode_images(images)
        expected = plain.encode_images(images)
        torch.testing.assert_close(got.map, expected.map, atol=1e-6, rtol=0)
        assert got.image_sizes == expected.image_sizes
    assert seen == [2]
    with torch.no_grad():
        model.backbone.patch.weight.mul_(2)  # other weights: nothing remembered is valid
    changed = model.encode_images(images)
    assert seen == [2, 2] and not torch.allclose(changed.map, got.map)


def test_the_same_bytes_in_another_shape_are_another_image():
    image = torch.arange(3 * 4 * 6, dtype=torch.uint8).reshape(3, 4, 6)
    assert FeatureMemory.key(image) != FeatureMemory.key(image.reshape(3, 6, 4))
    assert FeatureMemory.key(image) == FeatureMemory.key(image.clone())
