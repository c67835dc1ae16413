"""On a real device: ``pytest -m gpu``, or all of tools/gpu_check.sh. Skipped where there is none.

``SEGIC_D2_TEST_DEVICE=cpu`` runs them on the CPU, to see that they run.
"""

import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from segic_d2.engine import EpisodeTrainer
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.devices import is_available, upload
from tests.engine.short_runs import short_config, train
from tests.tiny import tiny_config

DEVICE = os.environ.get("SEGIC_D2_TEST_DEVICE", "cuda")
TOOL = Path(__file__).resolve().parents[1] / "tools" / "gpu_equal.py"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not is_available(DEVICE), reason=f"torch finds no {DEVICE!r} here"),
]


@pytest.fixture(scope="module")
def equal():
    spec = importlib.util.spec_from_file_location("gpu_equal", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", ["predictor", "training", "evaluation"])
def test_the_tiny_model_finds_what_it_finds_on_a_cpu(equal, case):
    cfg = tiny_config("SOLVER.IMS_PER_BATCH", 2, *equal.STRATEGIES)
    results = list(equal.compare(cfg, case, DEVICE))
    assert len(results) == len(equal.precisions(case, DEVICE))
    assert not [result for result in results if "fails" in result]


def test_uploaded_values_are_those_of_the_moment():
    """Nobody waits for the copy, though its source is overwritten and freed at once."""
    source, copies = torch.zeros(200_000), []
    for i in range(50):
        source.fill_(i)
        copies.append(upload(source, DEVICE).clone())
        copies.append(upload([i] * 3, DEVICE, torch.float32).clone())
    for i in range(50):
        assert (copies[2 * i] == i).all() and copies[2 * i + 1].tolist() == [i] * 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_waits_for_its_results_alone(precision):
    """As docs/gpu.md lists: masks, scores, logits; torch itself warns of each wait."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 60, 90, 3), dtype=np.uint8)
    predictor = InContextPredictor(tiny_config(), device=DEVICE, precision=precision)
    predictor.set_references([(first, np.eye(60, 90) > 0, "a")])
    predictor(first)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            predictor(second)
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in caught if "called a synchronizing" in str(w.message)]
    assert len(waits) <= 3, waits


def test_a_run_trains_resumes_and_evaluates(tmp_path):
    half = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bf16" if DEVICE == "cpu" else "fp16")
    opts = ("MODEL.DEVICE", DEVICE, *half, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EPISODES", 4)
    train(tmp_path, *opts, "SOLVER.MAX_ITER", 2)
    trainer, losses = train(tmp_path, *opts, "SOLVER.MAX_ITER", 4, resume=True)
    assert sorted(losses) == [2, 3] and np.isfinite(list(losses.values())).all()
    assert trainer.model.device.type == torch.device(DEVICE).type
    cfg = short_config(tmp_path, *opts, "DATASETS.TEST", ("shapes_novel_coco",))
    results = EpisodeTrainer.test(cfg, trainer.model)
    assert 0 <= results["one_shot"]["mIoU"] <= 100
