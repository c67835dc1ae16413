import numpy as np
import pytest
import torch
from PIL import Image

from tests.data import toy
from tests.data.mappers.parts import check, episodes, mapper


def test_one_shot_episodes_keep_the_ground_truth_at_full_size(tmp_path):
    mapping = mapper("one_shot", toy.sem_seg(tmp_path), input__canvas=28)
    plan = {"episode": 5, "class": 2, "target": 0, "references": [1, 3]}
    episode = mapping(plan)
    drawn = toy.label_map(next(toy.scenes())[1])
    np.testing.assert_array_equal(episode["gt_masks"][0], drawn == 2)
    np.testing.assert_array_equal(episode["gt_ignore"], drawn == 255)
    assert episode["image"].shape == (3, 21, 28) and episode["episode"] == 5
    assert episode["entities"] == [{"id": 2, "name": "green thing"}]
    assert [r["entity_ids"] for r in episode["references"]] == [[2], [2]]
    share = (toy.label_map(list(toy.scenes())[1][1]) == 2).mean()
    assert episode["references"][0]["masks"].mean().item() == pytest.approx(share, rel=0.15)
    again = mapping(plan)
    assert torch.equal(again["image"], episode["image"]) and again["seed"] == episode["seed"]


def test_references_are_zoomed_at_test_alone(tmp_path):
    """A cut about the class, resized like any picture; the target stays whole."""
    dataset = toy.coco(tmp_path)
    plain, near = (
        mapper("one_shot", dataset, input__canvas=56, input__reference_zoom=z) for z in (0.0, 1.0)
    )
    for i, class_id in [(i, c) for i in range(3) for c in range(2)]:
        _, _, masks, _ = plain.read_classes(i, [class_id])
        if not masks.any():
            continue
        a, b = plain.plain_reference(i, class_id), near.plain_reference(i, class_id)
        assert b["masks"].mean() > a["masks"].mean()
        rows, columns = (np.flatnonzero(b["masks"][0].numpy().max(k) > 0.5) for k in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) >= 50  # of 56
        plan = {"class": class_id, "target": i, "references": [i], "episode": 0}
        assert torch.equal(plain(plan)["image"], near(plan)["image"])
        assert not torch.equal(
            plain(plan)["references"][0]["masks"], near(plan)["references"][0]["masks"]
        )


def test_a_ten_pixel_object_reaches_the_reference(tmp_path):
    home = tmp_path / "classes" / "dot"
    home.mkdir(parents=True)
    for i in range(2):
        Image.fromarray(np.zeros((1500, 2000, 3), np.uint8)).save(home / f"{i}.jpg")
        mask = np.zeros((1500, 2000), np.uint8)
        mask[703 + i : 713 + i, 1201:1211] = 255
        Image.fromarray(mask).save(home / f"{i}.png")
    from segic_d2.data import register_folder_dataset

    name = toy.unique("dots")
    register_folder_dataset(name, tmp_path / "classes")
    for episode in episodes(mapper("semantic", name), 4):
        check(episode)
    reference = mapper("one_shot", name).plain_reference(0, 0)
    assert reference["image"].shape == (3, 42, 56) and reference["masks"].sum() > 0.05
