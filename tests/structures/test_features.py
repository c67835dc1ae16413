"""Episodes that bring features, leave them in a store, or mix both with plain pixels."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.tiny import tiny_config, tiny_episode


class Store(dict):
    """The least that the model asks of a store."""

    def __init__(self, dtype=torch.float16):
        self.dtype = dtype

    def put(self, key, features):
        self.setdefault(key, features)


def images_of(batch):
    return [x for episode in batch for x in (episode, *episode["references"])]


def keyed(batch):
    for number, image in enumerate(images_of(batch)):
        image["feature_key"] = f"{image['file_name']} {number}"
    return batch


def brought(batch, store):
    """The same batch as the loader gives it when every view is found."""
    for image in images_of(batch):
        key = image.pop("feature_key")
        image.update(features=store[key], image_size=tuple(image.pop("image").shape[1:]))
    return batch


def batch(training=True):
    return [tiny_episode(i, training=training, size=(84, 112 - 14 * i)) for i in range(3)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(tiny_config())


@pytest.fixture
def calls(model, monkeypatch):
    seen, forward = [], model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x: seen.append(len(x)) or forward(x))
    return seen


def run(model, episodes, training):
    model.train(training)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model(episodes)


def same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_hit_and_miss_give_the_same_to_the_bit_in_any_mixture(model, calls, training, dtype):
    plain = run(model, batch(training), training)
    count = len(images_of(batch()))
    calls.clear()
    model.encoder.store = store = Store(dtype)
    missed = run(model, keyed(batch(training)), training)
    assert calls == [1] * count and len(store) == count  # one by one, whatever the batch
    assert all(f.dtype == dtype and f.device.type == "cpu" for f in store.values())
    hit = run(model, brought(keyed(batch(training)), store), training)
    assert same(missed, hit) and len(calls) == count
    halves = brought(keyed(batch(training)), store)[:2] + keyed(batch(training))[2:]
    assert same(missed, run(model, halves, training)) and len(calls) == count
    if dtype == torch.float32:  # and the rounding is all that the store changes
        assert training is False or all(
            torch.allclose(plain[k], missed[k], rtol=1e-5) for k in plain
        )
    mixed = batch(training)
    mixed = brought(keyed([mixed[0]]), store) + mixed[1:]
    calls.clear()
    result = run(model, mixed, training)  # two episodes come as plain pixels
    assert sum(calls) == count - len(images_of(mixed[:1]))
    if training:
        assert all(torch.allclose(result[k], plain[k], rtol=1e-2) for k in plain)


def test_rounding_is_all_that_a_store_changes(model):
    images = images_of(batch())
    plain = model.encode_images([x["image"] for x in images])
    model.encoder.store = Store()
    stored = model.encode_images(images_of(keyed(batch())))
    assert stored.image_sizes == plain.image_sizes
    assert torch.allclose(stored.map, plain.map, rtol=2**-10, atol=1e-6)
    assert torch.equal(stored.map, stored.map.half().float())


def test_a_view_that_comes_twice_is_encoded_once(model, calls):
    model.encoder.store = Store()
    image = {"image": tiny_episode(0)["image"], "feature_key": "a"}
    first = model.encode_images([image, dict(image)])
    assert calls == [1] and torch.equal(first.map[0], first.map[1])


def test_without_a_store_keys_mean_nothing(model, calls):
    images = images_of(batch())
    expected = model.encode_images([x["image"] for x in images])
    assert torch.equal(model.encode_images(images_of(keyed(batch()))).map, expected.map)


def test_a_context_may_come_from_features(model):
    model.encoder.store = store = Store()
    model.encode_images(images_of(keyed(batch())))
    missed = model.encode_context(keyed(batch())[0]["references"])
    hit = model.encode_context(brought(keyed(batch()), store)[0]["references"])
    assert torch.equal(missed.tensors["prototypes"], hit.tensors["prototypes"])


def test_features_under_autocast_are_those_of_full_precision(model):
    model.encoder.store = store = Store()
    with torch.autocast("cpu", torch.bfloat16):
        model.encode_images(images_of(keyed(batch())))
    other = Store()
    model.encoder.store = other
    model.encode_images(images_of(keyed(batch())))
    assert all(torch.equal(store[k], other[k]) for k in store)


def test_features_that_do_not_fit_are_named(model):
    wrong = {"features": torch.zeros(24, 7, 8), "image_size": (98, 112), "file_name": "x.jpg"}
    with pytest.raises(ValueError, match=r"features of x.jpg are \(24, 7, 8\).*\(24, 8, 8\)"):
        model.encode_images([wrong])
    model.encoder.store = Store()
    with torch.no_grad():
        model.backbone.patch.bias.fill_(float("nan"))
    image = {"image": tiny_episode(0)["image"], "feature_key": "a", "file_name": "x.jpg"}
    with pytest.raises(ValueError, match="FEATURE_CACHE.DTYPE: the features of x.jpg do not fit"):
        model.encode_images([image])
