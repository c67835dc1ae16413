"""PASCAL-5i and FSS-1000: the published rules of drawing, and the masks."""

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.benchmarks import READER_REGISTRY, list_episodes
from tests.data.benchmarks.published import PROTOCOLS, needs_protocols
from tests.miniatures import fss1000 as fss
from tests.miniatures import pascal5i as voc


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def drawn(pairs, images_of, shots):
    """References by the published loop, numpy's global generator with seed 0."""
    state = np.random.get_state()
    np.random.seed(0)
    found = []
    for target, key in pairs:
        support = []
        while len(support) < shots:
            name = np.random.choice(images_of(key), 1, replace=False)[0]
            if name != target:
                support.append(name)
        found.append((target, tuple(support)))
    np.random.set_state(state)
    return found


@pytest.mark.parametrize("shots", [1, 5])
def test_pascal_targets_go_round_the_list(root, shots):
    voc.make(root)
    found = list_episodes("pascal5i", 2, shots)
    entries = [(voc.file_name(i), c) for i, c in voc.entries(2)]
    targets = [entries[n % len(entries)] for n in range(1000)]
    expected = drawn(targets, lambda c: [name for name, k in entries if k == c], shots)
    assert [(e.target, e.references) for e in found.episodes] == expected
    assert [e.class_id for e in found.episodes] == [c for _, c in targets]
    assert list(found.classes) == [10, 11, 12, 13, 14] and found.classes[12] == "horse"
    assert not found.standard and "not the published list" in found.note


def test_pascal_classes_with_one_image(root):
    lines = ["a__01", "a__02", "b__02"]
    (root / "pascal5i_val_fold0.txt").write_text("\n".join(lines))
    found = list_episodes("pascal5i", 0, 1, str(root))
    assert found.skipped[0] == "class 0 (aeroplane) has one image only (a)"
    assert {(e.target, e.references, e.class_id) for e in found.episodes} == {
        ("a", ("b",), 1),
        ("b", ("a",), 1),
    }


@pytest.mark.parametrize("line", ["a__06", "a__00", "a_01", "a__1", "a__21"])
def test_a_line_that_does_not_fit_is_named(root, line):
    (root / "pascal5i_val_fold0.txt").write_text(f"b__01\n{line}\n")
    with pytest.raises(ValueError, match=r"fold0\.txt, line 2: expected .*01 to 05.*found"):
        list_episodes("pascal5i", 0, 1, str(root))


def test_pascal_masks_and_boundaries(root):
    voc.make(root)
    reader = READER_REGISTRY.get("pascal5i")(list_episodes("pascal5i", 0), None)
    sample = reader.read("2007_000001", 6)
    expected, edge = np.zeros(voc.SIZE, bool), np.zeros(voc.SIZE, bool)
    expected[17:27, 17:27] = edge[16:28, 16:28] = True  # class 6: column 1, row 1
    np.testing.assert_array_equal(sample.mask, expected)
    np.testing.assert_array_equal(sample.ignore[15:30, 15:30], (edge & ~expected)[15:30, 15:30])
    assert not (sample.mask & sample.ignore).any()
    Image.fromarray(np.full(voc.SIZE, 21, np.uint8)).save(
        root / "VOC2012" / "SegmentationClassAug" / "2007_000001.png"
    )
    with pytest.raises(ValueError, match=r"2007_000001\.png has the value 21; expected 0 to 20"):
        reader.read("2007_000001", 6)


@pytest.mark.parametrize("shots", [1, 5])
def test_fss_every_image_is_the_target_once(root, shots):
    fss.make(root)
    found = list_episodes("fss1000", 0, shots)
    order = ["1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]
    pairs = [(f"{name}/{i}.jpg", name) for name in sorted(fss.CLASSES) for i in order]

    def names(folder):
        return [f"{folder}/{i}.jpg" for i in range(1, 11)]

    assert [(e.target, e.references) for e in found.episodes] == drawn(pairs, names, shots)
    assert [e.class_id for e in found.episodes] == [760] * 10 + [761] * 10 + [762] * 10
    assert found.classes == {760: "abe's flyingfish", 761: "bus", 762: "hotel slipper"}


def test_fss_foreground_begins_at_128(root):
    fss.make(root)
    reader = READER_REGISTRY.get("fss1000")(list_episodes("fss1000"), None)
    for i in (1, 2, 3):  # a mask of 128, one in colour, one of 255; each with an edge of 127
        expected = np.zeros((fss.SIZE, fss.SIZE), bool)
        expected[10 + i : 29 + i, 10:40] = True
        np.testing.assert_array_equal(reader.read(f"bus/{i}.jpg", 761).mask, expected)


def test_lists_that_are_missing_or_empty_are_named(root):
    with pytest.raises(FileNotFoundError, match="PASCAL-5i fold 1: none of val/fold1.txt"):
        list_episodes("pascal5i", 1)
    with pytest.raises(FileNotFoundError, match="FSS-1000: none of splits/test.txt"):
        list_episodes("fss1000")
    (root / "fss1000_test.txt").write_text("\n")
    with pytest.raises(ValueError, match="fss1000_test.txt names no class"):
        list_episodes("fss1000", 0, 1, str(root))


@needs_protocols
def test_the_published_lists_are_recognised():
    sizes = {0: 346, 1: 451, 2: 725, 3: 346}
    for fold, size in sizes.items():
        found = list_episodes("pascal5i", fold, 5, str(PROTOCOLS))
        assert found.standard and len(found.episodes) == 1000 and len(found.classes) == 5
        assert found.episodes[size].target == found.episodes[0].target
        assert all(e.target not in e.references for e in found.episodes)
    found = list_episodes("fss1000", 0, 1, str(PROTOCOLS))
    assert found.standard and len(found.episodes) == 2400
    assert list(found.classes) == list(range(760, 1000))
    assert len({e.target for e in found.episodes}) == 2400
