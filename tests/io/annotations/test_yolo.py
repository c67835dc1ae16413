"""YOLO's segmentation labels, as Ultralytics and Roboflow lay them out."""

import numpy as np
import pytest

from segic_d2.io.annotations import read_annotations
from tests.io.annotations.parts import box, picture, read, write

LINE = "1 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n"  # of 60x40 px: 15, 10 to 30, 30


def roboflow(folder, line=LINE):
    """``train: ../train/images`` means a folder beside data.yaml."""
    for split in ("train", "valid"):
        picture(folder / split / "images" / f"{split}.rf.01.jpg")
        write(folder / split / "labels" / f"{split}.rf.01.txt", line)
    picture(folder / "train" / "images" / "nothing.jpg")
    names = "names: ['cat', 'dog']\nnc: 2\n"
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(folder / "data.yaml", text + names)
    return f"yolo:{folder}"


def test_roboflow(tmp_path):
    found = read(roboflow(tmp_path))
    assert found.names == ["cat", "dog"] and len(found) == 3
    assert [p.split for p in found] == ["train", "train", "val"]
    assert [len(p.things) for p in found] == [0, 1, 1]
    for name, mask in found[1].masks().items():
        assert name == "dog"
        np.testing.assert_array_equal(mask, box(15, 10, 30, 30))


def test_ultralytics(tmp_path):
    """names by number, a path of another machine, images/train beside labels/train."""
    picture(tmp_path / "images" / "train" / "a.png")
    write(tmp_path / "labels" / "train" / "a.txt", "\ufeff" + LINE + "\n")
    text = "path: /home/me/coco8\ntrain: images/train\nval: images/train\nnames:\n  0: a\n  1: b\n"
    write(tmp_path / "data.yaml", text)
    found = read(f"yolo:{tmp_path / 'data.yaml'}")
    assert len(found) == 1 and list(found[0].masks()) == ["b"]


@pytest.mark.parametrize(
    "text",
    [
        "path: D:\\sets\\pets\ntrain: images\\train\nval: images\\val\nnames: [a, b]\n",
        "train: D:\\sets\\pets\\images\\train\nval: D:/sets/pets/images/val\nnames: [a, b]\n",
        "train: /content/pets/images/train\nval: pets/images/val\nnames: {'0': a, '1': b}\n",
        "train: train.txt\nval: [images/val]\nnames: {0: a, 1: b}\n",
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "TXT"])
def test_paths_of_another_machine(tmp_path, text, suffix):
    """Without a slash before it, or of Windows; the files of the labels may be in capitals."""
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / f"{split}.png")
        write(tmp_path / "labels" / split / f"{split}.{suffix}", LINE)
    write(tmp_path / "train.txt", ".\\images\\train\\train.png\n")
    write(tmp_path / "data.yaml", text)
    found = read(f"yolo:{tmp_path}")
    assert found.names == ["a", "b"] and [p.split for p in found] == ["train", "val"]
    assert [list(p.masks()) for p in found] == [["b"], ["b"]]


def test_images_alone_are_not_those_of_every_split(tmp_path):
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "data.yaml", "train: /x/train/images\nval: /x/val/images\nnames: [a]\n")
    with pytest.raises(FileNotFoundError, match="train is '/x/train/images': no such folder"):
        read_annotations(f"yolo:{tmp_path}")


def test_without_a_yaml(tmp_path):
    picture(tmp_path / "images" / "val" / "a.png")
    write(tmp_path / "labels" / "val" / "a.txt", LINE)
    found = read(f"yolo:{tmp_path}")
    assert found.names == ["class 0", "class 1"] and found[0].split == "val"
    write(tmp_path / "classes.txt", "cat\ndog\n")
    assert read(f"yolo:{tmp_path}").names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.1 0.1 x 0.2 0.3 0.3", "could not convert string to float: 'x'; expected class x y"),
        ("1.5 0.1 0.1 0.2 0.2 0.3 0.3", "expected class x y x y"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "class is 2, data.yaml names 2 from 0 on"),
        ("1 10 10 20 10 20 20", "10 is no share of a side from 0 to 1"),
        ("1 nan 0.1 0.2 0.2 0.3 0.3", "nan is no share"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "polygon 1 has 7 numbers"),
    ],
)
def test_a_fault_is_one_line_with_file_and_line(tmp_path, line, message):
    found = read_annotations(roboflow(tmp_path, LINE + line + "\n"))
    assert len(found.faults) == 2
    assert found.faults[0].startswith(f"{tmp_path}/train/labels/train.rf.01.txt, line 2: ")
    assert message in found.faults[0]
    assert len(found[1].things) == 1


def test_boxes_are_no_masks(tmp_path):
    found = read_annotations(roboflow(tmp_path, "1 0.5 0.5 0.2 0.2\n"))
    (fault,) = found.faults
    assert "its 2 lines are boxes" in fault
    found = read_annotations(roboflow(tmp_path, LINE + "1 0.5 0.5 0.2 0.2\n"))
    assert found.faults == [] and found.notes == {"of boxes alone": 2}


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: {0: a, 2: b}\ntrain: .", "numbered from 0 without gaps"),
        ("names: {0: a, b: 1}\ntrain: .", "numbered from 0 without gaps"),
        ("names: [a]\ntrain: ../none", "train is '../none': no such folder"),
        ("names: [a]\ntrain: " + "x" * 5000, "train is 'x{79}: no such folder"),
        ("names: {0: a, b: c}", "numbered from 0 without gaps"),
        ("[", "cannot read .*data.yaml"),
        ("names: [a]\ndate: 2001-99-99", "cannot read .*data.yaml: month must be in 1..12"),
        ("names: [a]\nnc: !!bool x", "cannot read .*data.yaml: 'x'"),
        ("? \ud7ff: [", "cannot read .*data.yaml: while parsing [^\n]*$"),
        ("!!python/object/apply:os.system ['touch x']", "cannot read .*data.yaml"),
        ("text", "holds no keys"),
    ],
)
def test_yaml_that_is_none(tmp_path, yaml, message):
    picture(tmp_path / "a.png")
    write(tmp_path / "data.yaml", yaml)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_annotations(f"yolo:{tmp_path}")


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pictures in"):
        read_annotations(f"yolo:{tmp_path}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[cat, cat]", "the name of class 1 is 'cat' again"),
        ("[cat, '']", "the name of class 1 is empty"),
        ("{0: cat, b: dog}", "must be numbered from 0 without gaps"),
    ],
)
def test_names_that_tell_no_classes_apart(tmp_path, names, message):
    name = roboflow(tmp_path)
    write(tmp_path / "data.yaml", f"train: train/images\nnames: {names}\n")
    with pytest.raises(ValueError, match=message):
        read_annotations(name)


def test_an_empty_line_among_names_moves_no_class(tmp_path):
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "labels" / "a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\ndog\n\n")
    assert read(f"yolo:{tmp_path}").names == ["cat", "dog"]
    write(tmp_path / "classes.txt", "cat\n\ndog\n")
    with pytest.raises(ValueError, match="the name of class 1 is empty"):
        read_annotations(f"yolo:{tmp_path}")
