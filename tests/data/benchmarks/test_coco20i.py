"""COCO-20i: the published sequence, its lists in every form, and its masks."""

import gzip
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.benchmarks import READER_REGISTRY, list_episodes
from segic_d2.data.benchmarks.coco20i import NAMES
from tests.data.benchmarks.published import PROTOCOLS, needs_protocols
from tests.miniatures import coco20i as mini


def naive(fold, images, shots, episodes=1000):
    """The published loop as it stands there: numpy's global generator, names as a list."""
    state = np.random.get_state()
    np.random.seed(0)
    found = []
    for _ in range(episodes):
        class_id = np.random.choice([fold + 4 * v for v in range(20)], 1, replace=False)[0]
        query = np.random.choice(images[class_id], 1, replace=False)[0]
        support = []
        while len(support) < shots:
            name = np.random.choice(images[class_id], 1, replace=False)[0]
            if name != query:
                support.append(name)
        found.append((class_id, query, tuple(support)))
    np.random.set_state(state)
    return found


def plain(episodes):
    return [(e.class_id, e.target, e.references) for e in episodes.episodes]


@needs_protocols
@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("shots", [1, 5])
def test_the_published_episodes(fold, shots):
    found = list_episodes("coco20i", fold, shots, str(PROTOCOLS))
    expected = json.loads((PROTOCOLS / f"coco20i_fold{fold}_{shots}shot_first40.json").read_text())
    assert len(expected) == 40 and len(found.episodes) == 1000
    assert plain(found)[:40] == [(e["class"], e["query"], tuple(e["support"])) for e in expected]
    assert found.standard and not found.note and len(found.classes) == 20
    assert all(e.target not in e.references for e in found.episodes)


@pytest.fixture
def home(tmp_path, monkeypatch):
    mini.make(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path / "coco"


@pytest.mark.parametrize("fold, shots", [(0, 1), (1, 5), (3, 2)])
def test_the_sequence_is_that_of_the_plain_loop(home, fold, shots):
    found = list_episodes("coco20i", fold, shots)
    assert plain(found) == naive(fold, mini.split(fold), shots)
    assert found.classes == {c: NAMES[c] for c in range(fold, 80, 4)}
    assert not found.standard and "fold" in found.note  # a list of our own


def test_every_form_of_the_lists_gives_the_same_episodes(home, tmp_path):
    expected = plain(list_episodes("coco20i", 2, 1))
    content = {str(c): names for c, names in mini.split(2).items()}
    packed = gzip.compress(json.dumps(content).encode())
    forms = {
        "val/fold2.pkl": pickle.dumps(mini.split(2), 4),
        "splits/val/fold2.pkl": pickle.dumps(mini.split(2), 0),
        "coco20i_val_fold2.json": json.dumps(content).encode(),
        "coco20i_val_fold2.json.gz": packed,
    }
    for i, (name, data) in enumerate(forms.items()):
        path = tmp_path / f"lists{i}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        assert plain(list_episodes("coco20i", 2, 1, str(tmp_path / f"lists{i}"))) == expected


def test_annotations_take_the_place_of_lists_and_say_so(tmp_path):
    mini.make(tmp_path, lists=False)
    found = list_episodes("coco20i", 1, 1, str(tmp_path / "coco"))
    images = {c: names[::-1] for c, names in mini.split(1).items()}  # ascending image ids
    assert plain(found) == naive(1, images, 1)
    assert not found.standard and "not the standard episodes" in found.note


def test_classes_with_one_image_are_left_out_and_two_suffice(tmp_path):
    images = mini.split(0)
    images[0], images[4], images[8] = ["val2014/a.jpg"], ["val2014/a.jpg", "val2014/b.jpg"], []
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "fold0.pkl").write_bytes(pickle.dumps(images))
    found = list_episodes("coco20i", 0, 5, str(tmp_path))
    assert found.skipped == (
        "class 0 (person) has one image only (val2014/a.jpg)",
        "class 8 (boat) has no image",
    )
    assert not {0, 8} & (set(found.classes) | {e.class_id for e in found.episodes})
    two = [e for e in found.episodes if e.class_id == 4]
    assert len(two) > 20 and {e.target for e in two} == set(images[4])
    assert all(set(e.references) == set(images[4]) - {e.target} for e in two)


@pytest.mark.parametrize(
    "content, message",
    [
        (pickle.dumps([1]), "holds a list, not a dict"),
        (pickle.dumps({0: ["a", "b"]}), r"class 4 \(airplane\) of fold 0 has no list"),
        (pickle.dumps(np.arange(2)), "wants to import"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path, content, message):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "fold0.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"fold0\.pkl.*{message}"):
        list_episodes("coco20i", 0, 1, str(tmp_path))


def test_bad_questions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no benchmark 'coco'; there are: .*coco20i"):
        list_episodes("coco")
    with pytest.raises(ValueError, match="coco20i has the folds 0 to 3, not 4"):
        list_episodes("coco20i", 4)
    with pytest.raises(ValueError, match="shots must be at least 1, not 0"):
        list_episodes("coco20i", 0, 0)
    with pytest.raises(FileNotFoundError, match=r"fold 0: .*val/fold0\.pkl.*instances_val2014"):
        list_episodes("coco20i", 0, 1, str(tmp_path))


def cell_mask(i, class_id):
    mask = np.zeros(mini.SIZE, bool)
    x, y = mini.cell(i, class_id)
    mask[y : y + 6, x : x + 6] = mini.shows(i, class_id)
    return mask


def test_a_label_map_holds_class_id_plus_one(home):
    reader = READER_REGISTRY.get("coco20i")(list_episodes("coco20i", 0), None)
    assert reader.note == ""
    sample = reader.read(f"val2014/{mini.file_name(1)}", 79)
    assert sample.image == str(home / "val2014" / mini.file_name(1))
    np.testing.assert_array_equal(sample.mask, cell_mask(1, 79))
    assert mini.shows(1, 79) and sample.ignore is None and sample.box is None


def test_other_values_of_a_label_map(home):
    reader = READER_REGISTRY.get("coco20i")(list_episodes("coco20i", 0), None)
    name = f"val2014/{mini.file_name(1)}"
    path = home / "annotations" / name.replace(".jpg", ".png")
    labels = np.array(Image.open(path))
    before = reader.read(name, 0).mask
    Image.fromarray(np.where(labels == 0, 255, labels).astype(np.uint8)).save(path)
    np.testing.assert_array_equal(reader.read(name, 0).mask, before)  # 255: background
    labels[0, 0] = 81
    Image.fromarray(labels).save(path)
    with pytest.raises(ValueError, match=r"000000000002\.png has the value 81; expected 0 to 80"):
        reader.read(name, 0)


def test_without_label_maps_masks_are_the_instances_with_crowds(tmp_path, monkeypatch):
    mini.make(tmp_path, label_maps=False)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    reader = READER_REGISTRY.get("coco20i")(list_episodes("coco20i", 1), None)
    assert "1.3 mIoU lower" in reader.note
    name = f"val2014/{mini.file_name(0)}"
    np.testing.assert_array_equal(reader.read(name, 77).mask, cell_mask(0, 77))
    crowd = cell_mask(0, 1)
    crowd[:, -1] = True
    np.testing.assert_array_equal(reader.read(name, 1).mask, crowd)
    (tmp_path / "coco" / "annotations" / "instances_val2014.json").unlink()
    with pytest.raises(FileNotFoundError, match="no label maps in .*annotations/val2014"):
        READER_REGISTRY.get("coco20i")(list_episodes("coco20i", 1), None)
