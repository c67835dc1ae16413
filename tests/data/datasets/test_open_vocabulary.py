"""What a label means in each data set's files, and where their class names come from."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data.datasets.class_list import read_class_list
from segic_d2.data.datasets.open_vocabulary import register_all_open_vocabulary
from segic_d2.data.index import Source
from tests.data import paper_data, toy
from tests.miniatures import a847, ade20k, pc459

ROOT = Path(__file__).resolve().parents[3]
NAMES = [f"{n}_sem_seg_{s}" for n in ("a847", "pc459", "coco") for s in ("train", "val")]


@pytest.fixture
def register():
    """A function that lets the data sets be looked for below a root."""

    def below(root):
        for name in NAMES:
            if name in DatasetCatalog:
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
        register_all_open_vocabulary(str(root))

    yield below
    below("datasets")


def labelled(source, image, labels):
    """Write a label map in place of an image's own; its record."""
    record = source.records[image]
    Image.fromarray(labels).save(record["sem_seg_file_name"])
    return record


def test_label_0_of_a847_is_wall(tmp_path, register):
    a847.make(tmp_path)
    register(tmp_path)
    source = Source("a847_sem_seg_val")
    assert source.names[0] == "wall" and len(source.names) == 847
    assert source.presence == [list(c) for c in a847.SHOWN]
    labels = np.array([[0, 0, 1], [846, 65535, 0]], np.uint16)
    record = labelled(source, 0, labels)
    mask, ignored = toy.class_mask(record, source.names.index("wall"))
    assert mask.tolist() == [[True, True, False], [False, False, True]]
    assert toy.class_mask(record, 846)[0].tolist() == [[False] * 3, [True, False, False]]
    assert ignored.tolist() == [[False] * 3, [False, True, False]]


def test_pc459_counts_from_0_and_ignores_65535(tmp_path, register):
    pc459.make(tmp_path)
    register(tmp_path)
    source = Source("pc459_sem_seg_val")
    assert source.names[:2] == ["accordion", "aeroplane"] and len(source.names) == 459
    assert source.presence == [list(c) for c in pc459.SHOWN]  # 255 among them
    record = labelled(source, 0, np.array([[0, 65535, 255]], np.uint16))
    assert toy.class_mask(record, 0)[0].tolist() == [[True, False, False]]
    mask, ignored = toy.class_mask(record, 255)
    assert mask.tolist() == [[False, False, True]] and ignored.tolist() == [[False, True, False]]
    assert len(source.files) == 4  # of VOC's five images


def test_0_is_ignored_in_ade20ks_own_maps(tmp_path):
    home = ade20k.make(tmp_path)
    raw = np.array([[0, 1, 150]], np.uint8)
    Image.fromarray(raw).save(home / "annotations/validation/ADE_val_00000001.png")
    assert runpy.run_path(str(ROOT / "datasets/prepare_ade20k.py"))["main"]([str(home)]) == 0
    with paper_data.registered(tmp_path):
        source = Source("ade20k_sem_seg_val")
    assert source.names[0] == "wall" and len(source.names) == 150
    assert source.presence[0] == [0, 149]
    mask, ignored = toy.class_mask(source.records[0], 0)
    assert mask.tolist() == [[False, True, False]] and ignored.tolist() == [[True, False, False]]


@pytest.mark.parametrize("folder", ["", "openseg_data"])
def test_both_places_are_looked_at(tmp_path, register, folder):
    a847.make(tmp_path / folder)
    pc459.make(tmp_path / folder)
    register(tmp_path)
    for name in NAMES[:4]:
        assert len(DatasetCatalog.get(name)) == 4


def test_an_unknown_value_is_named(tmp_path, register):
    a847.make(tmp_path)
    register(tmp_path)
    file = DatasetCatalog.get("a847_sem_seg_val")[1]["sem_seg_file_name"]
    Image.fromarray(np.array([[847]], np.uint16)).save(file)
    with pytest.raises(ValueError, match=f"{file} shows the ids .847., .* 847 classes .0 to 846."):
        Source("a847_sem_seg_val")


def test_without_label_maps_the_folder_is_named(tmp_path, register):
    home = a847.make(tmp_path)
    for file in (home / "annotations_detectron2/validation").iterdir():
        file.unlink()
    register(tmp_path)
    with pytest.raises(FileNotFoundError, match="no label maps .*annotations_detectron2/validat"):
        DatasetCatalog.get("a847_sem_seg_val")


def write(tmp_path, *lines):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ("wall", "door, gate", "2 storey house"),
        ("0: wall", "1: door, gate", "2: 2 storey house"),
        ("1 wall", "2 door, gate", "3 2 storey house"),
        ("1\twall", "", "2:door, gate", " 3  2 storey house"),
    ],
)
def test_class_lists(tmp_path, lines):
    expected = ["wall", "door, gate", "2 storey house"]
    assert read_class_list(write(tmp_path, *lines), 3, first="wall") == expected


def test_class_lists_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*none.txt: the names of the 3 classes"):
        read_class_list(tmp_path / "none.txt", 3)
    with pytest.raises(ValueError, match="classes.txt names 2 classes, the labels are 0 to 2"):
        read_class_list(write(tmp_path, "a", "b"), 3)
    with pytest.raises(ValueError, match="classes.txt: expected the number 2, not '3: b'"):
        read_class_list(write(tmp_path, "1: a", "3: b"), 2)
    with pytest.raises(ValueError, match="the first name is 'building', but label 0 is 'wall'"):
        read_class_list(write(tmp_path, "building", "sky"), 2, first="wall")
    with pytest.raises(ValueError, match="expected the number 1, not '2: a'"):
        read_class_list(write(tmp_path, "2: a", "3: b"), 2)
