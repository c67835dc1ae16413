import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from segic_d2.predictor.references import read_references
from segic_d2.structures.frame import to_label_map
from tests.tiny import tiny_config, tiny_episode

H, W = 60, 90


def picture(seed, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def square(y=10, x=20, size=(H, W)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + 20, x : x + 30] = True
    return mask


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return InContextPredictor(tiny_config(), device="cpu").model


@pytest.fixture
def predictor(model):
    return InContextPredictor.from_model(model)


@pytest.fixture
def files(tmp_path):
    """cat.png, dog.png and their masks."""
    for seed, name in enumerate(("cat", "dog")):
        Image.fromarray(picture(seed)).save(tmp_path / f"{name}.png")
        Image.fromarray(square(x=20 + seed)).save(tmp_path / f"{name}_mask.png")
    return tmp_path


@pytest.fixture
def references(files):
    return [(files / f"{n}.png", files / f"{n}_mask.png", n) for n in ("cat", "dog")]


def entities(predictor, references):
    """(names, ids) of the entities, and the reference entries with their entity ids."""
    read, names = read_references(references, predictor.model.input)
    return names, [r["entity_ids"].tolist() for r in read]


def test_prediction_is_the_models_own(predictor, references):
    predictor.set_references(references)
    target = picture(5, (50, 37))
    result = predictor(target, with_propagated_mask=True)
    read, names = read_references(references, predictor.model.input)
    (view,), _ = read_references([(target, square(size=(50, 37)))], predictor.model.input)
    episode = {**tiny_episode(0), "image": view["image"], "references": read}
    episode |= {"height": 50, "width": 37}
    episode["entities"] = [{"id": i, "name": n} for i, n in names.items()]
    (expected,) = predictor.model.inference([episode], outputs=("masks", "propagated_mask"))
    assert result.masks.shape == (2, 50, 37) and result.masks.any() and not result.masks.all()
    np.testing.assert_array_equal(result.masks, expected["masks"].numpy())
    np.testing.assert_allclose(result.scores, expected["scores"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(result.propagated, expected["propagated_mask"].numpy(), atol=1e-6)
    assert (result.names, result.ids, result.file_name) == (["cat", "dog"], [1, 2], "")
    np.testing.assert_array_equal(result.image, target)
    assert len(result) == 2 and predictor(target).propagated is None


def test_label_map_equals_a_plain_loop(predictor):
    predictor.set_references([(picture(i), square(i, 5 * i), f"e{i}") for i in range(4)])
    result = predictor(picture(9))
    logits = result._full_size(result._logits)
    labels = result.label_map(background=7)
    for y in range(0, H, 3):
        for x in range(0, W, 3):
            best = max(range(4), key=lambda n: logits[n, y, x])
            expected = result.ids[best] if logits[best, y, x] > 0 else 7
            assert labels[y, x] == expected, (y, x)
    assert len(np.unique(labels)) > 2  # the picture has background and at least two entities
    merged = to_label_map(torch.from_numpy(logits), result.ids, 7)
    np.testing.assert_array_equal(labels, merged.numpy())
    np.testing.assert_array_equal(labels != 7, result.masks.any(0))
    with pytest.raises(ValueError, match="background 2 is the id"):
        result.label_map(background=2)


def test_a_few_full_size_masks_at_a_time_change_nothing(predictor, references, monkeypatch):
    predictor.set_references(references)
    whole = predictor(picture(5))
    monkeypatch.setattr("segic_d2.structures.frame.FULL_SIZE_PIXELS", 1)
    one_by_one = predictor(picture(5))
    np.testing.assert_array_equal(whole.masks, one_by_one.masks)
    np.testing.assert_array_equal(whole.scores, one_by_one.scores)
