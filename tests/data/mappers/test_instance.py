import pytest
import torch

from tests.data import toy
from tests.data.mappers.parts import check, episodes, mapper


def test_instance_episodes_are_two_views_of_one_image(tmp_path):
    mapping = mapper("instance", toy.coco(tmp_path), input__instance__max_masks=2)
    for episode in episodes(mapping, 20):
        check(episode)
        assert episode["task"] == "instance"
        (reference,) = episode["references"]
        assert reference["file_name"] == episode["file_name"]
        assert episode["image"].shape == reference["image"].shape == (3, 56, 56)
        assert not torch.equal(episode["image"], reference["image"])
        assert [e["id"] for e in episode["entities"]] == list(range(len(episode["masks"])))
        assert 1 <= len(episode["masks"]) <= 2
        assert episode["masks"].flatten(1).any(1).all()
        assert not (episode["masks"].sum(0) > 1).any()  # the toy objects do not overlap
        for entity, mask in zip(episode["entities"], episode["masks"], strict=True):
            assert entity["name"] == toy.NAMES[entity["category"]]
            if mask.sum() > 30:
                colour = episode["image"][:, mask].float().mean(1)
                assert colour.argmax() == entity["category"]


def test_instance_views_fall_back_to_the_whole_image(tmp_path):
    options = {"input__instance__area": (0.01, 0.01), "input__max_redraws": 0}
    mapping = mapper("instance", toy.coco(tmp_path), **options)
    found = list(episodes(mapping, 20))
    for episode in found:
        check(episode)
    assert any(e["image"].shape == (3, 42, 56) and len(e["masks"]) == 3 for e in found)


def test_instance_episodes_need_annotations(tmp_path):
    dataset = toy.sem_seg(tmp_path)
    with pytest.raises(ValueError, match=f"annotations.*{dataset}.*EPISODE_MAPPERS"):
        mapper("instance", dataset)
