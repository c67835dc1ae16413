import numpy as np
import pytest

from segic_d2.data.episodes import (
    ClassIndex,
    derive_seed,
    draw_instance,
    draw_references,
    draw_semantic,
    generator,
    one_shot_episodes,
)

PRESENCE = [[0, 1], [1, 2], [0, 2], [0, 1, 2], [2], [1], []]


@pytest.fixture
def index():
    return ClassIndex(PRESENCE)


def test_the_first_episodes_of_a_seed_are_pinned(index):
    assert one_shot_episodes(index, 4, 2, 0) == [
        {"episode": 0, "class": 2, "target": 3, "references": [4, 1]},
        {"episode": 1, "class": 1, "target": 5, "references": [1, 3]},
        {"episode": 2, "class": 2, "target": 1, "references": [2, 4]},
        {"episode": 3, "class": 1, "target": 5, "references": [3, 0]},
    ]
    assert draw_semantic(generator(42, 0), index, max_entities=2, max_shots=2) == {
        "target": 3,
        "entities": [0, 2],
        "references": [(2, 0), (4, 2)],
    }
    plan = {"target": 1, "order": [3, 2, 0, 4, 1], "cap": 10}
    assert draw_instance(generator(42, 0), np.array([0, 5, 3])) == plan
    assert derive_seed(42, 7) == 4792747278572749750


def test_index_holds_both_directions(index):
    assert index.classes.tolist() == [0, 1, 2] and index.images.tolist() == [0, 1, 2, 3, 4, 5]
    for class_id in range(3):
        expected = [i for i, classes in enumerate(PRESENCE) if class_id in classes]
        assert index.images_of(class_id).tolist() == expected
    assert [index.classes_of(i).tolist() for i in index.images] == PRESENCE[:6]


def test_a_longer_test_list_begins_with_the_shorter(index):
    assert one_shot_episodes(index, 50, 1, 7)[:20] == one_shot_episodes(index, 20, 1, 7)
    assert one_shot_episodes(index, 50, 1, 7) != one_shot_episodes(index, 50, 1, 8)


def test_test_episodes_are_uniform_over_classes_and_never_use_the_target():
    presence = [[0]] * 300 + [[1]] * 5
    episodes = one_shot_episodes(ClassIndex(presence), 600, 3, 0)
    assert 250 < sum(e["class"] for e in episodes) < 350
    for e in episodes:
        assert e["target"] not in e["references"]
        assert len(set(e["references"])) == 3
        assert all(e["class"] in presence[i] for i in [e["target"], *e["references"]])


def test_references_repeat_only_when_the_class_has_no_more(index):
    for seed in range(20):
        references = draw_references(generator(seed), index, 0, 0, 5)  # others: images 2 and 3
        assert len(references) == 5 and set(references[:2]) == set(references) == {2, 3}


def test_semantic_draws_keep_their_limits(index):
    plans = [draw_semantic(generator(0, i), index, max_entities=3, max_shots=2) for i in range(300)]
    for plan in plans:
        assert len(set(plan["entities"])) == len(plan["entities"])
        assert set(plan["entities"]) <= set(PRESENCE[plan["target"]])
        shots = len(plan["references"]) / len(plan["entities"])
        assert shots in (1, 2)
        for image, class_id in plan["references"]:
            assert image != plan["target"] and class_id in PRESENCE[image]
    assert {len(p["entities"]) for p in plans} == {1, 2, 3}
    assert {len(p["references"]) for p in plans} == {1, 2, 3, 4, 6}


def test_class_first_and_image_first_weigh_classes_differently():
    index = ClassIndex([[0]] * 98 + [[1]] * 2)
    first = {
        draw: sum(draw_semantic(generator(i), index, draw=draw)["entities"][0] for i in range(300))
        for draw in ("class", "image")
    }
    assert 120 < first["class"] < 180 and first["image"] < 25


def test_targets_lack_the_first_entity_with_their_probability(index):
    for draw in ("class", "image"):
        options = {"draw": draw, "max_entities": 3, "max_shots": 2}
        plans = [
            draw_semantic(generator(0, i), index, **options, absent_prob=0.4) for i in range(400)
        ]
        absent = [p for p in plans if p["entities"][0] not in PRESENCE[p["target"]]]
        # where all classes or images qualify; image 3 shows every class
        assert 0.28 < len(absent) / 400 < 0.48
        for plan in plans:
            assert set(plan["entities"][1:]) <= set(PRESENCE[plan["target"]])
            assert {c for _, c in plan["references"]} == set(plan["entities"])
            assert all(c in PRESENCE[i] and i != plan["target"] for i, c in plan["references"])
        assert {p["target"] for p in absent} == {0, 1, 2, 4, 5}
        assert {p["entities"][0] for p in absent} == {0, 1, 2}
        always = [
            draw_semantic(generator(0, i), index, **options, absent_prob=1.0) for i in range(60)
        ]
        assert all(
            p["entities"][0] not in PRESENCE[p["target"]] or p["target"] == 3 for p in always
        )
        never = draw_semantic(generator(0, 5), index, **options)
        assert never == draw_semantic(generator(0, 5), index, **options, absent_prob=0.0)


def test_a_class_of_every_image_is_never_absent():
    index = ClassIndex([[0], [0], [0]])
    for draw in ("class", "image"):
        plan = draw_semantic(generator(1), index, draw=draw, absent_prob=1.0)
        assert plan["entities"] == [0] and plan["target"] in (0, 1, 2)


def test_instance_draws_keep_their_limits():
    counts = np.array([0, 12, 3, 0])
    plans = [draw_instance(generator(i), counts, max_masks=4) for i in range(100)]
    assert {p["target"] for p in plans} == {1, 2} and {p["cap"] for p in plans} == {4}
    assert all(sorted(p["order"]) == list(range(counts[p["target"]])) for p in plans)
    caps = [
        draw_instance(generator(i), counts, max_masks=4, cap="random")["cap"] for i in range(400)
    ]
    assert set(caps) == {1, 2, 3, 4}
    assert 0.32 < np.mean(np.array(caps) == 1) < 0.48  # 0 and 1 of 0…4


def test_a_class_with_one_image_is_an_error_or_left_out(caplog):
    options = {
        "names": ["cat", "dog"],
        "dataset": "pets",
        "file_names": ["a.jpg", "b.jpg", "c.jpg"],
    }
    presence = [[0], [0, 1], [0]]
    with pytest.raises(ValueError, match=r"dog.*'pets'.*b\.jpg.*SINGLE_IMAGE_CLASSES"):
        ClassIndex(presence, **options)
    index = ClassIndex(presence, **options, single_image="skip")
    assert index.classes.tolist() == [0] and "dog" in caplog.text
    assert all(
        draw_semantic(generator(i), index, max_entities=9)["entities"] == [0] for i in range(9)
    )
    with pytest.raises(ValueError, match="'pets' has no class"):
        ClassIndex([[0], [1]], **options, single_image="skip")


def test_pairs_are_of_two_images_of_a_class():
    presence = [[0], [0, 1], [0], [1], [2]]
    found = ClassIndex(presence, single_image="skip")
    slow = {(c, i, j) for c in (0, 1) for i in range(5) for j in range(5) if i != j}
    assert found.pairs == sum(c in presence[i] and c in presence[j] for c, i, j in slow) == 8
