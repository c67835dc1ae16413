import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from segic_d2.data.index import Source
from tests.data import toy


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
