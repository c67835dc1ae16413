"""The training and test episodes of the ablations, on miniature copies of their data."""

import pytest

from segic_d2.config.load import load_config
from segic_d2.data import build_one_shot_loader, build_train_loader, check_data
from segic_d2.data.datasets.coco_folds import fold_classes

NAMES = ["data_coco_sem", "data_coco_sem_ade20k", "data_coco_sem_inst", "data_all"]
NAMES += ["coco20i_fold0", "coco20i_fold3", "coco20i_fold1_plus"]


@pytest.mark.parametrize("name", NAMES)
def test_episodes_come_from_every_data_set(name, paper_root):
    opts = ["INPUT.CANVAS", 112, "DATALOADER.NUM_WORKERS", 0, "TEST.EPISODES", 12]
    cfg = load_config(f"ablations/{name}.yaml", opts)
    check_data(cfg)
    stream = build_train_loader(cfg).dataset.dataset._dataset
    plans = [stream[i] for i in range(200)]
    assert {p["dataset"] for p in plans} == set(range(len(cfg.DATASETS.TRAIN)))
    for number in range(len(cfg.DATASETS.TRAIN)):
        plan = next(p for p in plans if p["dataset"] == number)
        assert stream.mappers[number](plan)["masks"].any()
    if not name.startswith("coco20i"):
        return
    held_out = set(fold_classes(int(name[len("coco20i_fold")])))
    asked = {c for p in plans if p["dataset"] == 0 for c in p["entities"]}
    assert len(asked) > 10 and not asked & held_out
    tested = [e for batch in build_one_shot_loader(cfg, cfg.DATASETS.TEST[0]) for e in batch]
    assert {e["entities"][0]["id"] for e in tested} <= held_out
