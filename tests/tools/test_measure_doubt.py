"""The tool that compares measures of doubt."""

import numpy as np
import pytest
import torch
from PIL import Image

import measure_doubt
from scored_pairs import Folders
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation


def test_the_share_of_the_error_by_hand():
    assert measure_doubt.share([0.9, 0.1, 0.5, 0.2], [1, 3, 4, 2]) == pytest.approx(0.1)
    assert measure_doubt.share([0.9, 0.1, 0.5, 0.2], [1, 3, 4, 2], 0.5) == pytest.approx(0.5)
    # half of the second picture, and equal doubts in any order
    assert measure_doubt.share([3, 2, 1], [1, 2, 3], 0.5) == pytest.approx(2 / 6)
    assert measure_doubt.share([1, 1, 0, 0], [4, 0, 0, 0]) == pytest.approx(0.5)
    assert measure_doubt.share([0] * 8, np.arange(8)) == pytest.approx(0.25)


def test_areas_of_pictures_that_need_correction():
    rows = [
        {"K": k, "setting": setting, "home": "a", "error": 1 - x, "IoU": x}
        for k in measure_doubt.SHOTS
        for setting in ("shown", "other", "six")
        for x in (0.2, 0.6, 0.9, 1.0)
    ]
    own = measure_doubt.columns(rows, np.array([x["error"] for x in rows]))
    oracle = 0.8 / (0.8 + 0.4 + 0.1)
    assert own == pytest.approx([*[oracle] * 6, oracle, 1, 1, 0.4 * oracle])
    # the other way round, the four pictures of lowest error fill the quarter last
    turned = measure_doubt.columns(rows, np.array([x["IoU"] for x in rows]))
    assert turned == pytest.approx([*[0] * 6, 0, 0, 0, 0])


def test_cells_of_what_is_left_out_are_none():
    logits = torch.full((2, 4, 4), -1.0)
    logits[0, :2], logits[1, 2:], logits[:, :, 3] = 1, 1, 9
    frame = Frame(32, (32, 24), (32, 24))  # 4 × 3 of 4 × 4 cells
    found = Segmentation(logits, torch.tensor([0.9, 0.1]), [4, 7], [None] * 2, frame)
    whole, shown = measure_doubt.cells(found), measure_doubt.cells(found, 0.15)
    assert whole.shape == (2, 4, 3) and whole.sum((1, 2)).tolist() == [6, 6]
    assert (shown[0] == whole[0]).all() and not shown[1].any()
    assert measure_doubt.agreement(whole, shown).tolist() == [1, 0]
    assert measure_doubt.agreement(whole[:1] & False, shown[1:]).tolist() == [1]


def test_what_is_asked_for_is_never_of_the_target(tmp_path):
    rng = np.random.default_rng(0)
    for kind, count in (("bird", 3), ("pot", 2), ("rabbit", 4)):
        (tmp_path / kind).mkdir()
        for n in range(count):
            image = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / kind / f"{n}.bmp")
            Image.fromarray(np.eye(8) > 0).save(tmp_path / kind / f"{n}.png")
    folders = Folders([tmp_path])
    one = list(folders.asked_for(1, 2))
    assert [x[0] for x in one].count("shown") == 3 * 2 + 2 + 4 * 3
    assert [x[0] for x in one].count("other") == 20 and [x[0] for x in one].count("six") == 18
    three = list(folders.asked_for(3, 1))
    assert {k for x in three for k in x[3]} == {"bird", "rabbit"}  # two references at least
    for setting, _, file, asked, truths in one + three:
        own = file.split("/")[-2]
        assert [*truths] == ([] if setting == "other" else [own])
        assert (own in asked) == (setting != "other")
        for kind, references in asked.items():
            assert all(x == kind and f != file and f"/{kind}/" in f for _, x, f in references)
    assert max(len(r) for x in three for r in x[3].values()) == 3
    again = list(folders.asked_for(3, 1))
    assert [x[:4] for x in again] == [x[:4] for x in three]  # the same draw
