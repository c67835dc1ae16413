"""Detectron2's DefaultTrainer for episodes, on GPUs or CPUs, in one or several processes."""

import logging
import weakref
from collections import OrderedDict

import torch
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.modeling import build_model
from detectron2.solver.build import get_default_optimizer_params
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from ..checkpoint import SegICCheckpointer
from ..data.build import build_train_loader, most_entities, set_start
from .evaluations.base import evaluate
from .evaluations.few_shot import mean_over_folds
from .hooks.averaging import AverageHook
from .hooks.clipping import clip_gradients
from .hooks.feature_cache import FeatureCacheHook
from .hooks.feature_mean import FeatureMeanHook
from .hooks.throughput import Throughput
from .precision import build_trainer, precision_of
from .schedule import settle_schedule


def create_ddp_model(model):
    """Wrap a model for several processes, on the GPU or the CPU that it stands on.

    Some decoder tensors belong to the released layout and get no gradient (the mask tokens that are
    not used); this is why ``find_unused_parameters`` is set.
    """
    if comm.get_world_size() == 1:
        return model
    for buffer in model.buffers():  # the random Fourier matrix; DDP itself sends only parameters
        torch.distributed.broadcast(buffer, 0)
    on_gpu = model.device.type != "cpu"
    return DistributedDataParallel(
        model,
        device_ids=[comm.get_local_rank()] if on_gpu else None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )


def share_weights(model):
    """Give all processes the first one's weights. Weights that no file gave are random in each."""
    if comm.get_world_size() == 1 or isinstance(model, DistributedDataParallel):
        return
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(tensor, 0)


class EpisodeTrainer(DefaultTrainer):
    """A DefaultTrainer whose batches are episodes. Its checkpoints hold trainable weights only.

    A resumed run continues exactly: optimizer and schedule come from the checkpoint, and the
    position in the stream of episodes follows from the iteration.
    """

    def __init__(self, cfg):
        TrainerBase.__init__(self)  # DefaultTrainer's own cannot run DDP without a GPU
        cfg = settle_schedule(cfg, comm.get_world_size())
        precision_of(cfg)  # refuses what cannot run before anything is built
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        if model.cross_entity and most_entities(loader) == 1:
            logging.getLogger(__name__).warning(
                "MODEL.SEGIC.CROSS_ENTITY is on, but no training episode has several entities "
                "(INPUT.SEMANTIC.MAX_ENTITIES, INPUT.INSTANCE.MAX_MASKS, classes per image): "
                "inference with several would use an embedding that is never trained. "
                "Set MODEL.SEGIC.CROSS_ENTITY.ENABLED to False"
            )
        model = create_ddp_model(model)
        self._trainer = build_trainer(cfg, model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SegICCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks([FeatureCacheHook(), FeatureMeanHook(), *self.build_hooks()])

    def resume_or_load(self, resume=True):
        """Resume from the last checkpoint or load ``MODEL.WEIGHTS``; then place the data stream."""
        super().resume_or_load(resume)
        set_start(self._trainer.data_loader, self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH)

    def build_hooks(self):
        timer, *others = super().build_hooks()
        average = [AverageHook(self.cfg)] if self.cfg.MODEL_EMA.ENABLED else []
        return [timer, Throughput(self.cfg.SOLVER.IMS_PER_BATCH), *average, *others]

    def state_dict(self):
        """Detectron2's state, and the keys that decide what an iteration means."""
        return {**super().state_dict(), "run": self._run()}

    def load_state_dict(self, state_dict):
        """Go on from a checkpoint's state.

        Raises:
            ValueError: it was made with another ``SOLVER.IMS_PER_BATCH``, so its iterations are
                other samples in the stream of episodes and in the schedule.
        """
        for key, value in self._run().items():
            before = state_dict.get("run", {}).get(key, value)
            if before == value:
                continue
            if key == "SOLVER.IMS_PER_BATCH":
                raise ValueError(
                    f"{key} is {value}, but the checkpoint to resume from was trained with "
                    f"{before}: resume with that (any number of processes will do), or start a new "
                    "run in another OUTPUT_DIR with its weights as MODEL.WEIGHTS"
                )
            logging.getLogger(__name__).warning(
                f"{key} is {value}, and was {before} until now: the run does not go on bit for bit"
            )
        super().load_state_dict(state_dict)

    def _run(self):
        solver = self.cfg.SOLVER
        names = {"SOLVER.IMS_PER_BATCH": solver.IMS_PER_BATCH, "SEED": self.cfg.SEED}
        return {**names, "SOLVER.AMP": precision_of(self.cfg)}

    @classmethod
    def build_train_loader(cls, cfg):
        return build_train_loader(cfg)

    @classmethod
    def build_model(cls, cfg):
        model = build_model(cfg)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        logging.getLogger(__name__).info(f"{trainable:,} trainable of {total:,} parameters")
        return model

    @classmethod
    def build_optimizer(cls, cfg, model):
        """Build AdamW over the trainable parameters, or Detectron2's SGD (``SOLVER.OPTIMIZER``).

        Raises:
            ValueError: another name.
        """
        name = cfg.SOLVER.OPTIMIZER
        if name == "SGD":
            unclipped = cfg.clone()
            unclipped.defrost()
            unclipped.SOLVER.CLIP_GRADIENTS.ENABLED = False
            return clip_gradients(cfg, super().build_optimizer(unclipped, model))
        if name != "ADAMW":
            raise ValueError(f"SOLVER.OPTIMIZER is {name!r}; it must be 'ADAMW' or 'SGD'")
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        return clip_gradients(cfg, AdamW(params, lr=cfg.SOLVER.BASE_LR))

    @classmethod
    def test(cls, cfg, model):
        """Evaluate on every dataset of ``DATASETS.TEST``, in all processes with the same weights.

        Returns:
            OrderedDict {dataset: {task: {metric: value}}}, or the inner dict for a single dataset,
            as DefaultTrainer does. A benchmark whose folds are all there adds their mean.
        """
        share_weights(model)
        results = OrderedDict((name, evaluate(cfg, model, name)) for name in cfg.DATASETS.TEST)
        if comm.is_main_process():
            results.update(mean_over_folds(cfg))
        return next(iter(results.values())) if len(results) == 1 else results
