"""The exponential moving average of the weights (``MODEL_EMA``)."""

import pytest
import torch
from detectron2.engine import HookBase

from segic_d2.engine import EpisodeTrainer
from tests.engine.short_runs import as_if_killed_after, short_config, train

OPTS = ("MODEL_EMA.ENABLED", True, "MODEL_EMA.DECAY", 0.35, "SOLVER.CHECKPOINT_PERIOD", 1)


def trained(model):
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


class Weights(HookBase):
    """The trained weights before training and after every iteration."""

    def before_train(self):
        self.seen = [trained(self.trainer.model)]

    def after_step(self):
        self.seen.append(trained(self.trainer.model))


def model_of(path):
    return torch.load(path, weights_only=True)["model"]


def test_the_last_weights_are_the_average(tmp_path):
    """Against the recursion written out; what is saved on the way are the weights as they are."""
    cfg = short_config(tmp_path, *OPTS, "SOLVER.MAX_ITER", 4)
    torch.manual_seed(0)
    trainer, record = EpisodeTrainer(cfg), Weights()
    trainer.register_hooks([record])
    trainer._hooks.insert(0, trainer._hooks.pop())
    trainer.train()
    decays = [2 / 11, 3 / 12, 4 / 13, 0.35]
    final, third = model_of(tmp_path / "model_final.pth"), model_of(tmp_path / "model_0000002.pth")
    moved = 0
    for name, average in record.seen[0].items():
        for decay, weights in zip(decays, record.seen[1:], strict=True):
            average = decay * average + (1 - decay) * weights[name]
        torch.testing.assert_close(final[name], average, atol=1e-6, rtol=1e-5)
        assert torch.equal(final[name], dict(trainer.model.named_parameters())[name])
        assert torch.equal(third[name], record.seen[3][name])
        moved += not torch.equal(final[name], record.seen[4][name])
    assert moved > 20


def test_resuming_goes_on_with_the_average(tmp_path):
    opts = (*OPTS, "SOLVER.MAX_ITER", 4)
    train(tmp_path / "whole", *opts)
    expected = model_of(tmp_path / "whole" / "model_final.pth")
    folder = as_if_killed_after(1, tmp_path / "whole", tmp_path / "part")
    train(folder, *opts, resume=True)
    found = model_of(folder / "model_final.pth")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_without_average_is_resumed_with_one(tmp_path):
    """It starts with the weights of the checkpoint."""
    train(tmp_path, "SOLVER.MAX_ITER", 2)
    before = model_of(tmp_path / "model_final.pth")
    last = ("MODEL_EMA.DECAY", 0.999, "SOLVER.MAX_ITER", 3)  # 4 / 13 at the third iteration
    trainer, _ = train(tmp_path, *OPTS[:2], *last, resume=True)
    after, name = model_of(tmp_path / "model_final.pth"), "sem_seg_head.neck.0.weight"
    own, _ = train(tmp_path / "other", "SOLVER.MAX_ITER", 3)
    plain = model_of(tmp_path / "other" / "model_final.pth")
    expected = 4 / 13 * before[name] + 9 / 13 * plain[name]
    torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-5)


def test_a_decay_out_of_its_range_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^MODEL_EMA.DECAY is 1.0; it must be in"):
        EpisodeTrainer(short_config(tmp_path, *OPTS[:2], "MODEL_EMA.DECAY", 1.0))
