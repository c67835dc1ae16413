"""Semantic segmentation of each dataset in miniature, from its files to its figures."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

from segic_d2.data.datasets.open_vocabulary import register_all_open_vocabulary
from segic_d2.engine import evaluate
from segic_d2.modeling.context import Context
from tests.data import paper_data
from tests.miniatures import a847, ade20k, coco_semantic, pc459
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"{n}_sem_seg_{s}" for n in ("a847", "pc459", "coco") for s in ("train", "val")]


def register_below(root):
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    register_all_open_vocabulary(str(root))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All four datasets where Detectron2 looks for its own, prepared as documented."""
    root = tmp_path_factory.mktemp("datasets")
    with paper_data.registered(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(root / "cache"))
        for miniature in (a847, pc459, ade20k, coco_semantic):
            miniature.make(root)
        register_below(root)
        prepare = runpy.run_path(str(ROOT / "datasets/prepare_ade20k.py"))["main"]
        assert prepare([str(root / "ADEChallengeData2016")]) == 0
        assert runpy.run_path(str(ROOT / "datasets/prepare_coco_semantic.py"))["main"](["val"]) == 0
        yield root
    register_below("datasets")


def settings(tmp_path, name, *opts, reference=None):
    """A tiny config of one dataset."""
    reference = reference or f"{name}_sem_seg_train"
    return tiny_config(
        *("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0, "TEST.SEEN", "seen"),
        *("DATASETS.TEST", (f"{name}_sem_seg_val",), "DATASETS.REFERENCE", (reference,)),
        *("TEST.EVALUATORS", ("semantic",), "TEST.BATCH_SIZE", 3, *opts),
        canvas=56,
    )


def built(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def run(cfg, model=None):
    """{mode: figures} and results.json of the config's dataset."""
    (name,) = cfg.DATASETS.TEST
    found = evaluate(cfg, model or built(cfg), name)
    modes = {task.split("-")[2]: figures for task, figures in found.items()}
    file = Path(cfg.OUTPUT_DIR) / "inference" / name / "semantic" / "results.json"
    return modes, json.loads(file.read_text()), list(found)


def calls(model):
    """A list that collects how many images each call of the backbone gets."""
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


@pytest.mark.parametrize(
    "name, reference, occur",
    [
        ("ade20k", None, 4),
        ("coco", "coco_2017_train", 4),  # with background
        ("a847", None, 4),
        ("pc459", None, 4),
    ],
)
def test_each_dataset_runs_from_its_files_to_its_figures(root, tmp_path, name, reference, occur):
    cfg = settings(tmp_path, name, reference=reference)
    model = built(cfg)
    sizes = calls(model)
    modes, written, tasks = run(cfg, model)
    assert tasks == [f"sem_seg-{name}-{mode}-1shot-seen-no_text" for mode in ("all", "present")]
    for mode, figures in modes.items():
        counted = [v for k, v in figures.items() if k.startswith("IoU-") and not np.isnan(v)]
        assert len(counted) == occur and figures["mIoU"] == pytest.approx(np.mean(counted))
        assert written["metrics"][f"mIoU_{mode}"] == figures["mIoU"]
        assert not any("nothing" in key for key in figures)
    assert written["benchmark"] == f"sem_seg-{name}" and written["shots"] == 1
    assert written["images"] == 4 and len(written["skipped"]) == len(MISSING[name])
    # three or four references, each of one picture, then four targets, for both scores at once
    context = Context.load(
        tmp_path / f"inference/{name}_sem_seg_val/semantic/context.safetensors"
    )
    pictures = {file for files in context.about["files"] for file in files}
    assert sum(sizes) == len(pictures) + 4
    sizes.clear()
    assert run(cfg, model)[1] == written  # the context is read
    assert sum(sizes) == 4


MISSING = {
    "ade20k": [i for i in range(150) if i + 1 not in {1, 2, 40, 150}],
    "coco": [i for i in range(80) if i not in {0, 1, 79}],
    "a847": [i for i in range(847) if i not in {0, 1, 300, 846}],
    "pc459": [i for i in range(459) if i not in {0, 1, 255, 458}],
}
