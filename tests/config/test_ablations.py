"""configs/ablations: each changes what its table compares, and nothing else."""

import re

import pytest

from segic_d2.config.load import get_config_file, load_config
from tests.config.test_configs import ROOT, flat, on_meta

FOLDER = ROOT / "ablations"
NAMES = sorted(p.stem for p in FOLDER.glob("*.yaml"))
IMAGENET, CLIP = (123.675, 116.28, 103.53), (122.7709383, 116.7460125, 104.0937362)
IMAGENET_STD, CLIP_STD = (58.395, 57.12, 57.375), (68.5005327, 66.6321579, 70.3231630)


def load(name):
    return load_config(f"ablations/{name}.yaml")


def changed(name, base="Base-ablation"):
    """The keys in which an ablation differs from the full model."""
    a, b = flat(load(name)), flat(load(base))
    assert a.keys() == b.keys()
    return {key: a[key] for key in a if a[key] != b[key]}


CROSS = "MODEL.SEGIC.CROSS_ENTITY.ENABLED"


def only_single(name):
    """Whether all training episodes have one entity; then nothing may tell others apart."""
    cfg = load(name)
    single = set(cfg.DATASETS.EPISODE_MAPPERS) == {"semantic"}
    single &= cfg.INPUT.SEMANTIC.MAX_ENTITIES == 1
    if single:
        assert not cfg.MODEL.SEGIC.CROSS_ENTITY.ENABLED
    return single


def test_they_are_short_and_found_by_name():
    assert len(NAMES) >= 29
    for name in NAMES:
        assert len((FOLDER / f"{name}.yaml").read_text().splitlines()) < 40
        assert get_config_file(f"ablations/{name}.yaml") == str(FOLDER / f"{name}.yaml")


def test_the_table_has_every_config_once():
    linked = re.findall(r"\[(\w+)\]\((\w+)\.yaml\)", (FOLDER / "README.md").read_text())
    assert all(label == file for label, file in linked)
    assert sorted(file for _, file in linked) == [n for n in NAMES if not n.startswith("Base")]


def test_half_the_main_experiments_schedule():
    cfg, main = load("Base-ablation"), load_config("segic_dinov2_B.yaml")
    assert cfg.SOLVER.MAX_SAMPLES * 2 == main.SOLVER.MAX_SAMPLES == 12 * 160_000
    assert tuple(2 * s for s in cfg.SOLVER.STEPS_SAMPLES) == tuple(main.SOLVER.STEPS_SAMPLES)
    for name in NAMES:
        expected = main if name.startswith("coco20i") else cfg
        assert load(name).SOLVER == expected.SOLVER


@pytest.mark.parametrize(
    "name, channels, stride, canvas, norm, mean, std",
    [  # the paper's backbones: what is tapped, at which size, with which pixel statistics
        ("dinov2_B", 768, 14, 896, True, IMAGENET, IMAGENET_STD),
        ("dinov2_L", 1024, 14, 896, True, IMAGENET, IMAGENET_STD),
        ("dinov2_G", 1536, 14, 896, True, IMAGENET, IMAGENET_STD),
        ("dinov1_B", 768, 16, 1024, True, IMAGENET, IMAGENET_STD),
        ("sam_B", 768, 16, 1024, False, IMAGENET, IMAGENET_STD),
        ("clip_L", 1024, 14, 896, False, CLIP, CLIP_STD),
        ("sd21", 1280, 16, 1024, None, (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_backbones_are_tapped_as_published(name, channels, stride, canvas, norm, mean, std):
    cfg, model = on_meta(f"ablations/backbone_{name}.yaml")
    shape = model.backbone.output_shape()["feat"]
    assert (shape.channels, shape.stride, cfg.INPUT.CANVAS) == (channels, stride, canvas)
    assert model.sem_seg_head.grid == 64
    assert model.backbone.pixel_mean == pytest.approx(mean, abs=1e-4)
    assert model.backbone.pixel_std == pytest.approx(std, abs=1e-4)
    if norm is not None:
        assert cfg.MODEL.TIMM.NORM == norm and model.backbone.blocks == [
            len(model.backbone.model.blocks) - 1
        ]
        assert cfg.MODEL.BACKBONE.WEIGHTS == "timm"
    strides = [m.stride[0] for m in model.sem_seg_head.prompt_encoder.mask_downscaling[:4:3]]
    assert strides == [stride // 2, 2]
    keys = {"MODEL.BACKBONE.NAME", "MODEL.BACKBONE.WEIGHTS", "MODEL.TIMM.NAME", "MODEL.TIMM.NORM"}
    assert changed(f"backbone_{name}").keys() <= keys | {"INPUT.CANVAS"}


@pytest.mark.parametrize("name", ["geometric", "visual", "meta", "none", "all"])
def test_instructions_are_on_alone_or_together(name):
    cfg, model = on_meta(f"ablations/instructions_{name}.yaml")
    on = {
        "geometric": (True, True, False, False),
        "visual": (False, False, True, False),
        "meta": (False, False, False, True),
        "none": (False,) * 4,
        "all": (True,) * 4,
    }[name]
    keys = [f"MODEL.SEGIC.{key}" for key in ("DENSE", "POINT", "VISUAL", "META")]
    found = flat(cfg)
    assert tuple(found[key] for key in keys) == on
    assert set(changed(f"instructions_{name}")) == {
        k for k, v in zip(keys, on, strict=True) if not v
    }
    assert (model.contexts.texts.encoder is None) == (not on[3])


@pytest.mark.parametrize(
    "name, reversion, crossing",
    [("none", 0, False), ("reversion", 1, False), ("negatives", 0, True), ("both", 1, True)],
)
def test_strategies(name, reversion, crossing):
    segic = load(f"strategies_{name}").MODEL.SEGIC
    assert (segic.REVERSION.PROB, segic.CROSS_ENTITY.ENABLED) == (reversion, crossing)
    assert segic.CROSS_ENTITY.TRAIN_PROB == 0.5
    keys = {"REVERSION.PROB": reversion == 1, "CROSS_ENTITY.ENABLED": crossing}
    off = {f"MODEL.SEGIC.{key}" for key, on in keys.items() if not on}
    assert changed(f"strategies_{name}").keys() == off


@pytest.mark.parametrize(
    "name, train, mappers, draw",
    [
        ("coco_sem", ["coco"], ["semantic"], ["class"]),
        ("coco_sem_ade20k", ["coco", "ade"], ["semantic", "semantic"], ["class", "image"]),
        ("coco_sem_inst", ["coco", "coco"], ["semantic", "instance"], ["class", "class"]),
        (
            "all",
            ["coco", "ade", "coco", "lvis"],
            ["semantic", "semantic", "instance", "instance"],
            ["class", "image", "class", "class"],
        ),
    ],
)
def test_data(name, train, mappers, draw):
    datasets = load(f"data_{name}").DATASETS
    short = {
        "coco": "coco_2014_train",
        "ade": "ade20k_sem_seg_train",
        "lvis": "lvis_v1_train",
    }
    assert list(datasets.TRAIN) == [short[t] for t in train]
    assert list(datasets.EPISODE_MAPPERS) == mappers and list(datasets.DRAW) == draw
    off = only_single(f"data_{name}")
    assert off == ("instance" not in mappers)
    assert changed(f"data_{name}").keys() <= {CROSS} | {
        f"DATASETS.{k}" for k in ("TRAIN", "EPISODE_MAPPERS", "DRAW")
    }


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("plus", [False, True])
def test_folds(fold, plus):
    name = f"coco20i_fold{fold}" + ("_plus" if plus else "")
    datasets = load(name).DATASETS
    more = ("ade20k_sem_seg_train", "fss_1000_train", "lvis_v1_train") if plus else ()
    assert datasets.TRAIN == (f"coco_2014_train@fold{fold}", *more)
    assert datasets.EPISODE_MAPPERS == ("semantic",) * (3 if plus else 1) + ("instance",) * plus
    assert datasets.TEST == (f"coco_2014_val@novel{fold}",)
    assert only_single(name) == (not plus)
    assert changed(name, "coco20i_fold0").keys() <= {CROSS} | {
        f"DATASETS.{k}" for k in ("TRAIN", "EPISODE_MAPPERS", "DRAW", "TEST")
    }
