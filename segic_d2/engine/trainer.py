"""Detectron2's DefaultTrainer on GPUs or CPUs, in one or several processes, for any model."""

import logging
import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.solver.build import get_default_optimizer_params, reduce_param_groups
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer

from ..checkpoint import SegICCheckpointer
from ..compat import GivenTrainer, gradient_clipper
from ..config.keys import check_config
from ..modeling.protocol import InContextModel
from ..utils.agreement import require_alike
from .hooks.averaging import AverageHook
from .hooks.throughput import Throughput
from .precision import build_trainer, precision_of
from .schedule import settle_schedule


def create_ddp_model(model: nn.Module) -> nn.Module:
    """Wrap a model for several processes, on its device. Some decoder tensors of the released
    layout get no gradient (unused mask tokens), hence ``find_unused_parameters``; nor shall they
    decay, so that no ``InContextModel`` gives them one."""
    for module in model.modules():
        if isinstance(module, InContextModel):
            module.every_gradient = False
    if comm.get_world_size() == 1:
        return model
    for buffer in model.buffers():  # the random Fourier matrix; DDP itself sends only parameters
        torch.distributed.broadcast(buffer, 0)
    ids = [comm.get_local_rank()] if model.device.type != "cpu" else None
    return DistributedDataParallel(model, ids, broadcast_buffers=False, find_unused_parameters=True)


def share_weights(model: nn.Module) -> None:
    """Give all processes the first one's weights. Weights that no file gave are random in each."""
    if comm.get_world_size() == 1 or isinstance(model, DistributedDataParallel):
        return
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(tensor, 0)


def clip_gradients(cfg: CfgNode, optimizer: Optimizer) -> Optimizer:
    """Let an optimizer clip each tensor before each step (``SOLVER.CLIP_GRADIENTS``); returns it.
    Detectron2's own hands every tensor to torch's clipping, which fails by value on tensors without
    a gradient, such as our unused mask tokens. Under AMP gradients are unscaled by then."""
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)

    def before_step(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    clip(p)

    optimizer.register_step_pre_hook(before_step)
    return optimizer


_NEW_RUN = "start a new run in another OUTPUT_DIR with its weights as MODEL.WEIGHTS"


def _optimizer_of(state: dict[str, Any]) -> dict[str, int | str]:
    """The ``SOLVER.OPTIMIZER`` of a checkpoint that does not say, by what it keeps."""
    groups = state.get("_trainer", {}).get("optimizer", {}).get("param_groups") or [{}]
    if "betas" in groups[0]:
        return {"SOLVER.OPTIMIZER": "ADAMW"}
    return {"SOLVER.OPTIMIZER": "SGD"} if "momentum" in groups[0] else {}


class Trainer(GivenTrainer):
    """A DefaultTrainer with precision, clipping, averaging and a schedule in samples. Checkpoints
    hold trainable weights only. A subclass gives ``build_train_loader`` and perhaps ``test``."""

    def __init__(self, cfg: CfgNode) -> None:
        check_config(cfg, "MODEL_EMA", "TEST")
        require_alike({"SEED": cfg.SEED, **{f"SOLVER.{k}": v for k, v in cfg.SOLVER.items()}})
        cfg = settle_schedule(cfg, comm.get_world_size())
        precision_of(cfg)  # refuses what cannot run before anything is built
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = create_ddp_model(model)
        super().__init__(build_trainer(cfg, model, loader, optimizer))
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SegICCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.cfg, self.start_iter, self.max_iter = cfg, 0, cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase]:
        timer, *others = super().build_hooks()
        average = [AverageHook(self.cfg)] if self.cfg.MODEL_EMA.ENABLED else []
        return [timer, Throughput(self.cfg.SOLVER.IMS_PER_BATCH), *average, *others]

    def state_dict(self) -> dict[str, Any]:
        """Detectron2's state, and the keys that decide what an iteration means."""
        return {**super().state_dict(), "run": self._run()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's state. ValueError: another ``SOLVER.IMS_PER_BATCH``, whose
        iterations are other samples in the stream of data and in the schedule; another
        ``SOLVER.OPTIMIZER``, or other parameters, whose state is none of these."""
        earlier = {**_optimizer_of(state_dict), **state_dict.get("run", {})}
        for key, value in self._run().items():
            before = earlier.get(key, value)
            if before == value:
                continue
            if key in ("SOLVER.IMS_PER_BATCH", "SOLVER.OPTIMIZER"):
                more = " (any number of processes will do)" if key == "SOLVER.IMS_PER_BATCH" else ""
                raise ValueError(
                    f"{key} is {value}, but the checkpoint to resume from was trained with "
                    f"{before}: resume with that{more}, or {_NEW_RUN}"
                )
            logging.getLogger(__name__).warning(
                f"{key} is {value}, and was {before} until now: the run does not go on bit for bit"
            )
        try:
            super().load_state_dict(state_dict)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"the checkpoint to resume from was trained with another config ({error!r:.200}): "
                f"resume with the one that lies beside it, or {_NEW_RUN}"
            ) from error

    def _run(self) -> dict[str, int | str]:
        batch, seed = self.cfg.SOLVER.IMS_PER_BATCH, self.cfg.SEED
        return {
            **{"SOLVER.IMS_PER_BATCH": batch, "SOLVER.OPTIMIZER": self.cfg.SOLVER.OPTIMIZER},
            **{"SEED": seed, "SOLVER.AMP": precision_of(self.cfg)},
        }

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        logging.getLogger(__name__).info(f"{trainable:,} trainable of {total:,} parameters")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """AdamW over the trainable parameters, with the model's ``lr_factor``; or Detectron2's SGD
        (``SOLVER.OPTIMIZER``). Weights with one dimension are a norm's, of whatever class."""
        check_config(cfg, "SOLVER.OPTIMIZER")
        if cfg.SOLVER.OPTIMIZER == "SGD":
            unclipped = cfg.clone()
            unclipped.defrost()
            unclipped.SOLVER.CLIP_GRADIENTS.ENABLED = False
            return clip_gradients(cfg, super().build_optimizer(unclipped, model))
        names = (
            "base_lr",
            "weight_decay",
            "weight_decay_norm",
            "bias_lr_factor",
            "weight_decay_bias",
        )
        own = {name: cfg.SOLVER[name.upper()] for name in names}
        own["lr_factor_func"] = model.lr_factor if isinstance(model, InContextModel) else None
        once = {"pos_embed": {"weight_decay": 0.0}}  # of a trained ViT, as ViTDet has it
        as_norm = {"weight_decay": cfg.SOLVER.WEIGHT_DECAY_NORM}
        vectors = {p for n, p in model.named_parameters() if p.dim() == 1 and n.endswith("weight")}
        params = [
            {**group, "params": [p]} | (as_norm if p in vectors else {})
            for group in get_default_optimizer_params(model, overrides=once, **own)
            for p in group["params"]
        ]
        params = reduce_param_groups(params)
        return clip_gradients(cfg, AdamW(params, lr=cfg.SOLVER.BASE_LR))
