import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.data.episodes import generator
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from tests.data import toy


def mapper(name, dataset, **options):
    return EPISODE_MAPPER_REGISTRY.get(name)(toy.config(**options), Source(dataset))


def episodes(mapping, number):
    for seed in range(number):
        yield mapping({**mapping.draw(generator(seed)), "seed": seed})


def check(episode, canvas=56):
    """The contract that every training episode keeps."""
    count = len(episode["entities"])
    height, width = episode["image"].shape[1:]
    assert episode["image"].dtype == torch.uint8 and max(height, width) <= canvas
    assert episode["masks"].dtype == torch.bool
    assert episode["masks"].shape == (count, height, width)
    shown = set()
    for reference in episode["references"]:
        masks = reference["masks"]
        assert reference["image"].dtype == torch.uint8 and masks.dtype == torch.float32
        assert masks.shape == (len(reference["entity_ids"]), *reference["image"].shape[1:])
        assert 0 <= masks.min() and masks.max() <= 1 and (masks.sum((1, 2)) > 0).all()
        shown |= set(reference["entity_ids"])
    assert shown == {e["id"] for e in episode["entities"]}


@pytest.mark.parametrize("form", list(toy.FORMS))
def test_semantic_episodes_of_every_form_keep_the_contract(tmp_path, form):
    dataset = toy.FORMS[form](tmp_path)
    options = {"input__semantic__max_entities": 2, "input__semantic__max_shots": 2}
    labelled = form in ("sem_seg", "folder_b")
    for episode in episodes(mapper("semantic", dataset, **options), 12):
        check(episode)
        assert (episode["height"], episode["width"]) == toy.SIZE
        assert episode["task"] == "semantic"
        assert all(r["file_name"] != episode["file_name"] for r in episode["references"])
        assert ("ignore" in episode) or not labelled
        if "ignore" in episode:
            assert episode["ignore"].shape == episode["image"].shape[1:]
            assert not (episode["ignore"] & (episode["masks"].all(0))).any()


def test_masks_lie_on_their_class(tmp_path):
    mapping = mapper("semantic", toy.coco(tmp_path), input__semantic__max_entities=3)
    for episode in episodes(mapping, 15):
        for entity, mask in zip(episode["entities"], episode["masks"], strict=True):
            if mask.sum() > 9:
                colour = episode["image"][:, mask].float().mean(1)
                assert colour.argmax() == entity["id"]
        for reference in episode["references"]:
            inside = reference["masks"][0] > 0.9
            if inside.sum() > 9:
                colour = reference["image"][:, inside].float().mean(1)
                assert colour.argmax() == reference["entity_ids"][0]


def test_every_reference_shows_its_object_even_when_zoomed_away(tmp_path):
    options = {"input__semantic__scale": (6.0, 6.0), "input__max_redraws": 1}
    mapping = mapper("semantic", toy.coco(tmp_path), **options)
    found = list(episodes(mapping, 25))
    for episode in found:
        check(episode)
    whole = [r["image"].shape[1:] == (42, 56) for e in found for r in e["references"]]
    assert any(whole) and not all(whole)  # some fell back to the plain view
    assert any(not e["masks"].any() for e in found)  # targets may stay empty


def test_redraws_bring_targets_back(tmp_path):
    dataset = toy.coco(tmp_path)
    empty = {}
    for redraws in (0, 10):
        options = {"input__semantic__scale": (4.0, 4.0), "input__max_redraws": redraws}
        found = episodes(mapper("semantic", dataset, **options), 25)
        empty[redraws] = sum(not e["masks"].any() for e in found)
    assert empty[0] > 3 * max(empty[10], 1)


def test_names_are_kept_with_their_probability(tmp_path):
    dataset = toy.folder_a(tmp_path)
    for probability, low, high in ((0.0, 0, 0), (0.75, 20, 38), (1.0, 40, 40)):
        mapping = mapper("semantic", dataset, input__text_keep_prob=probability)
        names = [e["entities"][0]["name"] for e in episodes(mapping, 40)]
        assert low <= sum(n is not None for n in names) <= high
        assert set(names) <= {None, *toy.NAMES}


def test_the_reversed_text_is_drawn_apart(tmp_path):
    mapping = mapper("semantic", toy.coco(tmp_path), input__semantic__max_entities=2)
    kept = [
        (e["name"] is not None, e["reversed_name"] is not None)
        for episode in episodes(mapping, 100)
        for e in episode["entities"]
    ]
    for way in (0, 1):
        assert 0.6 < np.mean([k[way] for k in kept]) < 0.9
    assert 0.45 < np.mean([k == (True, True) for k in kept]) < 0.68  # 0.75²
    names = {e["reversed_name"] for x in episodes(mapping, 20) for e in x["entities"]}
    assert names == {None, *toy.NAMES}


@pytest.mark.parametrize("form", ["coco", "sem_seg"])
def test_absent_entities_have_empty_masks(tmp_path, form):
    """The first entity only, whose absence costs no redraws; the others must still be seen."""
    dataset = toy.FORMS[form](tmp_path)
    options = {"input__semantic__max_entities": 3, "input__max_redraws": 3}
    mapping = mapper("semantic", dataset, input__absent_prob=1.0, **options)
    views = {}
    for episode in episodes(mapping, 15):
        check(episode)
        shown = episode["masks"].flatten(1).any(1)
        assert not shown[0] and shown[1:].float().mean() > 0.5 or len(shown) == 1
        colour = episode["entities"][0]["id"] - (form == "sem_seg")
        assert episode["references"][0]["entity_ids"] == [episode["entities"][0]["id"]]
        inside = episode["references"][0]["masks"][0] > 0.9
        if inside.sum() > 9:
            found = episode["references"][0]["image"][:, inside].float().mean(1).argmax()
            assert found == colour
        views[episode["seed"]] = episode["image"]
    once = mapper(
        "semantic", dataset, input__absent_prob=1.0, **{**options, "input__max_redraws": 0}
    )
    same = [torch.equal(views[e["seed"]], e["image"]) for e in episodes(once, 15)]
    assert sum(same) > 10


def test_absent_probabilities_are_checked(tmp_path, caplog):
    dataset = toy.coco(tmp_path)
    with pytest.raises(ValueError, match="INPUT.ABSENT_PROB is 1.5"):
        mapper("semantic", dataset, input__absent_prob=1.5)
    source = Source(dataset)
    source.records = [{**r, "neg_category_ids": []} for r in source.records]
    federated = EPISODE_MAPPER_REGISTRY.get("semantic")(toy.config(input__absent_prob=1.0), source)
    assert f"does not apply to dataset '{dataset}'" in caplog.text
    assert all(e["masks"].any() for e in episodes(federated, 5))


def test_references_say_what_is_unknown(tmp_path):
    mapping = mapper("semantic", toy.sem_seg(tmp_path))
    for episode in episodes(mapping, 5):
        (reference,) = episode["references"]
        assert reference["ignore"].dtype == torch.bool
        assert reference["ignore"].shape == reference["image"].shape[1:]
        assert not (reference["ignore"] & (reference["masks"][0] > 0.9)).any()


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


def test_a_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    dataset = toy.folder_a(tmp_path)
    mapping = mapper("one_shot", dataset)
    record = mapping.records[0]
    Image.fromarray(np.full((10, 12), 255, np.uint8)).save(record["mask_file_name"])
    message = rf"{record['file_name']} \({record['mask_file_name']}\) is 12x10 px.* 64x48 px"
    with pytest.raises(ValueError, match=message):
        mapping.plain_reference(0, 0)


def test_an_empty_reference_and_an_unreadable_image_are_named(tmp_path):
    mapping = mapper("one_shot", toy.folder_a(tmp_path))
    record = mapping.records[0]
    Image.fromarray(np.zeros(toy.SIZE, np.uint8)).save(record["mask_file_name"])
    with pytest.raises(ValueError, match=f"{record['file_name']} shows nothing of entity 0"):
        mapping.plain_reference(0, 0)
    with open(record["file_name"], "wb") as file:
        file.write(b"broken")
    with pytest.raises(ValueError, match=f"cannot read image {record['file_name']}"):
        mapping({"episode": 0, "class": 0, "target": 0, "references": [1]})


def test_targets_keep_their_records_fields_and_check_their_size(tmp_path):
    mapping = mapper("target", toy.coco(tmp_path))
    record = Source(toy.coco(tmp_path)).records[2]
    found = mapping(record)
    assert found["image"].shape == (3, 42, 56) and "annotations" not in found
    kept = {k: found[k] for k in ("file_name", "image_id", "height", "width")}
    assert kept == {k: record[k] for k in kept}
    with pytest.raises(ValueError, match="2.png is 64x48 px.*says 64x50 px"):
        mapping({**record, "height": 50})
