import numpy as np
import pytest
import torch

from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from tests.data import toy
from tests.data.mappers.parts import check, episodes, mapper


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


def test_absent_entities_need_complete_annotations(tmp_path, caplog):
    dataset = toy.coco(tmp_path)
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
