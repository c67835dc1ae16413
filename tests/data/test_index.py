import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data import index
from segic_d2.data.index import Source, cache_folder, label_values

from . import toy


@pytest.fixture
def maps(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "cache_folder", cache_folder)
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(np.array([[0, i + 1, 255]], np.uint8)).save(file)
    return files


def forbid(monkeypatch):
    def read(files):
        raise AssertionError("read again")

    monkeypatch.setattr(index, "_read_values", read)


def test_label_maps_are_read_once_and_again_when_they_change(maps, monkeypatch):
    expected = [[0, 1, 255], [0, 2, 255], [0, 3, 255]]
    assert label_values(maps) == expected
    with monkeypatch.context() as patch:
        forbid(patch)
        assert label_values(maps) == expected
    Image.fromarray(np.full((1, 3), 9, np.uint8)).save(maps[0])
    os.utime(maps[0], ns=(1, 1))
    assert label_values(maps) == [[9], *expected[1:]]


def test_a_damaged_cache_file_is_replaced(maps, monkeypatch):
    expected = label_values(maps)
    (file,) = (cache_folder() / "label_values").glob("*.json")
    file.write_text("[[0, 1")
    assert label_values(maps) == expected
    forbid(monkeypatch)
    assert label_values(maps) == expected


def test_large_ids(tmp_path, maps):
    Image.fromarray(np.array([[0, 70000, 3]], np.int32)).save(tmp_path / "large.tif")
    assert label_values([tmp_path / "large.tif"]) == [[0, 3, 70000]]


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGIC_D2_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "segic_d2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "segic_d2"


def test_presence_of_every_form(tmp_path):
    shown = [sorted({c for c, _ in objects}) for _, objects in toy.scenes()]
    coco = Source(toy.coco(tmp_path))
    assert coco.presence == shown and coco.names == toy.NAMES
    assert coco.counts.tolist() == [3] * 8  # the crowd in the first image does not count
    sem_seg = Source(toy.sem_seg(tmp_path))
    assert sem_seg.presence == [[c + 1 for c in classes] for classes in shown]
    assert sem_seg.counts is None
    assert sem_seg.records[0]["ignore_label"] == 255
    folder = Source(toy.folder_a(tmp_path))
    assert folder.names == sorted(toy.NAMES)
    assert folder.presence == [[0], [0], [1], [1], [2], [2]]


def register(records, **metadata):
    name = toy.unique("index")
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(**metadata)
    return name


def test_ade_style_labels_have_no_background(maps):
    records = [{"file_name": f"{f}.jpg", "sem_seg_file_name": str(f)} for f in maps]
    classes = ["wall", "building", "sky", "floor"]
    source = Source(register(records, stuff_classes=classes, ignore_label=255))
    assert source.presence == [[0, 1], [0, 2], [0, 3]]
    source = Source(register(records, stuff_classes=classes, ignore_label=255, background_label=0))
    assert source.presence == [[1], [2], [3]]


def test_errors_name_dataset_file_and_key(maps):
    records = [{"file_name": f"{f}.jpg", "sem_seg_file_name": str(f)} for f in maps]
    with pytest.raises(ValueError, match=r"2\.png shows the ids \[0, 3\].*3 classes"):
        Source(register(records, stuff_classes=["a", "b", "c"]))
    nameless = register(records)
    with pytest.raises(ValueError, match=f"{nameless}.*stuff_classes"):
        Source(nameless)
    empty = register([], thing_classes=["a"])
    with pytest.raises(ValueError, match=f"{empty}.*no images"):
        Source(empty)
    with pytest.raises(KeyError, match="never_registered"):
        Source("never_registered")
