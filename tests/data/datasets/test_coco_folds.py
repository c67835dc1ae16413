"""COCO-20i folds by name, against the published lists of classes."""

import gzip
import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from segic_d2.data import register_folder_dataset
from segic_d2.data.datasets.coco_folds import fold_classes
from segic_d2.data.index import Source, load_records
from tests.data import paper_data, toy

LISTS = Path(__file__).resolve().parents[4] / "shared/protocols"
PUBLISHED = {  # the first and the last classes of each fold
    0: ("person", "airplane", "boat", "scissors"),
    1: ("bicycle", "bus", "traffic light", "teddy bear"),
    2: ("car", "train", "fire hydrant", "hair drier"),
    3: ("motorcycle", "truck", "stop sign", "toothbrush"),
}


@pytest.mark.parametrize("fold", range(4))
def test_the_classes_of_a_fold_are_the_published_ones(fold):
    names = [c["name"] for c in paper_data.COCO]
    held_out = [names[i] for i in fold_classes(fold)]
    assert len(held_out) == 20
    assert (*held_out[:3], held_out[-1]) == PUBLISHED[fold]
    file = LISTS / f"coco20i_val_fold{fold}.json.gz"
    if not file.is_file():
        pytest.skip("the published image lists are not beside the checkout")
    listed = json.loads(gzip.decompress(file.read_bytes()))
    assert sorted(int(c) for c, images in listed.items() if images) == fold_classes(fold)


@pytest.mark.parametrize("fold", range(4))
def test_training_never_asks_for_a_held_out_class(paper_root, fold):
    whole, source = Source("coco_2014_train"), Source(f"coco_2014_train@fold{fold}")
    held_out = set(fold_classes(fold))
    assert source.names == whole.names
    assert source.files == whole.files  # images that also show held-out classes stay
    expected = [[c for c in classes if c not in held_out] for classes in whole.presence]
    assert source.presence == expected
    assert set(source.class_index().classes.tolist()) == set(range(80)) - held_out
    novel = Source(f"coco_2014_train@novel{fold}")
    assert set(novel.class_index().classes.tolist()) == held_out
    both = [sorted(a + b) for a, b in zip(source.presence, novel.presence, strict=True)]
    assert both == whole.presence


def test_pixels_of_held_out_classes_are_background(paper_root):
    """Image 1 shows the classes 0 … 13 and a crowd of class 0, which fold 0 holds out."""
    record = Source("coco_2014_train@fold0").records[0]
    mask, ignore = toy.class_mask(record, 1)
    assert mask.sum() == 49 and ignore is None
    mask, _ = toy.class_mask(record, 0)
    assert not mask.any()
    mask, ignore = toy.class_mask(Source("coco_2014_train").records[0], 0)
    assert mask.sum() == 49 and ignore.sum() == 4 * paper_data.SIZE[0]


def test_images_that_show_nothing_of_a_side_are_left_out(paper_root):
    records = DatasetCatalog.get("coco_2014_train")
    one = [{**r, "annotations": r["annotations"][:1]} for r in records[:4]]  # classes 0, 4, 8, 12
    DatasetCatalog.register("coco_firsts", lambda: one)
    MetadataCatalog.get("coco_firsts").thing_classes = [c["name"] for c in paper_data.COCO]
    assert len(load_records("coco_firsts@novel0")) == 4
    with pytest.raises(ValueError, match="'coco_firsts@fold0' has no images"):
        load_records("coco_firsts@fold0")
    assert [len(r["annotations"]) for r in one] == [1] * 4  # the base is as it was


def test_errors_name_the_dataset(paper_root, tmp_path):
    with pytest.raises(ValueError, match="'coco_2014_train@fold4': COCO-20i has the folds 0 to 3"):
        load_records("coco_2014_train@fold4")
    with pytest.raises(ValueError, match="'lvis_v1_train@fold1': the classes of 'lvis_v1_train'"):
        load_records("lvis_v1_train@fold1")
    with pytest.raises(KeyError, match="nowhere"):
        load_records("nowhere@fold1")


def test_a_folder_may_have_such_a_name(tmp_path):
    (tmp_path / "my@folder" / "cat").mkdir(parents=True)
    register_folder_dataset("a@folder", tmp_path / "my@folder")
    with pytest.raises(ValueError, match="no images in class folder"):
        load_records("a@folder")
    with pytest.raises(ValueError, match="no images in class folder"):
        load_records(f"folder:{tmp_path}/my@folder")
