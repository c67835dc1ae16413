"""bf16 trains as fp32 does, on the CPU too; what cannot run is refused."""

import logging

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from segic_d2.engine import EpisodeTrainer
from segic_d2.engine.precision import MixedPrecisionTrainer
from tests.engine.short_runs import short_config, train
from tests.tiny import tiny_episode


def test_bf16_and_fp32_losses_agree(tmp_path):
    _, full = train(tmp_path / "fp32", "SOLVER.MAX_ITER", 6)
    trainer, half = train(tmp_path / "bf16", "SOLVER.MAX_ITER", 6, "SOLVER.AMP.ENABLED", True)
    assert full != half  # else nothing ran in bf16
    for i in range(6):
        assert half[i] == pytest.approx(full[i], rel=0.02), i
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert not trainer._trainer.grad_scaler.is_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_only_the_forward_of_a_step_runs_under_autocast(tmp_path):
    trainer = EpisodeTrainer(short_config(tmp_path, "SOLVER.AMP.ENABLED", True))
    model, seen = trainer.model, []

    def note(*_):
        seen.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))

    model.register_forward_hook(note)
    model.sem_seg_head.neck[0].weight.register_hook(note)
    with EventStorage():
        trainer.run_step()
    assert seen == [torch.bfloat16, False] and trainer.model is model
    model.eval()([tiny_episode(0)])  # evaluation is in full precision
    assert seen[2:] == [False]


@pytest.mark.parametrize(
    "dtype, message",
    [
        ("fp16", "SOLVER.AMP.DTYPE 'fp16' needs a GPU; MODEL.DEVICE is 'cpu': use 'bf16'"),
        ("float16", "SOLVER.AMP.DTYPE is 'float16'; it must be 'bf16' or 'fp16'"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, dtype, message):
    opts = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", dtype)
    with pytest.raises(ValueError, match=message):
        EpisodeTrainer(short_config(tmp_path, *opts))


def test_the_scale_of_fp16_gradients_is_in_the_checkpoint(caplog):
    def trainer(name):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(model.parameters())
        return MixedPrecisionTrainer(model, [], optimizer, torch.device("cpu"), name)

    fp16, bf16 = trainer("fp16"), trainer("bf16")
    assert fp16.log_grad_scaler and fp16.precision == torch.float16
    fp16.grad_scaler.load_state_dict({**fp16.grad_scaler.state_dict(), "scale": 4.0})
    again = trainer("fp16")
    again.load_state_dict(fp16.state_dict())
    assert again.grad_scaler.get_scale() == 4.0
    bf16.load_state_dict(fp16.state_dict())  # nothing to scale
    assert bf16.state_dict()["grad_scaler"] == {}
    with caplog.at_level(logging.WARNING, "segic_d2"):
        again.load_state_dict(bf16.state_dict())
    assert "no gradient scale" in caplog.text
