import pytest
from detectron2.data import MetadataCatalog

from segic_d2.data.datasets.fss import fss_classes, register_fss
from segic_d2.data.index import Source, load_records
from tests.data import paper_data
from tests.data.toy import unique


def test_only_the_classes_of_the_split_are_read(tmp_path):
    paper_data.fss(tmp_path, ["abe's_flyingfish", "abacus", "another"])
    root = tmp_path / "FSS-1000"
    (root / "splits" / "test.txt").write_text("abe's_flyingfish\nabacus\n")
    assert fss_classes(root, "test") == ["abacus", "abe's_flyingfish"]
    name = unique("fss")
    register_fss(name, root, "test")
    source = Source(name)
    assert source.names == ["abacus", "abe's flyingfish"]
    assert MetadataCatalog.get(name).thing_classes == source.names
    assert source.presence == [[0]] * 10 + [[1]] * 10
    # a class's images in the order of their names as strings: 1, 10, 2, …
    assert [f.rsplit("/", 1)[1] for f in source.files[:3]] == ["1.jpg", "10.jpg", "2.jpg"]


def test_a_missing_class_or_list_is_named(tmp_path):
    with paper_data.registered(tmp_path):
        paper_data.fss(tmp_path, ["abacus"])
        (tmp_path / "FSS-1000/splits/val.txt").write_text("abacus\nzebra\nyak")
        with pytest.raises(FileNotFoundError, match="2 of its 3 class folders are missing.*/yak"):
            load_records("fss_1000_val")
        with pytest.raises(FileNotFoundError, match="no file .*splits/test.txt.*HSNet"):
            load_records("fss_1000_test")
