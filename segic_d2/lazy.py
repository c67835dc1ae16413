"""The same models for LazyConfig users, as nodes that Detectron2's ``instantiate`` builds:

    from detectron2.config import instantiate
    from segic_d2 import lazy

    cfg = lazy.demo()                          # or lazy.dinov2_L(): a fresh copy at every call
    cfg.model.sem_seg_head.num_points = 2
    model = instantiate(cfg.model)             # on the CPU; cfg.train.device says where it belongs

``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and ``train`` are as in Detectron2's own
lazy configs, for its ``tools/lazyconfig_train_net.py``, and say what the YAML configs of the same
names say. What this package's trainer does is not among them: averaging of weights, exact resuming,
the feature cache, the mean feature before a training without weights (``feature_mean.file``).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from .config import load_config
from .data import build_one_shot_loader, build_train_loader
from .evaluation import OneShotEvaluator
from .modeling import InContextMaskHead, SegIC
from .modeling.backbone.timm_backbone import TimmBackbone
from .modeling.backbone.weights import load_backbone_weights
from .modeling.layers.frozen_encoder import FrozenEncoder
from .modeling.layers.similarity import Similarity
from .modeling.segic.context_encoder import Texts
from .modeling.segic.feature_mean import load_feature_mean
from .modeling.segic.instances import InstanceOptions
from .modeling.segic.losses import EpisodeCriterion
from .modeling.segic.mask_head import Instructions
from .modeling.segic.readout import Readout
from .modeling.segic.refinement import Refinement
from .modeling.segic.regions.head import RegionMatchingHead
from .modeling.segic.regions.learned import LearnedChoice
from .modeling.segic.regions.matcher import RegionMatcher
from .modeling.segic.regions.matching import Cues
from .modeling.segic.regions.options import RegionOptions
from .modeling.segic.regions.whitening import Whitening
from .modeling.segic.reversion import Reversion
from .modeling.segic.training import EpisodeLosses
from .modeling.text.encoder import OpenClipTextEncoder
from .structures.episode import Episode
from .structures.stock import StockForms
from .structures.view import InputSpec
from .utils.devices import best_device

Options = Mapping[str, Any]  # {key of a config: value}


def timm_backbone(*, weights: str = "", blocks: Sequence[int], **options: Any) -> TimmBackbone:
    """A ``TimmBackbone`` (its arguments) with its weights; see ``load_backbone_weights``."""
    backbone = TimmBackbone(blocks=list(blocks), **options)
    if not any(p.is_meta for p in backbone.parameters()):
        load_backbone_weights(backbone, weights)
    return backbone


def frozen_encoder(
    *, backbone: TimmBackbone, canvas: int, chunk: int = 8, memory: float = 0, **fields: Any
) -> FrozenEncoder:
    """A ``FrozenEncoder`` whose input, an ``InputSpec`` of these fields, has the backbone's own
    pixel statistics."""
    mean, std = tuple(backbone.pixel_mean), tuple(backbone.pixel_std)
    return FrozenEncoder(backbone, "feat", InputSpec(canvas, mean, std, **fields), chunk, memory)


def feature_mean(channels: int, file: str = "") -> Tensor:
    """The mean feature (C,) of a file, or zeros until weights bring it."""
    return load_feature_mean(file, channels) if file else torch.zeros(channels)


FIELDS = {  # of the loaders: the key of the config
    **{"canvas": "INPUT.CANVAS", "zoom": "INPUT.REFERENCE_ZOOM", "seed": "SEED"},
    **{"whole": "INPUT.REFERENCE_WHOLE", "multiple": "INPUT.MULTIPLE"},
    **{"datasets": "DATASETS.TRAIN", "mappers": "DATASETS.EPISODE_MAPPERS"},
    **{"draw": "DATASETS.DRAW", "weights": "DATASETS.WEIGHTS", "episodes": "TEST.EPISODES"},
    **{"total_batch_size": "SOLVER.IMS_PER_BATCH", "num_workers": "DATALOADER.NUM_WORKERS"},
}


def train_loader(*, config: str, options: Options, **fields: Any) -> Iterable[list[Episode]]:
    """``build_train_loader`` of a shipped config with other ``FIELDS``, and other keys of it as
    ``options``, such as {"INPUT.SEMANTIC.MAX_ENTITIES": 3}. ValueError: an unknown field."""
    return build_train_loader(_config(config, options, fields))


def one_shot_loader(*, config: str, options: Options, dataset: str, **fields: Any) -> DataLoader:
    """``build_one_shot_loader`` in the same way, for Detectron2's ``inference_on_dataset``."""
    return build_one_shot_loader(_config(config, options, fields), dataset)


def _config(config, options, fields):
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise ValueError(f"a loader has no field {unknown[0]!r}; there are {sorted(FIELDS)}")
    keys = {FIELDS[name]: value for name, value in fields.items()} | dict(options)
    values = [tuple(v) if isinstance(v, ListConfig) else v for v in keys.values()]
    cfg = load_config(config, [*chain.from_iterable(zip(keys, values, strict=True))])
    cfg.SOLVER.MAX_SAMPLES = 0  # the schedule of a lazy config is its own
    return cfg


def dinov2_L() -> DictConfig:  # noqa: N802  as the config is called
    """The paper's SegIC: DINOv2-L, its data mix and its schedule; batches of 32 in 60,000 steps."""
    backbone = L(timm_backbone)(
        name="vit_large_patch14_dinov2",
        weights="timm",
        blocks=[-1],
        norm=True,
        canvas="${..canvas}",
    )
    shape = L(ShapeSpec)(channels="${...channels}", stride=14)
    similarity = L(Similarity)(canvas="${...encoder.canvas}", shape=shape, feature_mean=None)
    similarity.update(groups=1, propagated=0, background=False)
    instructions = L(Instructions)(dense=True, point=True, visual=True, meta=True)
    head = L(InContextMaskHead)(similarity=similarity, channels=1024, instructions=instructions)
    head.update(width=256, heads=8, mlp=2048, text_dim=768, num_points=1)
    head.update(relative=False, checkpoint=True)
    text_dim = "${...sem_seg_head.text_dim}"
    texts = L(OpenClipTextEncoder)(model="ViT-L-14-quickgelu", weights="openai", dim=text_dim)
    sentences = dict(semantic="a photo of a {}", instance="please segment the instances")
    criterion = L(EpisodeCriterion)(num_points=12544, bce_weight=1.0, dice_weight=1.0)
    criterion.update(quality_weight=1.0, threshold="${...readout.threshold}")
    losses = L(EpisodeLosses)(criterion=criterion, reversion=L(Reversion)(prob=1.0))
    losses.update(crossing_prob=0.5, mixstyle=0.0)
    readout = L(Readout)(threshold=0.0, score="mask", min_score=0.0)
    readout.refinement = L(Refinement)(radius=0, walk=0.0)
    encoder = L(frozen_encoder)(backbone=backbone, canvas=896, chunk=8, memory=0)
    encoder.update(zoom=0.0, whole=False, multiple=0)
    model = L(SegIC)(
        encoder=encoder,
        sem_seg_head=head,
        texts=L(Texts)(encoder=texts, **sentences),
        losses=losses,
        readout=readout,
        cross_entity=True,
        context="",
        stock=L(StockForms)(datasets=[], format="RGB"),  # how it answers by a context that it holds
    )
    data = dict(config="segic_dinov2_L.yaml", options={}, num_workers=4)
    views = ("canvas", "zoom", "whole", "multiple")
    data.update({name: f"${{...model.encoder.{name}}}" for name in views})
    train = L(train_loader)(
        **data,
        datasets=["coco_2014_train", "ade20k_sem_seg_train", "coco_2014_train", "lvis_v1_train"],
        mappers=["semantic", "semantic", "instance", "instance"],
        draw=["class", "image", "class", "class"],
        weights=[],
        total_batch_size=32,
    )
    test = L(one_shot_loader)(**data, dataset="coco_2014_val", episodes=1000)
    schedule = L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[50000], num_updates=60000)
    return _recipe(model, train, test, schedule, rate=1e-4, iterations=60000, period=5000)


def demo() -> DictConfig:
    """What ships: regions over a small ViT that is embedded, and the decoder that is a cue of them,
    trained on composites of cut-outs (``datasets/prepare_composites.py``); batches of 8 in 2,700
    steps."""
    cfg = dinov2_L()
    encoder, head, readout = cfg.model.encoder, cfg.model.sem_seg_head, cfg.model.readout
    encoder.update(canvas=448, zoom=0.7, whole=True, multiple=14)
    encoder.backbone.update(name="vit_small_patch14_dinov2", weights="embedded", norm=False)
    encoder.backbone.blocks = [8, 9, 11]
    head.update(channels=3 * 384, width=128, mlp=512, relative=True, checkpoint=False)
    head.similarity.update(groups=3, propagated=2, background=True)
    head.similarity.feature_mean = L(feature_mean)(channels="${...channels}", file="")
    head.instructions.meta, cfg.model.texts.encoder = False, None
    cfg.model.instances = L(InstanceOptions)(parts=True)  # it was trained on classes
    head["_target_"] = RegionMatchingHead
    whitening = L(Whitening.from_file)(path="embedded", groups=2, channels=768)
    options = L(RegionOptions)(cells=240, unmarked=0.75, cues=L(Cues)(nearest=20, background=0.8))
    options.update(cut=0.6, position=0.3, small=0.02, relative=0.3, decoder=0.2, threshold=0.03)
    stride = "${..similarity.shape.stride}"
    head.matcher = L(RegionMatcher)(whitening=whitening, stride=stride, options=options)
    head.matcher.learned = L(LearnedChoice.from_file)(path="embedded")
    head.matcher.calibration = [-6.31, 10.76, 2.69]
    cfg.model.stock.absent = 0.15
    cfg.model.losses.update(mixstyle=0.3)
    cfg.model.losses.criterion.update(num_points=4096, bce_weight=0.25, quality_weight=0.1)
    cfg.model.losses.reversion.prob = 0.0
    readout.update(threshold=-1.0, score="quality_similarity", min_score=0.0, second_look=0.04)
    readout.refinement.update(radius=4, walk=0.8)

    train, test = cfg.dataloader.train, cfg.dataloader.test
    names = [f"composites_train_{kind}large" for kind in ("others_", "", "objects_")]
    train.update(datasets=names, mappers=["semantic"] * 3, draw=[])
    train.update(config="segic_demo.yaml", total_batch_size=8, num_workers=0)
    train.weights = [0.45, 0.35, 0.2]
    test.update(config="segic_demo.yaml", dataset="shapes_novel_coco", episodes=200, num_workers=0)
    cosine = L(CosineParamScheduler)(start_value=1, end_value=0)
    cfg.lr_multiplier = L(WarmupParamScheduler)(
        scheduler=cosine, warmup_factor=0.001, warmup_length=100 / 2700
    )
    cfg.optimizer.lr = 1e-3
    cfg.train.update(init_checkpoint="segic://demo", max_iter=2700, eval_period=2700)
    cfg.train.checkpointer.period = 900
    return cfg


def _recipe(model, train, test, schedule, *, rate, iterations, period):
    """The parts of a lazy config, as Detectron2's ``configs/common`` has them."""
    evaluator = L(OneShotEvaluator)(dataset_name="${..test.dataset}")
    params = L(get_default_optimizer_params)(  # its ``model`` is set before it is built
        base_lr="${..lr}", weight_decay="${..weight_decay}", weight_decay_norm="${.weight_decay}"
    )
    ddp = dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False)
    settings = dict(output_dir="./output", init_checkpoint="", max_iter=iterations)
    settings.update(amp=dict(enabled=False), ddp=ddp, eval_period=iterations, log_period=20)
    settings.update(device=best_device(), checkpointer=dict(period=period, max_to_keep=100))
    parts = dict(
        model=model,
        dataloader=dict(train=train, test=test, evaluator=evaluator),
        optimizer=L(torch.optim.AdamW)(params=params, lr=rate, weight_decay=1e-4),
        lr_multiplier=schedule,
        train=settings,
    )
    return OmegaConf.create(parts, flags={"allow_objects": True})
