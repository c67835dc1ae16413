"""PASCAL-Part: from the annotations as downloaded, through the preparation, to masks and boxes."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

from segic_d2.data.benchmarks import READER_REGISTRY, list_episodes
from tests.miniatures import pascal_part as miniature

SCRIPT = Path(__file__).resolve().parents[3] / "datasets" / "prepare_pascal_part.py"
NAMES = list(miniature.IMAGES)


def script():
    spec = importlib.util.spec_from_file_location("prepare_pascal_part", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(home):
    """The script in this process, without its pool, which takes seconds to start."""
    module = script()

    class Serial:
        map = staticmethod(lambda function, files, chunksize: map(function, files))
        __init__ = __exit__ = lambda self, *args: None
        __enter__ = lambda self: self  # noqa: E731

    module.ProcessPoolExecutor = Serial
    return module.main([str(home)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    miniature.make(tmp_path)
    home = tmp_path / "VOCdevkit/VOC2010"
    assert prepare(home) == 0
    return home


def test_folds_are_super_classes_and_classes_object_and_part(home):
    folds = [list_episodes("pascal_part", fold) for fold in range(4)]
    assert [list(f.classes.values()) for f in folds] == [
        ["dog+HEAD", "dog+LEG"],
        ["bottle+CAP", "bottle+BODY"],
        ["person+HAIR", "person+ARM"],
        ["aeroplane+WHEEL"],  # aeroplane+TAIL is left out
    ]
    ids = [i for f in folds for i in f.classes]
    assert ids == sorted(set(ids))
    # as many episodes as (class, image) entries: each class is in two images
    assert [len(f.episodes) for f in folds] == [4, 4, 4, 2]
    assert folds[0].skipped == ("class 2 (cat+EAR) has one image only (2008_000008.jpg)",)
    for found in folds:
        asked = [e.class_id for e in found.episodes]
        assert asked == (list(found.classes) * 4)[: len(asked)]
        assert all(e.target not in e.references for e in found.episodes)
        assert not found.standard and found.note.startswith("all_obj_part_to_image.json was not")
    assert len(list_episodes("pascal_part", 0, 5).episodes[0].references) == 5  # repeats


def test_a_fold_has_2500_episodes_at_most(home, monkeypatch):
    monkeypatch.setattr("segic_d2.data.benchmarks.pascal_part.EPISODES", 3)
    assert [len(list_episodes("pascal_part", f).episodes) for f in (0, 3)] == [3, 2]


def test_masks_are_those_of_one_object_with_its_box(home):
    found = list_episodes("pascal_part", 0)
    reader = READER_REGISTRY.get("pascal_part")(found)
    assert "merged" in reader.note
    sample = reader.read("2008_000003.jpg", 1, 1)  # the second dog's leg, "rblleg"
    np.testing.assert_array_equal(sample.mask, miniature.filled((31, 28, 4, 6)) > 0)
    assert sample.box == (30, 10, 52, 34)
    assert sample.image == str(home / "JPEGImages/2008_000003.jpg")


def test_the_published_list_names_classes_and_images(home, tmp_path):
    miniature.publish(tmp_path)
    found = list_episodes("pascal_part", 1)
    assert list(found.classes.values()) == ["bottle+BODY", "bottle+CAP"]  # in the file's order
    assert "published ones" in found.note and not found.standard
    assert list(list_episodes("pascal_part", 3).classes.values()) == ["aeroplane+WHEEL"]
    file = home / "all_obj_part_to_image.json"
    content = json.loads(file.read_text())
    content["person"]["object"]["person"]["part"]["ARM"]["val"].append(NAMES[0])
    file.write_text(json.dumps(content))
    message = r"no mask of person\+ARM in 1 of the 3 images that .*all_obj.*such as 2008_000003"
    with pytest.raises(ValueError, match=message):
        list_episodes("pascal_part", 2)
    file.write_text('{"animals": []}')
    with pytest.raises(ValueError, match="all_obj_part_to_image.json is not of the expected form"):
        list_episodes("pascal_part", 2)


@pytest.mark.parametrize(
    "raw, part",
    [
        *(("lflleg", "LEG"), ("rbuleg", "LEG"), ("lleg", "LEG"), ("llleg", "LEG")),
        *(("luarm", "ARM"), ("rhand", "HAND"), ("lear", "EAR"), ("rebrow", "EYEBROW")),
        *(("lbpa", "PAW"), ("rfho", "HOOF"), ("fwheel", "WHEEL"), ("wheel_12", "WHEEL")),
        *(("bliplate", "PLATE"), ("cleftside_3", "SIDE"), ("roofside", "SIDE")),
        *(("head", "HEAD"), ("beak", "BEAK"), ("headlight_1", "HEADLIGHT"), ("lwing", "WING")),
        *(("leftmirror", "MIRROR"), ("chainwheel", "CHAINWHEEL"), ("body", "BODY")),
    ],
)
def test_left_and_right_and_numbers_are_one_part(raw, part):
    assert script().merged(raw) == part


def test_both_ears_are_one_mask(home):
    data = json.loads((home / "pascal_part_val.json").read_text())
    ids = {c["name"]: c["id"] for c in data["categories"]}
    found = [a for a in data["annotations"] if a["category_id"] == ids["cat+EAR"]]
    assert len(found) == 1 and found[0]["obj_bbox"] == [40, 2, 12, 12]
    from segic_d2.io.rle import decode

    both = miniature.filled((41, 2, 3, 3)) | miniature.filled((47, 2, 3, 3))
    np.testing.assert_array_equal(decode(found[0]["segmentation"], *miniature.SIZE), both > 0)


def test_what_is_missing_is_named(home, capsys):
    os.remove(home / "pascal_part_val.json")
    with pytest.raises(FileNotFoundError, match="pascal_part_val.json, which .*prepare_pascal"):
        list_episodes("pascal_part")
    (home / f"Annotations_Part/{NAMES[1]}.mat").write_bytes(b"no MATLAB file")
    assert prepare(home) == 1
    assert f"cannot read {home}/Annotations_Part/{NAMES[1]}.mat" in capsys.readouterr().err
    os.remove(home / f"Annotations_Part/{NAMES[1]}.mat")
    assert prepare(home) == 1
    assert f"1 of 4 files are missing, such as {home}" in capsys.readouterr().err
    assert not (home / "pascal_part_val.json").exists()
    os.remove(home / "ImageSets/Main/val.txt")
    assert prepare(home) == 1
    assert "no file" in capsys.readouterr().err


def test_a_missing_image_is_named(home):
    found = list_episodes("pascal_part", 2)
    reader, e = READER_REGISTRY.get("pascal_part")(found), found.episodes[0]
    os.remove(home / "JPEGImages" / e.target)
    with pytest.raises(FileNotFoundError, match=e.target):
        reader.read(e.target, e.class_id, e.objects[0])
