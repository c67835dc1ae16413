"""Draws over annotations agree with an obvious loop; damaged annotation files are named."""

import json
import random

import numpy as np
import pytest

from segic_d2.data.benchmarks.annotated import Annotated, CocoFile, Shown, draw_episodes

BOX = (0, 0, 4, 4)


def annotated(images_per_class, objects=None):
    """Class c shows image c/0.jpg …; with ``objects``, an image shows 1 to that many of them."""
    rng = random.Random(0)
    shown = {
        c: {
            f"{c}/{i}.jpg": [Shown(objects and BOX, ())]
            * (rng.randint(1, objects) if objects else 1)
            for i in range(count)
        }
        for c, count in images_per_class.items()
    }
    return Annotated({c: f"c{c}" for c in shown}, shown, note="")


def slow(annotated, class_ids, number, shots):
    """The documented order of draws, with numpy's global generator and lists of names."""
    np.random.seed(0)
    found = []

    def one(values):
        return np.random.choice(values, 1, replace=False)[0]

    def object_of(class_id, name):
        return one(list(range(len(annotated.shown[class_id][name]))))

    for i in range(number):
        class_id = class_ids[i % len(class_ids)]
        names = list(annotated.shown[class_id])
        target = one(names)
        objects, references = [object_of(class_id, target)], []
        while len(references) < shots:
            name = one(names)
            if name != target:
                references.append(name)
                objects.append(object_of(class_id, name))
        found.append((class_id, target, references, objects))
    return found


@pytest.mark.parametrize("objects", [None, 5])
@pytest.mark.parametrize("shots", [1, 5])
def test_draws_agree_with_a_plain_loop(objects, shots):
    data = annotated({7: 2, 3: 9, 5: 40}, objects)
    episodes = draw_episodes(data, [7, 5, 3], 300, shots)
    expected = slow(data, [7, 5, 3], 300, shots)
    assert len(episodes) == len(expected) == 300
    for episode, (class_id, target, references, chosen) in zip(episodes, expected, strict=True):
        assert (episode.class_id, episode.target) == (class_id, target)
        assert episode.references == tuple(references)
        assert episode.objects == (tuple(chosen) if objects else None)
        assert target not in references
    if objects:
        assert {o for e in episodes for o in e.objects} == set(range(objects))


PINNED = [  # class, target, reference, the objects of both
    (0, "0/2.jpg", "0/0.jpg", 0, 0),
    (1, "1/1.jpg", "1/0.jpg", 1, 1),
    (0, "0/1.jpg", "0/4.jpg", 0, 2),
]


def test_episodes_are_pinned():
    episodes = draw_episodes(annotated({0: 5, 1: 2}, 3), [0, 1], 3, 1)
    assert [(e.class_id, e.target, *e.references, *e.objects) for e in episodes] == PINNED


def test_a_class_of_two_images_never_refers_to_its_target():
    episodes = draw_episodes(annotated({0: 2}), [0], 200, 1)
    pairs = {(e.target, *e.references) for e in episodes}
    assert pairs == {("0/0.jpg", "0/1.jpg"), ("0/1.jpg", "0/0.jpg")}


def test_what_is_left_out_is_said():
    usable, skipped = annotated({1: 6, 2: 1, 3: 0, 4: 5, 5: 0}).enough_images([4, 3, 2, 1, 5], 6)
    assert usable == [1]
    assert skipped == (
        "class 4 (c4) has 5 images, not 6",
        "class 2 (c2) has one image only (2/0.jpg)",
        "no image shows the classes 3 (c3), 5 (c5)",
    )


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "cannot read .*a.json as JSON"),
        ("[]", "a.json has no list of 'categories'"),
        ('{"categories": [], "images": []}', "a.json has no list of 'annotations'"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        CocoFile(tmp_path / "a.json")


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_annotation_of_nothing_is_named(tmp_path, key):
    data = {
        "categories": [{"id": 1, "name": "a"}],
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 8, "image_id": 1, "category_id": 1, key: 9}],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=rf"a\.json: annotation 8 has the {key} 9"):
        CocoFile(tmp_path / "a.json")
