"""Every ordered pair of a folder, shots by the seed, and targets without the class."""

import itertools

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.benchmarks.pairs import PairFolder


def make(root, **pictures):
    """A folder of class folders; pictures of the same letter have the same pixels."""
    for name, letters in pictures.items():
        (root / name).mkdir(parents=True)
        for number, letter in enumerate(letters):
            pixels = np.full((6, 8, 3), ord(letter), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.bmp")
            mask = np.zeros((6, 8), dtype=np.uint8)
            mask[1:3, 2:5] = 255
            Image.fromarray(mask).save(root / name / f"{number}.png")
    return PairFolder(root)


def test_one_shot_episodes_are_all_ordered_pairs(tmp_path):
    folder = make(tmp_path, big_dot="abc", square="de")
    found = folder.episodes()
    assert found.classes == {0: "big dot", 1: "square"} and not found.standard
    expected = {
        (label, (r,), t)
        for label, own in enumerate(folder.masks.values())
        for r, t in itertools.permutations(own, 2)
    }
    assert {(e.class_id, e.references, e.target) for e in found.episodes} == expected
    assert len(found.episodes) == 8 and found == folder.episodes(seed=5)  # nothing is drawn
    sample = folder.read(next(iter(folder.masks["square"])), 1)
    assert sample.mask.sum() == 6 and not folder.read(sample.image, 0).mask.any()
    assert [f.kind for f in folder.files(sample.image)] == ["image", "mask"]


def test_shots_are_drawn_by_the_seed_and_never_show_the_target(tmp_path, caplog):
    folder = make(tmp_path, a="abcdefghij", b="klm")
    found = folder.episodes(shots=5)
    assert found == folder.episodes(shots=5) != folder.episodes(shots=5, seed=1)
    assert "b: 3 pictures, so that a target has 2 references, not 5" in caplog.text
    assert "a: " not in caplog.text
    names = list(folder.masks["b"])
    last = [(tuple(n for n in names if n != target), target) for target in names]  # K = n - 1
    assert [(e.references, e.target) for e in found.episodes[-3:]] == last
    assert len(set(found.episodes)) == len(found.episodes) and 80 < len(found.episodes) - 3 <= 90
    for episode in found.episodes[:-3]:
        assert episode.target not in episode.references and len(set(episode.references)) == 5
        assert {episode.target, *episode.references} <= set(folder.masks["a"])
    with pytest.raises(ValueError, match="shots is 0"):
        folder.episodes(shots=0)


def test_absent_targets_show_nothing_of_the_class(tmp_path):
    letters = {"x": "ab", "y": "bc", "z": "dae"}
    folder = make(tmp_path / "some", **letters)
    episodes = folder.episodes()
    found = folder.absent(episodes)
    assert found == folder.absent(episodes)
    for one, other in zip(episodes.episodes, found.episodes, strict=True):
        assert (one.class_id, one.references) == (other.class_id, other.references)
        shown = chr(np.asarray(Image.open(other.target))[0, 0, 0])
        assert shown not in letters[folder.classes[other.class_id]]
    all_shown = make(tmp_path / "all", x="ab", y="ba")
    with pytest.raises(ValueError, match="absence cannot be measured"):
        all_shown.absent(all_shown.episodes())


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        PairFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{tmp_path} has no class folders"):
        PairFolder(tmp_path)
    with pytest.raises(ValueError, match=r"square has 1 picture.* a pair needs two"):
        make(tmp_path, square="a")
    Image.new("L", (8, 6)).save(tmp_path / "square/0.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "square/1.bmp")
    Image.new("L", (8, 6), 255).save(tmp_path / "square/1.png")
    folder = PairFolder(tmp_path)
    with pytest.raises(ValueError, match=r"square/0.png is an empty mask"):
        folder.read(str(tmp_path / "square/0.bmp"), 0)
