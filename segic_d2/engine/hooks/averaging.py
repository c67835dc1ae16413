"""The exponential moving average of the weights that are trained (``MODEL_EMA``)."""

import torch
from detectron2.engine import HookBase
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AverageHook(HookBase):
    """Keeps the average of the trained weights, and gives it to the model after the last iteration.

    The hook stands before the hooks that evaluate and save. So the last evaluation and
    ``model_final`` use the average. Earlier evaluations and checkpoints use the weights as they
    are; these checkpoints hold the average too, so that a resumed run ends with the same weights. A
    run that goes on after its end starts from the average. The decay at iteration n is at most
    (1 + n) / (10 + n), so that the first weights soon weigh nothing.

    Args:
        cfg: config; ``MODEL_EMA.DECAY`` is read.

    Raises:
        ValueError: a decay out of its range.
    """

    def __init__(self, cfg):
        self.decay, self.average = cfg.MODEL_EMA.DECAY, None
        if not 0 <= self.decay < 1:
            raise ValueError(f"MODEL_EMA.DECAY is {self.decay}; it must be in [0, 1)")

    def _trained(self):
        model = getattr(self.trainer.model, "module", self.trainer.model)  # out of DDP
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def before_train(self):
        before = self.average or {}
        self.average = {
            name: before.get(name, p.detach()).to(p.device, copy=True)
            for name, p in self._trained().items()
        }

    def after_step(self):
        n, trained = self.trainer.iter + 1, self._trained()
        own = [self.average[name] for name in trained]
        update = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))
        update(own, [p.detach() for p in trained.values()], None)
        if n == self.trainer.max_iter:
            with torch.no_grad():
                torch._foreach_copy_(list(trained.values()), own)

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        """Go on with a checkpoint's average. Without one the average starts at the weights."""
        self.average = state["average"]
