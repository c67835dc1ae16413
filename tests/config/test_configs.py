"""Every config is parsed, builds its model, and trains one step with a stand-in backbone."""

import re
from functools import reduce
from inspect import signature
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.config.keys import KEYS, check_config
from segic_d2.config.load import get_config_file, load_config
from segic_d2.data.augmentation.transforms import RandomResizedCrop
from segic_d2.modeling.backbone import diffusion_backbone
from segic_d2.modeling.backbone.sources import OWN
from segic_d2.modeling.layers import correspondence, upsampled
from segic_d2.modeling.segic import released
from segic_d2.modeling.segic.losses import IMPORTANCE, OVERSAMPLE
from segic_d2.modeling.segic.meta_arch import SegIC
from tests import tiny_diffusion
from tests.tiny import TinyBackbone, tiny_episode

ROOT = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.yaml"))
CONFIGS = [c for c in CONFIGS if not c.startswith("seggpt/")]  # tests/modeling/seggpt has these


def on_meta(config, *opts):
    cfg = load_config(str(ROOT / config), ["MODEL.DEVICE", "meta", *opts])
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        if cfg.MODEL.BACKBONE.NAME == "build_diffusion_backbone":  # whose files are on a hub
            pytest.importorskip("diffusers", reason="pip install 'segic_d2[diffusion]'")
            parts = tiny_diffusion.stable_diffusion_parts()
            patch.setattr(diffusion_backbone, "load_pipeline", lambda *args: parts)
        return cfg, build_model(cfg)


@pytest.mark.parametrize("config", CONFIGS)
def test_builds_and_takes_a_step(config, monkeypatch):
    cfg, model = on_meta(config)
    name = model.encoder.feature
    shape = model.backbone.output_shape()[name]
    assert cfg.INPUT.MIN_SIZE_TEST == 0  # nothing is resized twice
    assert all(not p.requires_grad for p in model.backbone.parameters())
    stand_in = TinyBackbone(shape.channels, shape.stride, name)
    monkeypatch.setattr("segic_d2.modeling.segic.meta_arch.build_backbone", lambda cfg: stand_in)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.WEIGHTS", ""]
    opts += ["INPUT.CANVAS", shape.stride * 8, "MODEL.SEGIC.LOSS.NUM_POINTS", 64]
    torch.manual_seed(0)
    model = build_model(load_config(str(ROOT / config), opts))
    if model.contexts.texts.encoder is not None:
        width = cfg.MODEL.SEGIC.TEXT.DIM
        monkeypatch.setattr(
            model.contexts.texts.encoder, "encode", lambda texts: torch.ones(len(texts), width)
        )
    assert isinstance(model, SegIC)
    losses = model.train()([tiny_episode(i, 1 + i, size=(98, 84), training=True) for i in (0, 1)])
    sum(losses.values()).backward()
    gradient = model.sem_seg_head.neck[0].weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("config", [c for c in CONFIGS if not c.startswith("Base-")])
def test_no_config_trains_over_a_random_backbone(config):
    """A source of weights, or a builder that has its own; the two bases leave it to others."""
    backbone = load_config(config).MODEL.BACKBONE
    assert backbone.WEIGHTS not in ("", "random") or backbone.NAME in OWN


def test_the_resnet_is_trained_on_the_papers_data():
    resnet, paper = load_config("segic_R.yaml"), load_config("segic_dinov2_L.yaml")
    assert resnet.MODEL.BACKBONE.WEIGHTS == "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    assert resnet.DATASETS == paper.DATASETS and resnet.SOLVER == paper.SOLVER
    assert resnet.MODEL.SEGIC.TEXT == paper.MODEL.SEGIC.TEXT and resnet.MODEL.SEGIC.META


@pytest.mark.parametrize("folder", ["", "official/"])
@pytest.mark.parametrize("letter, total", [("B", 5_246_436), ("L", 5_377_508), ("G", 5_639_652)])
def test_paper_models_have_the_papers_size(folder, letter, total):
    cfg, model = on_meta(f"{folder}segic_dinov2_{letter}.yaml")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total
    assert cfg.INPUT.CANVAS == 896 and model.sem_seg_head.grid == 64


def value_of(cfg, key):
    return reduce(getattr, key.split("."), cfg)


OFFICIAL = sorted(c for c in CONFIGS if c.startswith("official/"))


def test_there_is_an_official_config_per_released_size():
    names = {"Base-official", *(f"segic_dinov2_{letter}" for letter in "BLG")}
    assert {f"official/{name}.yaml" for name in names} == set(OFFICIAL)
    assert all(len((ROOT / c).read_text().splitlines()) < 40 for c in OFFICIAL)


RELEASED = {  # every key that the docstring of ``released`` names, and its released value
    "MODEL.SEGIC.RELEASED": True,
    "MODEL.SEGIC.BINARIZE_MASKS": True,
    "MODEL.SEGIC.BOX_PROMPT_PROB": 0.5,
    "MODEL.SEGIC.LOSS.QUALITY_WEIGHT": 0.0,
    "MODEL.TIMM.POS_EMBED": "dinov2",
    "INPUT.RESIZE": "float",
    "INPUT.SEMANTIC.SQUARE_REFERENCE": True,
    "INPUT.MAX_REDRAWS": 0,
    "INPUT.INSTANCE.MAX_MASKS": 19,
    "INPUT.INSTANCE.CAP": "random",
}


def test_the_released_docstring_names_every_key_and_what_it_sets():
    """The documented table and keys, and the code, cannot drift apart."""
    above, table, below = re.split(r"=[= ]+=\nwhat.*\n=[= ]+=\n|=[= ]+=\n", released.__doc__)
    names = re.findall(r"``([A-Z][A-Z_.]+[A-Z])``", above + below)
    keys = {n if n.startswith(("MODEL.", "INPUT.")) else f"MODEL.SEGIC.{n}" for n in names}
    assert keys == set(RELEASED)
    for numbers in ("``BOX_PROMPT_PROB`` (0.5)", "``LOSS.QUALITY_WEIGHT`` (0)"):
        assert numbers in below
    functions = re.findall(r"``(\w+)``", table)
    assert len(functions) == 5
    places = released, correspondence, upsampled
    assert all(any(hasattr(place, name) for place in places) for name in functions)


@pytest.mark.parametrize("config", OFFICIAL)
def test_official_configs_set_every_released_rule(config):
    default, official = load_config(), load_config(config)
    for key, value in RELEASED.items():
        assert value_of(official, key) == value != value_of(default, key)
    rules = [vars(released.find_rules(cfg)) for cfg in (default, official)]
    assert rules[0].keys() == rules[1].keys() and len(rules[0]) >= 7
    assert not any(rules[0].values()) and all(rules[1].values())


def flat(cfg, prefix=""):
    """{key: value} of a config, keys as on the command line."""
    out = {}
    for key, value in cfg.items():
        out.update(
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return out


@pytest.mark.parametrize("config", OFFICIAL)
def test_official_configs_change_nothing_that_is_not_listed(config):
    """Whatever differs from our own configs is a documented rule, a data set or the schedule."""
    ours, official = flat(load_config("Base-SegIC.yaml")), flat(load_config(config))
    changed = {key for key in ours if ours[key] != official[key]}
    others = {f"DATASETS.{x}" for x in ("TRAIN", "TEST", "EPISODE_MAPPERS", "DRAW")}
    others |= {"MODEL.TIMM.NAME", "MODEL.BACKBONE.WEIGHTS"}
    others |= {"MODEL.SEGIC.DECODER.CHECKPOINT"}  # of memory and time, not of results
    others |= {f"SOLVER.{x}_SAMPLES" for x in ("MAX", "STEPS", "CHECKPOINT")}
    assert changed <= set(RELEASED) | others and set(RELEASED) <= changed


RELEASED_NUMBERS = {  # of the published training command and its code, as far as there are keys
    "INPUT.CANVAS": 896,
    "INPUT.FORMAT": "RGB",
    "MODEL.TIMM.BLOCKS": (-1,),
    "MODEL.TIMM.NORM": True,
    "MODEL.SEGIC.POINTS.NUM": 1,
    "MODEL.SEGIC.CROSS_ENTITY.ENABLED": True,
    "MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB": 0.5,
    "MODEL.SEGIC.TEXT.NAME": "open_clip",
    "MODEL.SEGIC.TEXT.MODEL": "ViT-L-14-quickgelu",
    "MODEL.SEGIC.TEXT.WEIGHTS": "openai",
    "MODEL.SEGIC.TEXT.SEMANTIC_TEMPLATE": "a photo of a {}",
    "MODEL.SEGIC.TEXT.INSTANCE_TEXT": "please segment the instances",
    "MODEL.SEGIC.LOSS.NUM_POINTS": 12544,
    "MODEL.SEGIC.LOSS.BCE_WEIGHT": 1.0,
    "MODEL.SEGIC.LOSS.DICE_WEIGHT": 1.0,
    "MODEL.SEGIC.TEST.THRESHOLD": 0.0,
    "INPUT.TEXT_KEEP_PROB": 0.75,
    "INPUT.ABSENT_PROB": 0.0,
    "MODEL.SEGIC.TEST.SCORE": "mask",
    "MODEL.SEGIC.TEST.MIN_SCORE": 0.0,
    "INPUT.MAX_REDRAWS": 0,
    "INPUT.SEMANTIC.MAX_ENTITIES": 1,
    "INPUT.SEMANTIC.MAX_SHOTS": 1,
    "INPUT.SEMANTIC.SCALE": (0.1, 2.0),
    "INPUT.SEMANTIC.FLIP_PROB": 0.5,
    "INPUT.INSTANCE.MAX_MASKS": 19,
    "INPUT.INSTANCE.CAP": "random",
    "INPUT.INSTANCE.AREA": (0.3, 1.0),
    "INPUT.INSTANCE.FLIP_PROB": 0.1,
    "INPUT.INSTANCE.JITTER_PROB": 0.2,
    "INPUT.INSTANCE.JITTER": (0.4, 0.4, 0.2, 0.1),
    "DATASETS.WEIGHTS": (),
    "DATASETS.EPISODE_MAPPERS": ("semantic", "semantic", "instance", "instance"),
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": 1e-4,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.WEIGHT_DECAY_NORM": 1e-4,
    "SOLVER.WEIGHT_DECAY_BIAS": None,  # as of every tensor
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.IMS_PER_BATCH": 32,
    "SOLVER.MAX_SAMPLES": 12 * 80_000,
    "SOLVER.STEPS_SAMPLES": (10 * 80_000,),
    "SOLVER.CHECKPOINT_SAMPLES": 80_000,
    "SOLVER.AMP.ENABLED": False,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SEED": 42,
}


@pytest.mark.parametrize("config", OFFICIAL)
def test_official_configs_train_with_the_released_numbers(config):
    cfg = load_config(config)
    got = {key: value_of(cfg, key) for key in RELEASED_NUMBERS}
    as_tuple = {k: tuple(v) if isinstance(v, list) else v for k, v in got.items()}
    assert as_tuple == RELEASED_NUMBERS
    # without a key
    assert (OVERSAMPLE, IMPORTANCE) == (3.0, 0.75)  # of the points
    assert signature(RandomResizedCrop).parameters["aspect"].default == (0.75, 4 / 3)


def test_every_key_has_a_line_and_its_default_in_its_range():
    cfg = load_config()
    for name, key in KEYS.items():
        assert len(key.line) > 5 and not key.line.endswith("."), name
        assert value_of(cfg, name) == key.default
    check_config(cfg, *{name.split(".")[0] for name in KEYS})


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="no config 'nowhere.yaml'"):
        get_config_file("nowhere.yaml")


def test_a_key_that_went_is_named_with_its_file(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(
        f"_BASE_: {get_config_file('Base-SegIC.yaml')}\nMODEL: {{SEGIC: {{TAU: 1.0}}}}\n"
    )
    with pytest.raises(ValueError, match=r"old.yaml: .*MODEL.SEGIC.TAU; CHANGELOG.md lists"):
        load_config(file)
