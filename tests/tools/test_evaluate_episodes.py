"""tools/evaluate_episodes.py beside the evaluators that train_net.py uses."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset

from segic_d2.data import build_one_shot_loader
from segic_d2.evaluation import BestThresholdEvaluator, OneShotEvaluator
from segic_d2.predictor import InContextPredictor
from tests.tiny import tiny_config

PATH = Path(__file__).resolve().parents[2] / "tools" / "evaluate_episodes.py"
spec = importlib.util.spec_from_file_location("evaluate_episodes", PATH)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
NOVEL, SEEN = "shapes_novel_coco", "shapes_seen_coco"
OPTS = ("TEST.EPISODES", 12, "TEST.BATCH_SIZE", 5, "DATALOADER.NUM_WORKERS", 0)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = InContextPredictor(tiny_config(), device="cpu").model
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    (tmp_path / "tiny.yaml").write_text(tiny_config(*OPTS).dump())
    backbone = {k[len("backbone.") :]: v for k, v in model.state_dict().items() if "patch" in k}
    torch.save(backbone, tmp_path / "backbone.pth")
    return tmp_path


def run(folder, *names):
    opts = ["MODEL.BACKBONE.WEIGHTS", str(folder / "backbone.pth")]
    args = [*names, "--config-file", str(folder / "tiny.yaml"), "--weights", str(folder / "w.pth")]
    tool.main([*args, "--output", str(folder / "out.json"), "--opts", *opts])
    return json.loads((folder / "out.json").read_text())


def test_figures_are_those_of_the_evaluators(weights, capsys):
    found = run(weights, NOVEL, "--shots", "1", "2", "--tune", SEEN)
    opts = ("MODEL.BACKBONE.WEIGHTS", str(weights / "backbone.pth"))
    outputs = "masks", "propagated_mask"
    for row in found["rows"]:
        cfg = tiny_config(*OPTS, *opts, "TEST.SHOTS", row["shots"])
        model = InContextPredictor(cfg, weights=weights / "w.pth", device="cpu").model
        evaluators = DatasetEvaluators([OneShotEvaluator(NOVEL), BestThresholdEvaluator(NOVEL)])
        expected = inference_on_dataset(
            lambda batch, model=model: model.inference(batch, outputs=outputs),
            build_one_shot_loader(cfg, NOVEL),
            evaluators,
        )
        assert row["episodes"] == 12
        assert row["IoU"] == pytest.approx(expected["one_shot"]["mIoU"])
        assert row["best"] == pytest.approx(expected["propagated_mask"]["mIoU"])
        assert 0 < row["boundary_IoU"] < 100
        # the tuned threshold cannot beat the best one, but for pixels on the edge of a bin
        assert 0 < row["fixed"] <= row["best"] + 0.1
    first, second = found["rows"]
    assert first["best"] != second["best"]  # other references
    table = capsys.readouterr().out
    assert f"| {first['fixed']:.1f} |" in table and f"{found['threshold']:.3f}" in table


def test_the_fixed_threshold_is_the_best_of_the_tuning_set(weights):
    found = run(weights, SEEN, "--tune", SEEN)
    (row,) = found["rows"]
    assert row["best_threshold"] == found["threshold"]
    assert row["fixed"] == pytest.approx(row["best"], abs=0.1)


def test_unknown_datasets_are_named(weights):
    with pytest.raises(SystemExit, match="no_such_set"):
        run(weights, "no_such_set")
