"""PACO-Part on a miniature of PACO-LVIS and on miniatures of the published pickles."""

import json
import os
import pickle

import numpy as np
import pytest

from segic_d2.data.benchmarks import READER_REGISTRY, list_episodes
from tests.miniatures import paco_part as miniature


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    miniature.make(tmp_path)
    return tmp_path


def edit(root, split, change):
    """Let a function change the content of a JSON file."""
    file = root / f"paco/paco_lvis_v1_{split}.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def part_of(class_id, index):
    """The obvious mask and the box of the index-th object that has a part."""
    kind = 1 if class_id < 200 else 2
    owner = miniature.BOXES[kind][index]
    k = class_id % 100
    mask, (x, y, w, h) = np.zeros(miniature.SIZE, bool), miniature.part_box(owner, k)
    mask[y : y + h, x : x + w] = True
    if class_id == 101:
        mask[y + 6 : y + 10, x + 8 : x + 12] = True
    x, y, w, h = owner
    return mask, (x, y, x + w, y + h)


def test_folds_interleave_the_trained_parts(root):
    folds = [list_episodes("paco_part", fold) for fold in range(4)]
    # 100 to 104 and 200 to 203 are trained, 300 is not; 9 // 4 = 2 classes in each fold
    assert [list(f.classes) for f in folds] == [[100, 104], [101, 200], [102, 201], [103]]
    assert folds[0].classes[104] == "mug:inside"
    assert folds[3].skipped == (
        "class 202 (lamp:switch) has one image only (val2017/000000000001.jpg)",
    )
    for found in folds:
        assert len(found.episodes) == 2500
        asked = [e.class_id for e in found.episodes]
        assert asked == (list(found.classes) * 2500)[:2500]
        for e in found.episodes:
            assert e.target not in e.references and len(e.objects) == 2
        assert not found.standard and found.note.startswith("paco_part_val.pkl was not found")
    assert {o for e in folds[0].episodes for o in e.objects} == {0, 1}  # two mugs in each image
    assert {e.objects for e in folds[1].episodes if e.class_id == 200} == {(0, 0)}  # one lamp


def test_more_shots_leave_fewer_classes(root):
    found = list_episodes("paco_part", 0, 3)  # four images: three others than the target
    assert all(len(e.references) == 3 and len(e.objects) == 4 for e in found.episodes)
    with pytest.raises(ValueError, match="fold 0: none of its 2 classes has more than 4 images"):
        list_episodes("paco_part", 0, 4)


@pytest.mark.parametrize("published", [False, True])
def test_a_part_is_all_its_masks_of_one_object_with_the_objects_box(root, published):
    if published:
        miniature.publish(root)
    found = list_episodes("paco_part", 1)
    reader = READER_REGISTRY.get("paco_part")(found)
    assert reader.note == "" and ("not verified" in found.note) == published
    for e in found.episodes[:40]:
        for name, index in zip((e.target, *e.references), e.objects, strict=True):
            sample = reader.read(name, e.class_id, index)
            mask, box = part_of(e.class_id, index)
            np.testing.assert_array_equal(sample.mask, mask)
            assert sample.box == box and os.path.isfile(sample.image)


def test_published_images_count_once_and_draw_alike(root):
    expected = [list_episodes("paco_part", fold) for fold in range(4)]
    miniature.publish(root)  # the same annotations, the first image of each class twice
    for fold, own in enumerate(expected):
        found = list_episodes("paco_part", fold)
        assert list(found.classes) == list(own.classes)
        strip = [e.target.removeprefix("coco/images/") for e in found.episodes]
        assert strip == [e.target for e in own.episodes]
        assert [e.objects for e in found.episodes] == [e.objects for e in own.episodes]


def test_names_come_from_the_pickle_where_it_has_them(root):
    miniature.publish(root)
    assert list_episodes("paco_part").classes[100] == "part 100"
    file = root / "paco/paco_part_train.pkl"
    content = pickle.loads(file.read_bytes())
    content["cat_annos"] = [{"id": i, "name": n} for i, n in miniature.PARTS.items()]
    file.write_bytes(pickle.dumps(content))
    os.utime(file, ns=(1, 1))
    assert list_episodes("paco_part").classes[100] == "mug:handle"


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    "content, message",
    [(Harmful(), "wants to import"), ({}, "not of the expected form.*KeyError..cid2img")],
)
def test_pickles_of_another_form_are_refused(root, tmp_path, monkeypatch, split, content, message):
    monkeypatch.chdir(tmp_path)
    miniature.publish(root)
    (root / f"paco/paco_part_{split}.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"paco_part_{split}\.pkl.*{message}"):
        list_episodes("paco_part")
    assert not (tmp_path / "harm").exists()


def test_damaged_data_are_named(root):
    found = list_episodes("paco_part")
    reader, e = READER_REGISTRY.get("paco_part")(found), found.episodes[0]
    os.remove(root / "coco" / e.target)
    with pytest.raises(FileNotFoundError, match=e.target):
        reader.read(e.target, e.class_id, e.objects[0])

    def orphan(data):
        part = next(a for a in data["annotations"] if a["category_id"] == 100)
        part.update(obj_ann_id=9999)

    edit(root, "val", orphan)
    with pytest.raises(ValueError, match="paco_lvis_v1_val.json: annotation 12.*obj_ann_id 9999"):
        list_episodes("paco_part")
    os.remove(root / "paco/paco_lvis_v1_train.json")
    with pytest.raises(FileNotFoundError, match="nor PACO's own paco_lvis_v1_train.json and"):
        list_episodes("paco_part")


def test_a_class_without_images_is_named(root):
    def remove(data):
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] != 104]

    edit(root, "val", remove)
    found = list_episodes("paco_part")
    assert list(found.classes) == [100]
    assert found.skipped == ("no image shows the classes 104 (mug:inside)",)
