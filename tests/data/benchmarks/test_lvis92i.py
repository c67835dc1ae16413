"""LVIS-92i on a miniature of LVIS v1 and on a miniature of the published pickle."""

import json
import os
import pickle
from collections import Counter

import numpy as np
import pytest

from segic_d2.data.benchmarks import READER_REGISTRY, list_episodes
from tests.miniatures import lvis92i as miniature


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    miniature.make(tmp_path)
    return tmp_path


def edit(root, change):
    """Let a function change the JSON's content."""
    file = root / "lvis/lvis_v1_val.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def union(image, position):
    """The obvious mask: the two rectangles of a category in an image."""
    mask = np.zeros(miniature.SIZE, bool)
    for x, y, w, h in miniature.box(image, position):
        mask[y : y + h, x : x + w] = True
    return mask


def test_a_fold_takes_every_tenth_class_with_two_images(root):
    for fold in range(10):
        found = list_episodes("lvis92i", fold)
        # 21 classes of ids 1, 3, 5, … have enough images, so each fold has 21 // 10 of them
        first, second = fold, fold + 10
        assert found.classes == {
            1 + 2 * first: f"thing_{first}",  # the first synonym, as Detectron2 calls it
            1 + 2 * second: f"thing_{second}",
        }
        assert [e.class_id for e in found.episodes] == list(found.classes) * 1150
        for e in found.episodes:
            names = {miniature.name(i) for i in miniature.images_of((e.class_id - 1) // 2)}
            assert {e.target, *e.references} <= names and e.target not in e.references
            assert e.objects is None
    assert not found.standard and found.note.startswith("lvis_val.pkl was not found")
    assert found.skipped == (
        "class 43 (thing_21) has one image only (train2017/000000000003.jpg)",
        "no image shows the classes 45 (thing_22)",
    )


def test_more_shots_leave_fewer_classes(root):
    # the ten classes at odd positions have three images: enough for two shots, a class per fold
    assert [list(list_episodes("lvis92i", f, 2).classes) for f in (0, 9)] == [[3], [39]]
    found = list_episodes("lvis92i", 3, 2)
    assert len(found.episodes) == 2300
    assert "class 1 (thing_0) has 2 images, not 3" in found.skipped
    with pytest.raises(ValueError, match="lvis_v1_val.json: 0 classes have more than 3 images"):
        list_episodes("lvis92i", 0, 3)


def test_the_mask_is_the_union_of_the_instances(root):
    episodes = list_episodes("lvis92i", 4)
    reader = READER_REGISTRY.get("lvis92i")(episodes)
    assert reader.note == ""  # LVIS's own masks are those of the published lists
    seen = set()
    for e in episodes.episodes[:60]:
        position = (e.class_id - 1) // 2
        image = int(e.target.split("/")[1].split(".")[0]) - 1
        sample = reader.read(e.target, e.class_id)
        np.testing.assert_array_equal(sample.mask, union(image, position))
        assert sample.box is None and sample.ignore is None
        assert sample.image == f"{reader.root}/{e.target}" and os.path.isfile(sample.image)
        seen.add(e.target.split("/")[0])
    assert seen == {"train2017", "val2017"}


def test_the_published_lists_come_first_and_in_their_order(root):
    miniature.publish(root)
    found = list_episodes("lvis92i", 0)
    content = pickle.loads((root / "lvis/lvis_val.pkl").read_bytes())
    usable = [c for c, images in content.items() if len(images) > 1]
    assert list(found.classes) == [usable[0], usable[10]] and usable != sorted(usable)
    assert found.classes[15] == "apron"  # LVIS v1's own name of this id
    assert not found.standard and "not verified" in found.note
    reader = READER_REGISTRY.get("lvis92i")(found)
    assert reader.note == ""
    e = found.episodes[0]
    image = int(e.target.split("/")[1].split(".")[0]) - 1
    mask = reader.read(e.target, e.class_id).mask
    np.testing.assert_array_equal(mask, union(image, (e.class_id - 1) // 2))


def test_bare_names_of_images_are_found(root):
    miniature.publish(root)
    file = root / "lvis/lvis_val.pkl"
    content = pickle.loads(file.read_bytes())
    content = {c: {n.split("/")[1]: v for n, v in images.items()} for c, images in content.items()}
    file.write_bytes(pickle.dumps(content))
    found = list_episodes("lvis92i", 0)
    reader = READER_REGISTRY.get("lvis92i")(found)
    folders = Counter(
        reader.read(e.target, e.class_id).image.split("/")[-2] for e in found.episodes[:40]
    )
    assert set(folders) == {"train2017", "val2017"}


def test_lists_may_be_elsewhere_and_need_no_image(root, tmp_path, monkeypatch):
    expected = list_episodes("lvis92i", 2).episodes
    (tmp_path / "lvis").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
    assert list_episodes("lvis92i", 2, lists=str(tmp_path / "elsewhere")).episodes == expected
    with pytest.raises(FileNotFoundError, match="neither lvis_val.pkl.*nor.*lvis_v1_val.json"):
        list_episodes("lvis92i", 2)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    "content, message",
    [
        (Harmful(), r"lvis_val\.pkl.*wants to import"),
        ({1: {"a.jpg": {"annotations": np.zeros(2)}}}, r"lvis_val\.pkl.*wants to import"),
        ([1, 2], r"lvis_val\.pkl is no dict of category id"),
        ({1: {"a.jpg": {"segmentation": []}}}, r"lvis_val\.pkl is no dict.*'annotations'"),
    ],
)
def test_pickles_of_another_form_are_refused(root, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (root / "lvis/lvis_val.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        list_episodes("lvis92i")
    assert not (tmp_path / "harm").exists()


def test_damaged_data_are_named(root):
    episodes = list_episodes("lvis92i", 0)
    reader, e = READER_REGISTRY.get("lvis92i")(episodes), episodes.episodes[0]
    os.remove(reader.read(e.target, e.class_id).image)
    with pytest.raises(FileNotFoundError, match=e.target):
        reader.read(e.target, e.class_id)
    edit(root, lambda data: data["annotations"][5].update(category_id=4))
    with pytest.raises(ValueError, match="lvis_v1_val.json: annotation 6 has the category_id 4"):
        list_episodes("lvis92i")


def test_annotations_without_a_mask_show_nothing(root):
    def empty(data):
        for a in data["annotations"]:
            if a["category_id"] == 3 and a["image_id"] != 2:
                a["segmentation"] = []

    edit(root, empty)
    message = "class 3 (thing_1) has one image only (val2017/000000000002.jpg)"
    assert message in list_episodes("lvis92i").skipped
