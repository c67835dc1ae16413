"""The exponential moving average of the weights that are trained (``MODEL_EMA``)."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AverageHook(HookBase):
    """Keeps the average of the trained weights, and gives it to the model after the last iteration.
    The hook stands before those that evaluate and save, so that the last evaluation and
    ``model_final`` use the average. Earlier ones use the weights as they are; their checkpoints
    hold the average for resumed runs. A run that goes on after its end starts from it. The decay at
    iteration n is at most (1 + n) / (10 + n): the first weights soon weigh nothing."""

    def __init__(self, cfg: CfgNode) -> None:
        self.decay, self.average = cfg.MODEL_EMA.DECAY, None

    def _trained(self):
        model = getattr(self.trainer.model, "module", self.trainer.model)  # out of DDP
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def before_train(self) -> None:
        before = self.average or {}
        self.average = {
            name: before.get(name, p.detach()).to(p.device, copy=True)
            for name, p in self._trained().items()
        }

    def after_step(self) -> None:
        n, trained = self.trainer.iter + 1, self._trained()
        own = [self.average[name] for name in trained]
        update = get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))
        update(own, [p.detach() for p in trained.values()], None)
        if n == self.trainer.max_iter:
            with torch.no_grad():
                for p, average in zip(trained.values(), own, strict=True):
                    p.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a checkpoint's average. Without one the average starts at the weights."""
        self.average = state["average"]
