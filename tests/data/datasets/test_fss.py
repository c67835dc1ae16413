import pytest
from detectron2.data import MetadataCatalog

from segic_d2.data.datasets.fss import fss_classes, register_fss
from segic_d2.data.index import Source, load_records

from .. import paper_data
from ..toy import unique


def test_the_splits_are_disjoint_and_complete():
    splits = [fss_classes(split) for split in ("train", "val", "test")]
    assert [len(s) for s in splits] == [520, 240, 240]
    assert len(set().union(*splits)) == 1000
    assert all(s == sorted(s) for s in splits)
    assert "abe's_flyingfish" in splits[2]
    for split, names in zip(("train", "val", "test"), splits, strict=True):
        known = MetadataCatalog.get(f"fss_1000_{split}").thing_classes
        assert known == [n.replace("_", " ") for n in names]


def test_only_the_classes_of_the_split_are_read(tmp_path):
    paper_data.fss(tmp_path, ["abe's_flyingfish", "abacus", "another"])
    name = unique("fss")
    register_fss(name, tmp_path / "FSS-1000", ["abacus", "abe's_flyingfish"])
    source = Source(name)
    assert source.names == ["abacus", "abe's flyingfish"]
    assert source.presence == [[0]] * 10 + [[1]] * 10
    # a class's images in the order of their names as strings: 1, 10, 2, …
    assert [f.rsplit("/", 1)[1] for f in source.files[:3]] == ["1.jpg", "10.jpg", "2.jpg"]


def test_a_missing_class_is_named(tmp_path):
    with paper_data.registered(tmp_path):
        paper_data.fss(tmp_path, fss_classes("test")[:1])
        with pytest.raises(FileNotFoundError, match="239 of its 240 class folders are missing"):
            load_records("fss_1000_test")
