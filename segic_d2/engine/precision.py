"""Mixed precision (``SOLVER.AMP``) on GPUs and CPUs, with Detectron2's AMPTrainer."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn
from torch.optim import Optimizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(cfg: CfgNode) -> str:
    """The precision of a run: "fp32", "bf16" or "fp16". ValueError: "fp16" on the CPU, where small
    gradients vanish without a GradScaler, and kernels are rare."""
    if not cfg.SOLVER.AMP.ENABLED:
        return "fp32"
    name = cfg.SOLVER.AMP.DTYPE
    if name == "fp16" and cfg.MODEL.DEVICE == "cpu":
        raise ValueError("SOLVER.AMP.DTYPE 'fp16' needs a GPU; MODEL.DEVICE is 'cpu': use 'bf16'")
    return name


def build_trainer(
    cfg: CfgNode, model: nn.Module, loader: Iterable[Any], optimizer: Optimizer
) -> SimpleTrainer:
    """Build Detectron2's inner trainer in the precision of the config."""
    name = precision_of(cfg)
    if name == "fp32":
        return SimpleTrainer(model, loader, optimizer)
    return MixedPrecisionTrainer(model, loader, optimizer, torch.device(cfg.MODEL.DEVICE), name)


class MixedPrecisionTrainer(AMPTrainer):
    """AMPTrainer in "bf16" or "fp16" on a GPU, and in "bf16" on the CPU. Gradients are scaled in
    fp16 only, whose exponents are short. Checkpoints hold the scaler."""

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        optimizer: Optimizer,
        device: torch.device,
        name: str,
    ) -> None:
        scaled = name == "fp16"
        scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        own = {"precision": DTYPES[name], "log_grad_scaler": scaled}
        super().__init__(model, loader, optimizer, grad_scaler=scaler, **own)
        self.device = device

    def run_step(self) -> None:
        if self.device.type == "cuda":  # the one kind of device that Detectron2's step knows
            return super().run_step()
        model = self.model  # bf16 needs no scaling: a plain step, its forward under autocast
        self.model = _Autocast(model, self.device.type, self.precision)
        try:
            SimpleTrainer.run_step(self)
        finally:
            self.model = model

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state. If its run had no scaler, a fresh one starts, with a warning."""
        scaler = state_dict.get("grad_scaler", {})
        if self.grad_scaler.is_enabled() and not scaler:
            logging.getLogger(__name__).warning("the checkpoint has no gradient scale: a fresh one")
            scaler = self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})


class _Autocast:
    """A model's forward under autocast; backward and optimizer stay outside, as they should."""

    def __init__(self, model, device, dtype):
        self.model, self.training = model, model.training
        self.device, self.dtype = device, dtype

    def __call__(self, data):
        with torch.autocast(self.device, self.dtype):
            return self.model(data)
