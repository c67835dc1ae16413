"""The evaluations of contexts serve one whose tensors are pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine import evaluate
from segic_d2.engine.evaluations.pairs import PairEvaluation
from tests.miniatures import fss1000, spair71k, videos
from tests.modeling.seggpt.parts import TINY, lively, scene, small_config


def evaluated(tmp_path, name, evaluator, at_once=1, **opts):
    cfg = small_config(32, **TINY, COLORS=at_once)
    cfg.merge_from_list(
        [
            *("OUTPUT_DIR", str(tmp_path / "out"), "TEST.EPISODES", 4, "TEST.FIRST_EPISODES", 4),
            *("DATASETS.TEST", (name,), "DATALOADER.NUM_WORKERS", 0, "TEST.SHOTS", 2),
            *("TEST.EVALUATORS", (evaluator,), "TEST.BATCH_SIZE", 3),
            *(x for k, v in opts.items() for x in (k.replace("__", "."), v)),
        ]
    )
    found = evaluate(cfg, lively(COLORS=at_once), name)
    content = json.loads(next((tmp_path / "out").rglob("results.json")).read_text())
    assert found and content["text"] == "no_text" and content["metrics"]
    return content


@pytest.mark.parametrize("at_once", [1, 4])
def test_one_shot(tmp_path, at_once):
    assert evaluated(tmp_path, "shapes_novel_coco", "one_shot", at_once)["episodes"] == 4


def test_few_shot(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    fss1000.make(tmp_path / "data")
    assert evaluated(tmp_path, "fss1000_test", "few_shot")["shots"] == 2


@pytest.mark.parametrize("at_once", [1, 4])
def test_semantic(root, tmp_path, at_once):
    reference = ("ade20k_sem_seg_train",)
    name = "ade20k_sem_seg_val"
    found = evaluated(tmp_path, name, "semantic", at_once, DATASETS__REFERENCE=reference)
    assert found["benchmark"] == "sem_seg-ade20k"


def test_pairs(tmp_path):
    for seed in range(4):
        image, masks = scene(seed)
        (tmp_path / "thing").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"thing/{seed}.png")
        Image.fromarray(masks[0].astype(np.uint8) * 255).save(tmp_path / f"thing/{seed}_mask.png")
    model = lively()
    run = PairEvaluation(small_config(32, **TINY), model, PairFolder(str(tmp_path)))
    assert 0 <= run.plain.evaluate()["IoU"] <= 100


def test_video(tmp_path):
    """DAVIS's miniature, with the memory of the config: the given frame and the last eight."""
    videos.make_davis(tmp_path / "data")
    options = small_config(32, **TINY).TEST.VIDEO
    assert (options.MEMORY, options.MEMORY_SIZE) == ("fifo", 8)
    with videos.registered(tmp_path / "data"):
        metrics = evaluated(tmp_path, "davis17_val", "video")["metrics"]
    assert metrics["videos"] > 0 and 0 <= metrics["J&F_Mean"] <= 100


def test_pixels_have_no_key_points(tmp_path):
    spair71k.make(tmp_path)
    with (
        spair71k.registered(tmp_path),
        pytest.raises(ValueError, match="'pck' .* SegGPT are the p"),
    ):
        evaluated(tmp_path, "spair71k_test", "pck")
