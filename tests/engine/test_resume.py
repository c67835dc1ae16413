"""A run that was interrupted goes on bit for bit, wherever that was and whatever the recipe."""

import logging

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.engine.short_runs import as_if_killed_after, train

RECIPES = {
    "steps": ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (3,)),
    "steps in bf16": ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (3,), "SOLVER.AMP.ENABLED", True),
    "cosine, clipped": (
        *("SOLVER.MAX_ITER", 6, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),
        *("SOLVER.WARMUP_ITERS", 2, "SOLVER.CLIP_GRADIENTS.ENABLED", True),
        *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.05),
    ),
    "samples": (
        *("SOLVER.MAX_SAMPLES", 12, "SOLVER.STEPS_SAMPLES", (6,), "SOLVER.WARMUP_SAMPLES", 2),
    ),
}


def final_state(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_resuming_continues_exactly(tmp_path, recipe):
    """From before the drop of the rate, from the iteration of the drop, and from after it."""
    opts = (*RECIPES[recipe], "SOLVER.CHECKPOINT_PERIOD", 1)
    _, whole = train(tmp_path / "whole", *opts)
    assert sorted(whole) == list(range(6))
    rates = [whole[i][2] for i in range(6)]
    if "steps" in recipe or recipe == "samples":
        assert rates[2] == pytest.approx(1e-3) and rates[3:] == pytest.approx([1e-4] * 3)
    else:
        assert rates[0] < rates[1] > rates[2] > rates[3] > rates[5] > 0
    expected = final_state(tmp_path / "whole")
    for last in (1, 2, 4):
        folder = as_if_killed_after(last, tmp_path / "whole", tmp_path / f"after{last}")
        _, rest = train(folder, *opts, resume=True)
        assert rest == {i: whole[i] for i in range(last + 1, 6)}, last
        found = final_state(folder)
        for part in ("model", "trainer"):  # optimizer, schedule, scaler
            ours, theirs = tree_leaves(found[part]), tree_leaves(expected[part])
            assert len(ours) == len(theirs) > 2
            for a, b in zip(ours, theirs, strict=True):
                assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, (last, part)


def test_what_an_iteration_means_may_not_change(tmp_path, caplog):
    """Another batch size is refused; another precision is allowed, with a warning."""
    train(tmp_path, "SOLVER.MAX_ITER", 2)
    longer = ("SOLVER.MAX_ITER", 3)
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 4, .* trained with 2"):
        train(tmp_path, *longer, "SOLVER.IMS_PER_BATCH", 4, resume=True)
    with caplog.at_level(logging.WARNING, "segic_d2"):
        _, values = train(tmp_path, *longer, "SOLVER.AMP.ENABLED", True, resume=True)
    assert "SOLVER.AMP is bf16, and was fp32 until now" in caplog.text and sorted(values) == [2]
    # its weights may start a run with any batch
    weights = ("MODEL.WEIGHTS", str(tmp_path / "model_final.pth"), "SOLVER.IMS_PER_BATCH", 4)
    _, values = train(tmp_path / "new", "SOLVER.MAX_ITER", 1, *weights)
    assert sorted(values) == [0]


def test_checkpoints_of_before_the_record_resume(tmp_path):
    train(tmp_path, "SOLVER.MAX_ITER", 1)
    saved = final_state(tmp_path)
    assert saved["trainer"].pop("run") == {
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.OPTIMIZER": "ADAMW",
        "SEED": 42,
        "SOLVER.AMP": "fp32",
    }
    torch.save(saved, tmp_path / "model_final.pth")
    _, values = train(tmp_path, "SOLVER.MAX_ITER", 2, resume=True)
    assert sorted(values) == [1]


@pytest.mark.parametrize("told", [True, False])
def test_another_optimizer_is_said(tmp_path, told):
    train(tmp_path, "SOLVER.MAX_ITER", 1, "SOLVER.OPTIMIZER", "ADAMW")
    if not told:  # by a checkpoint of before the record
        saved = final_state(tmp_path)
        del saved["trainer"]["run"]
        torch.save(saved, tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="OPTIMIZER is SGD, but .* trained with ADAMW: resume wi"):
        train(tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.OPTIMIZER", "SGD", resume=True)


def test_other_parameters_are_another_config(tmp_path):
    train(tmp_path, "SOLVER.MAX_ITER", 1)
    saved = final_state(tmp_path)
    saved["trainer"]["_trainer"]["optimizer"]["param_groups"].pop()
    torch.save(saved, tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="to resume from was trained with another config"):
        train(tmp_path, "SOLVER.MAX_ITER", 2, resume=True)
    longer = ("SOLVER.MAX_ITER", 2, "MODEL.SEGIC.DECODER.MLP", 24)
    with pytest.raises(ValueError, match="holds another model's weights: .* expected"):
        train(tmp_path, *longer, resume=True)
