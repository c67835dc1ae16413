"""Tiny fake trees: whole ones pass, and what lacks is said by name and number."""

import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data import toy
from tests.miniatures import videos
from trees import expected as expected_trees
from trees import verify as verify_trees
from trees.expected import GROUPS, TREES, Part
from trees.verify import count_entries, verify_tree

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "verify.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("verify_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A data set "toy": three images, a list of two classes with two files each, a JSON file."""
    for i in range(3):
        picture(tmp_path / f"images/{i}.jpg")
    for name in ("cat", "abe's_dog"):
        for i in range(2):
            picture(tmp_path / f"classes/{name}/{i}.png")
    (tmp_path / "classes/list.txt").write_text("cat\nabe's_dog\n")
    (tmp_path / "old.json").write_text("{}")
    parts = [
        Part("images", "*.jpg", 3),
        Part(("lost/list.txt", "classes/list.txt"), entries=2, why="from its page"),
        Part("classes", "{}/*.png", 2, lists=("lost/list.txt", "classes/list.txt")),
        Part(("new.json", "old.json"), why="either"),
        Part("extra.json", optional=True),
    ]
    monkeypatch.setitem(TREES, "toy", parts)
    return tmp_path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


def test_a_whole_tree_passes(tree, main, capsys):
    missing, fine = verify_tree("toy", tree, full=True)
    assert missing == [] and f"optional: no file {tree}/extra.json" in fine
    assert main(["toy", "--root", str(tree)]) == 0
    assert capsys.readouterr().out.startswith("toy: complete\n  ok: ")


def test_everything_missing_is_said(tree, main, capsys):
    (tree / "images/1.jpg").unlink()
    (tree / "classes/list.txt").write_text("cat\nabe's_dog\ncow\n")
    (tree / "classes/cat/0.png").unlink()
    (tree / "old.json").unlink()
    missing, _ = verify_tree("toy", tree)
    assert missing == [
        f"{tree}/images/*.jpg: 2 files, expected 3: 1 missing",
        f"{tree}/classes/list.txt: 3 entries, expected 2 (from its page)",
        f"{tree}/classes: 2 of 3 classes have not 2 *.png: cat (1), cow (0)",
        f"no file {tree}/new.json, nor {tree}/old.json (either)",
    ]
    assert main(["toy", "--root", str(tree)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("toy: 4 things missing\n  missing: ") and missing[3] in out


def test_an_empty_root_and_unknown_names(tmp_path, main, capsys):
    for name in verify_trees.known_sets():
        missing, _ = verify_tree(name, tmp_path)
        assert missing and all(line.startswith("no ") for line in missing), name
    assert main(["coco20i", "fss1000", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert f"no folder {tmp_path}/coco/val2014" in out and "splits/coco/val/fold3.pkl" in out
    with pytest.raises(SystemExit) as error:
        main(["coco21i", "--root", str(tmp_path)])
    assert error.value.code == 2 and "there are: coco_2014_train" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no data set 'x'"):
        verify_tree("x", tmp_path)


def test_full_reads_every_file(tree):
    file = tree / "images/2.jpg"
    file.write_bytes(file.read_bytes()[:200])
    (tree / "old.json").write_text("{")
    (tree / "classes/cat/1.png").write_text("no picture")
    assert verify_tree("toy", tree)[0] == []
    missing, _ = verify_tree("toy", tree, full=True)
    assert [m.split(":")[0] for m in missing] == [
        f"cannot read image {file}",
        f"cannot read image {tree}/classes/cat/1.png",
        f"cannot read {tree}/old.json",
    ]


def test_counts_are_compared_in_both_directions(tree):
    picture(tree / "images/7.jpg")
    assert verify_tree("toy", tree)[0] == [f"{tree}/images/*.jpg: 4 files, expected 3: too many"]
    for file in (tree / "images").iterdir():
        file.unlink()
    assert verify_tree("toy", tree)[0] == [f"nothing at {tree}/images/*.jpg, expected 3 files"]


def test_files_that_lists_name_are_missed_by_name(tree, monkeypatch):
    """A single hole is found where no number of files is known, and named where one is."""
    (tree / "fold0.txt").write_text("0__01\n1__02\n")
    (tree / "fold1.json").write_text(json.dumps({"3": ["images/1.jpg", "images/2.jpg"]}))
    (tree / "coco.json").write_text(
        json.dumps({"images": [{"file_name": "2.jpg"}, {"coco_url": "http://x/val/9.jpg"}]})
    )
    listed = [("lost.pkl", "fold0.txt"), "fold1.json", "coco.json", "maps/*.png", "nowhere.txt"]
    parts = [Part("images", "*.jpg", listed=tuple(listed))]
    monkeypatch.setitem(TREES, "listed", parts)
    assert verify_tree("listed", tree)[0] == [f"not in {tree}/images: 9.jpg"]
    (tree / "images/0.jpg").unlink()
    picture(tree / "maps/8.png")
    assert verify_tree("listed", tree)[0] == [f"not in {tree}/images: 0.jpg, 8.jpg, 9.jpg"]
    monkeypatch.setitem(TREES, "listed", [Part("images", "*.jpg", 3, listed=("fold0.txt",))])
    assert verify_tree("listed", tree)[0] == [
        f"{tree}/images/*.jpg: 2 files, expected 3: 1 missing",
        f"not in {tree}/images: 0.jpg",
    ]


@pytest.mark.parametrize(
    "name, miniature, hole",
    [
        ("coco20i", "coco20i", "coco/annotations/val2014/COCO_val2014_000000000003.png"),
        ("coco20i", "coco20i", "coco/val2014/COCO_val2014_000000000003.jpg"),
        ("pascal5i", "pascal5i", "VOC2012/SegmentationClassAug/2007_000002.png"),
        ("pascal5i", "pascal5i", "VOC2012/JPEGImages/2007_000002.jpg"),
        ("a847", "a847", "ADE20K_2021_17_01/annotations_detectron2/training/*.tif"),
        ("a847", "a847", "ADE20K_2021_17_01/images_detectron2/validation/*.jpg"),
        ("pc459", "pc459", "VOCdevkit/VOC2010/JPEGImages/*.jpg"),
        ("paco_part", "paco_part", "paco/paco_lvis_v1_train.json"),
    ],
)
def test_a_hole_in_a_benchmark_is_named(name, miniature, hole, tmp_path):
    importlib.import_module(f"tests.miniatures.{miniature}").make(tmp_path)
    file = sorted(tmp_path.glob(hole))[0]
    before = set(verify_tree(name, tmp_path)[0])  # numbers of files are those of the real data
    file.unlink()
    new = [line for line in verify_tree(name, tmp_path)[0] if line not in before]
    assert any(file.name in line for line in new), new


def test_videos_are_read_as_an_evaluation_reads_them(tmp_path):
    videos.make_davis(tmp_path)
    videos.make_mose(tmp_path)
    home = tmp_path / "DAVIS"
    assert verify_tree("davis16_val", tmp_path, full=True)[0] == []
    assert (
        verify_tree("mose_valid", tmp_path)[1][-1] == f"{tmp_path}/MOSE/valid: 2 videos, 9 frames"
    )
    assert verify_tree("davis17_val", tmp_path)[0] == [
        f"{home}/ImageSets/2017/val.txt: 2 entries, expected 30"
    ]
    file = home / "Annotations/480p/alpha/00000.png"
    picture(file)
    (line,) = verify_tree("davis16_val", tmp_path, full=True)[0]
    assert "alpha/00000.jpg is 168x112 px, the masks of the video alpha 4x4 px" in line
    (home / "JPEGImages/480p/beta/00002.jpg").unlink()
    (line,) = verify_tree("davis16_val", tmp_path)[0]
    assert "the video beta lacks the frame 00002, which has a mask" in line


def test_entries_of_lists_are_different_names(tmp_path):
    """An image that shows two classes of a fold counts once."""
    content = {0: ["a", "b"], 4: ["b", "c"]}
    (tmp_path / "fold0.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "fold0.json").write_text(json.dumps({str(k): v for k, v in content.items()}))
    (tmp_path / "fold0.txt").write_text("a\n\nb\n")
    assert count_entries(tmp_path / "fold0.pkl") == 3 == count_entries(tmp_path / "fold0.json")
    assert count_entries(tmp_path / "fold0.txt") == 2
    (tmp_path / "code.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="wants to import builtins.print"):
        count_entries(tmp_path / "code.pkl")


def test_the_table_is_sound():
    asked = "coco20i pascal5i fss1000 lvis92i pascal_part paco_part ade20k150 coco a847 pc459 lvis"
    assert set(asked.split()) | {"spair71k", *GROUPS["videos"]} <= set(TREES)
    assert {n for names in GROUPS.values() for n in names} <= set(TREES)
    for parts in TREES.values():
        for part in parts:
            assert all(p and not p.startswith("/") for p in part.paths)
            assert bool(part.lists) == ("{}" in part.pattern)
    assert [p.entries for p in TREES["coco20i"] if p.entries] == [26052, 15305, 13138, 12640]
    assert [p.entries for p in TREES["pascal5i"] if p.entries] == [346, 451, 725, 346]
    assert expected_trees.FSS_CLASSES.entries == 240


REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "protocols"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published lists are not here")
def test_the_published_lists_have_the_numbers(tmp_path):
    for number, expected in enumerate(expected_trees.COCO_LISTS):
        assert count_entries(REFERENCE / f"coco20i_val_fold{number}.json.gz") == expected
    for number, expected in enumerate(expected_trees.PASCAL_LISTS):
        assert count_entries(REFERENCE / f"pascal5i_val_fold{number}.txt") == expected
    assert count_entries(REFERENCE / "fss1000_test.txt") == 240
    assert count_entries(REFERENCE / "fss1000_trn.txt") == 520


def test_names_that_say_where_the_data_are(main, tmp_path, capsys):
    toy.folder_a(tmp_path)
    assert main([f"folder:{tmp_path / 'a'}"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    toy.coco(tmp_path)
    name = f"coco:{tmp_path / 'coco.json'}:{tmp_path / 'images'}"
    assert main([name, "--full"]) == 0
    next((tmp_path / "images").iterdir()).unlink()
    assert main([name]) == 1 and "no such file: " in capsys.readouterr().out
