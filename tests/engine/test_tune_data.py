"""Labelled pictures to tune on: what is held out, and the episodes of the others."""

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.engine.tune_data import Labelled, TuneEpisodes, read_labelled, some, split
from segic_d2.structures.picture import Picture
from tests.modeling.segic.parts import build


def picture(seed, *ids, size=(60, 90)):
    """Noise with a bright square for each entity."""
    rng = np.random.default_rng(seed)
    image, masks = rng.integers(0, 100, (*size, 3), dtype=np.uint8), {}
    for i in ids:
        y, x = rng.integers(0, 30, 2)
        masks[i] = np.zeros(size, dtype=bool)
        masks[i][y : y + 20, x : x + 20] = True
        image[masks[i]] = 200 + i
    return Labelled(image, masks, f"{seed}.png")


def shown(pictures):
    return [(p.file_name, *p.masks) for p in pictures]


def test_a_quarter_of_each_class_is_held_out_and_two_are_left():
    pictures = [picture(n, 1) for n in range(8)] + [picture(n, 2) for n in range(8, 11)]
    learned, held = split(pictures, {1: "cat", 2: "dog"}, 0)
    assert [sum(i in p.masks for p in held) for i in (1, 2)] == [2, 1]
    assert sorted(shown(learned) + shown(held)) == sorted(shown(pictures))
    assert shown(split(pictures, {1: "cat", 2: "dog"}, 0)[1]) == shown(held)
    assert any(shown(split(pictures, {1: "a", 2: "b"}, s)[1]) != shown(held) for s in (1, 2, 3))
    both = [picture(n, 1, 2) for n in range(3)] + [picture(n, 1) for n in range(3, 12)]
    learned, held = split(both, {1: "a", 2: "b"}, 0)
    assert [sum(i in p.masks for p in held) for i in (1, 2)] == [3, 1]
    with pytest.raises(
        ValueError, match=r"^class 'dog' has 2 pictures with a mask; tuning takes 3 "
    ):
        split(pictures[:10], {1: "cat", 2: "dog"}, 0)
    with pytest.raises(ValueError, match=r"^entity 7 has 1 picture with"):
        split([picture(0, 7)], {7: None}, 0)


def test_a_copy_keeps_most_of_each_mask():
    one = picture(0, 1, 2, size=(200, 300))
    one.ignore = one.masks[1]
    copies = [one.changed(seed) for seed in range(8)]
    for copy in copies:
        assert copy.image.shape[:2] == copy.masks[1].shape == copy.ignore.shape
        assert np.array_equal(copy.ignore, copy.masks[1])
        assert all(copy.masks[i].sum() >= 0.6 * 400 for i in (1, 2))
    assert len({c.image.shape for c in copies}) > 4
    assert np.array_equal(one.changed(3).image, copies[3].image)


def test_large_pictures_become_smaller():
    one = picture(0, 1, size=(200, 300))
    assert one.smaller(300) is one
    half = one.smaller(150)
    assert half.image.shape == (100, 150, 3) and half.masks[1].dtype == bool
    assert half.masks[1].sum() == pytest.approx(100, abs=25)


def test_data_sets_are_joined_by_the_names_of_their_classes(tmp_path):
    for place in ("a/cat/1", "a/dog/1", "b/dog/1", "b/elk/1"):
        file = tmp_path / f"{place}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 40)).save(file)
        Image.new("L", (80, 40), 255).save(file.with_suffix(".png"))
    pictures, names = read_labelled([f"folder:{tmp_path / x}" for x in "ab"], 40)
    assert names == {0: "cat", 1: "dog", 2: "elk"}
    assert [list(p.masks) for p in pictures] == [[0], [1], [1], [2]]
    assert all(p.image.shape == (20, 40, 3) and p.masks for p in pictures)


def test_of_many_some_are_drawn(caplog):
    assert some(range(5), 5) == [0, 1, 2, 3, 4] and not caplog.text
    drawn = some(range(100), 40, seed=3)
    assert drawn == sorted(set(drawn)) and len(drawn) == 40 and drawn != some(range(100), 40)
    assert "40 of 100 pictures are looked at" in caplog.text


def test_a_picture_without_a_mask_is_left_out(tmp_path):
    for name, value in (("1", 255), ("2", 0)):
        (tmp_path / "red").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / f"red/{name}.jpg")
        Image.new("L", (8, 8), value).save(tmp_path / f"red/{name}.png")
    (one,), names = read_labelled([f"folder:{tmp_path}"], 40)
    assert one.file_name.endswith("1.jpg") and names == {0: "red"}


def test_episodes_bring_the_features_of_their_views(monkeypatch):
    model = build("INPUT.MULTIPLE", 14, "INPUT.REFERENCE_ZOOM", 0.7)
    pictures = [picture(n, 1 + n % 2) for n in range(6)]
    episodes = TuneEpisodes(model, pictures, {1: "odd", 2: "even"}, 3, seed=5)
    (first,) = (x for x, _ in zip(episodes, range(1), strict=False))
    assert len(first) == 3
    lacking = 0
    for position in range(40):
        x = episodes.episode(position)
        (entity,) = x["entities"]
        target = x["image_id"]
        assert "image" not in x and x["masks"].dtype == torch.bool
        assert x["masks"].shape == (1, *x["image_size"])
        lacking += not x["masks"].any()
        assert (entity["id"] in pictures[target].masks) == bool(x["masks"].any())
        for reference in x["references"]:
            own = pictures[int(reference["file_name"].removesuffix(".png"))]
            assert own is not pictures[target] and entity["id"] in own.masks
            assert reference["masks"].shape == (1, *reference["image_size"])
            assert reference["entity_ids"] == [entity["id"]]
    assert 0 < lacking < 12
    plain = episodes.views[0][0]
    for role, view in (
        ("target", model.input.target(Picture(pictures[0].image))),
        ("reference", pictures[0].reference(model.input, [1])),
    ):
        expected = model.encode_images([view["image"]]).map[0].half()
        assert torch.equal(plain[role]["features"], expected)
    monkeypatch.setattr(model.encoder, "_run_backbone", None)  # nothing is encoded from now on
    losses = model.train()(first)
    assert all(torch.isfinite(x) for x in losses.values())


def test_a_class_of_one_picture_has_no_references():
    with pytest.raises(ValueError, match="'cat' has 1 picture with a mask; tuning takes 2"):
        TuneEpisodes(build(), [picture(0, 1), picture(1, 2), picture(2, 2)], {1: "cat", 2: "dog"})
