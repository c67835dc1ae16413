"""Seen, unseen or mixed; text or no text."""

import pytest

from segic_d2.config.load import load_config
from segic_d2.data.benchmarks.pascal5i import NAMES as VOC_NAMES
from segic_d2.data.datasets.coco_folds import fold_classes
from segic_d2.engine.evaluations.result_names import conditions, training_classes
from tests.data import toy


def config(*train, **opts):
    flat = [x for k, v in opts.items() for x in (k.upper().replace("__", "."), v)]
    return load_config(opts=["DATASETS.TRAIN", train, *flat])


@pytest.mark.parametrize(
    "train, classes, expected",
    [
        (("coco_2014_train",), ["cat", "Teddy_Bear"], "seen"),
        (("coco_2014_train",), ["cat", "unicorn"], "mixed"),
        (("coco_2014_train",), ["unicorn"], "unseen"),
        (("coco_2014_train", "ade20k_sem_seg_train"), ["cat", "wall"], "seen"),
        ((), ["cat"], "unseen"),
        (("coco_2014_train@fold0",), ["person", "airplane"], "unseen"),
        (("coco_2014_train@fold0",), ["person", "bicycle"], "mixed"),
        (("coco_2014_train@fold1",), ["person", "airplane"], "seen"),
        (("coco_2014_train@novel0",), ["person", "airplane"], "seen"),
        (("coco_2014_train",), VOC_NAMES, "seen"),  # spelled otherwise
        (("coco_2014_train@fold0",), ["aeroplane", "diningtable"], "unseen"),
    ],
)
def test_by_name(train, classes, expected):
    assert conditions(config(*train), classes) == (expected, "text")


def test_a_strict_fold_is_unseen_in_its_own_test():
    names = training_classes("coco_2014_train")
    for fold in range(4):
        cfg = config(f"coco_2014_train@fold{fold}", model__segic__meta=False)
        test = [names[c] for c in fold_classes(fold)]
        assert conditions(cfg, test) == ("unseen", "no_text")
        assert len(training_classes(f"coco_2014_train@fold{fold}")) == 60


def test_what_the_files_say_is_read(tmp_path):
    name = toy.folder_b(tmp_path)
    assert training_classes(name) == toy.NAMES  # without its background
    assert conditions(config(name), ["red thing", "background"]) == ("mixed", "text")


@pytest.mark.parametrize("value", ["seen", "unseen", "mixed"])
def test_the_key_goes_before_the_datasets(value):
    assert conditions(config("coco_2014_train", test__seen=value), ["cat"]) == (value, "text")


def test_what_cannot_be_known_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}.*DATASETS.TRAIN.* Set TEST.SEEN to"):
        conditions(config(f"folder:{tmp_path}/none"), ["cat"])
    assert conditions(config(f"folder:{tmp_path}/none"), ["cat"], read=False) == ("", "text")
