"""train_net.py as people run it: resumed after a kill, in two processes, and evaluated."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from PIL import Image

import train_net
from segic_d2.config.load import load_config
from segic_d2.data.index import Source
from segic_d2.engine import EpisodeTrainer
from segic_d2.engine.run import one_line_errors
from segic_d2.modeling.text.encoder import save_text_table
from tests.data import toy
from tests.engine.short_runs import short_config
from text_table import texts_of

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.WEIGHTS", "random", "MODEL.SEGIC.META", "False"),
    *("MODEL.TIMM.NAME", "vit_tiny_patch16_224", "MODEL.TIMM.BLOCKS", "(0,)"),
    *("INPUT.CANVAS", "96", "MODEL.SEGIC.DECODER.WIDTH", "32", "MODEL.SEGIC.DECODER.MLP", "64"),
    *("MODEL.SEGIC.LOSS.NUM_POINTS", "256", "SOLVER.IMS_PER_BATCH", "4"),
    *("SOLVER.BASE_LR", "0.001", "SOLVER.STEPS", "(7,)", "DATALOADER.NUM_WORKERS", "2"),
    *("TEST.EPISODES", "12", "TEST.BATCH_SIZE", "4", "DATASETS.TEST", "('shapes_seen_coco',)"),
]


def options(output, **changes):
    opts = [*TINY, "OUTPUT_DIR", str(output)]
    for key, value in changes.items():
        opts += [key.replace("__", "."), str(value)]
    return opts


def command(output, *flags, **changes):
    config = str(ROOT / "configs/Base-SegIC.yaml")
    line = [sys.executable, str(ROOT / "train_net.py"), "--config-file", config, *flags]
    return line + options(output, **changes)


def run(output, *flags, **changes):
    """What train_net.py prints; one thread per process, for threads that wait spin."""
    done = subprocess.run(
        command(output, *flags, **changes),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def every_feature(folder):
    """Changes that switch on whatever training can do, and the files that they need."""
    table, datasets = folder / "text.safetensors", ("shapes_train_coco", "shapes_train_coco")
    texts = texts_of(load_config(), datasets[:1])
    save_text_table(table, texts, torch.randn(len(texts), 16, generator=torch.manual_seed(0)))
    return {
        **{"MODEL__SEGIC__META": True, "MODEL__SEGIC__TEXT__NAME": "table"},
        **{"MODEL__SEGIC__TEXT__TABLE": str(table), "MODEL__SEGIC__TEXT__DIM": 16},
        **{"DATASETS__TRAIN": datasets, "DATASETS__EPISODE_MAPPERS": ("semantic", "instance")},
        **{"DATASETS__WEIGHTS": (0.7, 0.3), "DATASETS__DRAW": ("class", "image")},
        **{"INPUT__SEMANTIC__MAX_ENTITIES": 3, "INPUT__SEMANTIC__MAX_SHOTS": 2},
        **{"INPUT__ABSENT_PROB": 0.3, "INPUT__TEXT_KEEP_PROB": 0.5, "INPUT__VIEWS_POOL": 2},
        **{"INPUT__FEATURE_CACHE__DIR": str(folder / "cache"), "VIS_PERIOD": 3},
        **{"MODEL__SEGIC__REVERSION__PROB": 0.7, "MODEL__SEGIC__REVERSION__CONTEXT": "join"},
        **{"MODEL__SEGIC__CROSS_ENTITY__TRAIN_PROB": 0.5, "MODEL__SEGIC__BOX_PROMPT_PROB": 0.5},
        **{"MODEL__SEGIC__LOSS__QUALITY_WEIGHT": 1.0, "MODEL__SEGIC__DECODER__CHECKPOINT": True},
        **{"MODEL__SEGIC__POINTS__NUM": 2, "SOLVER__AMP__ENABLED": True},
        **{"MODEL__SEGIC__BACKGROUND": True, "MODEL__SEGIC__SIMILARITY__GROUPS": 3},
        **{"MODEL__SEGIC__SIMILARITY__CENTER": "fixed", "MODEL__SEGIC__SIMILARITY__MEAN_IMAGES": 4},
        **{"SOLVER__CLIP_GRADIENTS__ENABLED": True, "SOLVER__CLIP_GRADIENTS__CLIP_TYPE": "norm"},
    }


class Losses(HookBase):
    """The losses of every iteration, by name, and the learning rate."""

    def __init__(self):
        self.values = {}

    def after_step(self):
        latest = self.trainer.storage.latest()
        losses = {k: v for k, (v, when) in latest.items() if "loss" in k}
        rate = self.trainer._trainer.optimizer.param_groups[0]["lr"]
        self.values[self.trainer.iter] = {**losses, "lr": rate}


def train_here(output, resume, **changes):
    cfg = load_config(str(ROOT / "configs/Base-SegIC.yaml"), options(output, **changes))
    torch.manual_seed(cfg.SEED)
    os.makedirs(output, exist_ok=True)
    trainer = EpisodeTrainer(cfg)
    trainer.resume_or_load(resume)
    losses = Losses()
    trainer.register_hooks([losses])
    # the recorder must run before the hook that moves the learning rate on
    trainer._hooks.insert(0, trainer._hooks.pop())
    trainer.train()
    return losses.values, torch.load(Path(output) / "model_final.pth", weights_only=True)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("features", ["the defaults", "every feature"])
def test_a_killed_run_resumes_exactly(tmp_path, features):
    """Kill -9 between two checkpoints, with two workers; the rest equals an uninterrupted run, also
    past the step of the learning rate."""
    changes = every_feature(tmp_path) if features == "every feature" else {}
    short = {**changes, "SOLVER__MAX_ITER": 10}
    whole, weights = train_here(tmp_path / "whole", False, **short)
    lasting = {**changes, "SOLVER__MAX_ITER": 10_000, "SOLVER__CHECKPOINT_PERIOD": 4}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        command(tmp_path / "killed", **lasting), cwd=ROOT, stdout=log, stderr=log
    )
    checkpoint = tmp_path / "killed/last_checkpoint"
    try:
        for _ in range(1200):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            if checkpoint.exists() and checkpoint.read_text() == "model_0000003.pth":
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # it may have come further than the first checkpoint; the test needs an early one
    checkpoint.write_text("model_0000003.pth")
    rest, resumed = train_here(tmp_path / "killed", True, **short)
    assert sorted(rest) == list(range(4, 10))
    assert rest == {i: whole[i] for i in rest}
    assert whole[9]["lr"] == pytest.approx(whole[0]["lr"] / 10)
    parts = {"loss_mask", "loss_dice", "loss_quality"}
    assert parts | {f"{part}_reversed" for part in parts} <= whole[9].keys()
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(weights[k], resumed[k]) for k in weights)


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(tmp_path):
    """gloo on the CPU: the losses and weights of one process with the same total batch, and one
    set of results."""
    metrics = {}
    for flags in (("--num-gpus", "1"), ("--num-gpus", "2", "--dist-url", "auto")):
        folder = tmp_path / flags[1]
        short = {"SOLVER__MAX_ITER": 3, "TEST__EVAL_PERIOD": 3, "DATALOADER__NUM_WORKERS": 0}
        out = run(folder, *flags, **short)
        assert out.count("copypaste: Task: one_shot") == 1
        lines = [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]
        merged = {k: v for line in lines for k, v in line.items()}
        weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
        metrics[flags[1]] = merged, weights
    (one, weights), (two, weights_two) = metrics["1"], metrics["2"]
    for key in ("loss_mask", "loss_dice", "total_loss"):
        assert two[key] == pytest.approx(one[key], rel=1e-4), key
    assert two["one_shot/episodes"] == one["one_shot/episodes"] == 12
    assert two["one_shot/mIoU"] == pytest.approx(one["one_shot/mIoU"], abs=0.5)
    for key in weights:  # Adam's normalised steps amplify rounding where gradients are near 0
        difference = (weights[key].float() - weights_two[key].float()).abs()
        assert difference.mean() < 2e-4, key


def test_checkpoints_hold_trainable_weights_only(tmp_path):
    from detectron2.modeling import build_model

    from segic_d2.checkpoint import SegICCheckpointer

    train_here(tmp_path, False, SOLVER__MAX_ITER=1, DATALOADER__NUM_WORKERS=0)
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert not [k for k in saved["model"] if not k.startswith("sem_seg_head.")]
    assert not list(tmp_path.glob("*.part"))
    model = build_model(load_config(str(ROOT / "configs/Base-SegIC.yaml"), options(tmp_path)))
    checkpointer = SegICCheckpointer(model)
    checkpointer.load(str(tmp_path / "model_final.pth"))
    for key, value in saved["model"].items():
        assert torch.equal(model.state_dict()[key], value)
    with pytest.raises(FileNotFoundError, match="MODEL.WEIGHTS.*nothing.pth"):
        checkpointer.load(str(tmp_path / "nothing.pth"))
    torch.save({"model": {"conv.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth holds none of the model's trainable tensors"):
        checkpointer.load(str(tmp_path / "other.pth"))


def test_stock_evaluators_run_on_the_embedded_data(tmp_path):
    """Class-wise label maps and instances from one fixed context, in two stock evaluators."""
    for dataset, evaluator, name in (
        ("shapes_seen_sem_seg", "semantic", "mIoU"),
        ("shapes_seen_coco", "coco_instances", "AP"),
    ):
        cfg = load_config(
            str(ROOT / "configs/Base-SegIC.yaml"),
            options(
                tmp_path / evaluator,
                DATASETS__TEST=(dataset,),
                DATASETS__REFERENCE=(dataset.replace("seen", "train"),),
                TEST__EVALUATORS=(evaluator,),
                DATALOADER__NUM_WORKERS=0,
            ),
        )
        torch.manual_seed(0)
        results = EpisodeTrainer.test(cfg, EpisodeTrainer.build_model(cfg))
        assert all(0 <= figures[name] <= 100 for figures in results.values())


@pytest.mark.parametrize(
    "spelling", [{"first": "Background"}, {"first": "other", "background_label": 0}]
)
def test_the_background_is_found_as_everywhere_else(tmp_path, spelling):
    """Any case, or ``background_label``: the same figures as with "background"."""
    torch.manual_seed(0)
    results = []
    for name, first, label in (
        ("shapes_plain", "background", None),
        ("shapes_spelt", spelling["first"], spelling.get("background_label")),
    ):
        original = MetadataCatalog.get("shapes_seen_sem_seg")
        DatasetCatalog.register(name, lambda: DatasetCatalog.get("shapes_seen_sem_seg")[:16])
        MetadataCatalog.get(name).set(
            stuff_classes=[first, *original.stuff_classes[1:]], ignore_label=255
        )
        if label is not None:
            MetadataCatalog.get(name).set(background_label=label)
        try:
            changes = {"DATASETS__TEST": (name,), "DATASETS__REFERENCE": (name,)}
            config = str(ROOT / "configs/Base-SegIC.yaml")
            opts = options(tmp_path, **changes, DATALOADER__NUM_WORKERS=0)
            cfg = load_config(config, [*opts, "TEST.EVALUATORS", ("semantic",)])
            if not results:
                model = EpisodeTrainer.build_model(cfg)
            found = EpisodeTrainer.test(cfg, model)
            results.append(next(v for k, v in found.items() if "-all-" in k))
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    plain, spelt = results
    assert plain["IoU-background"] > 0
    assert spelt[f"IoU-{spelling['first']}"] == plain["IoU-background"]
    assert spelt["mIoU"] == plain["mIoU"]


@pytest.mark.parametrize("evaluator", ["semantic", "coco_instances"])
def test_an_evaluator_that_does_not_fit_the_data_says_so(tmp_path, evaluator):
    for kind in ("train", "test"):
        folder = tmp_path / kind / "ball"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 30)).save(folder / f"{i}.jpg")
            Image.new("L", (40, 30), 255).save(folder / f"{i}.png")
    config = str(ROOT / "configs/Base-SegIC.yaml")
    changes = {"DATASETS__TRAIN": (f"folder:{tmp_path / 'train'}",), "TEST__EPISODES": 2}
    test = f"folder:{tmp_path / 'test'}"
    opts = options(tmp_path / "out", **changes, DATASETS__TEST=(test,), DATALOADER__NUM_WORKERS=0)
    opts += ["DATASETS.EPISODE_MAPPERS", ()]
    cfg = load_config(config, [*opts, "TEST.EVALUATORS", (evaluator,)])
    model = EpisodeTrainer.build_model(cfg)
    with pytest.raises(ValueError, match=f"TEST.EVALUATORS has '{evaluator}'.*{test}"):
        EpisodeTrainer.test(cfg, model)
    EpisodeTrainer.test(load_config(config, opts), model)
    (folder,) = (tmp_path / "out" / "inference").iterdir()  # the path in the name makes no folders
    assert folder.name.startswith("folder_") and (folder / "one_shot").is_dir()


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER is 'LION'"):
        EpisodeTrainer.build_optimizer(load_config(opts=["SOLVER.OPTIMIZER", "LION"]), None)


@pytest.mark.parametrize(
    "changes, warned",
    [
        ({}, True),  # one entity per episode
        ({"INPUT.SEMANTIC.MAX_ENTITIES": 2}, False),
        ({"MODEL.SEGIC.CROSS_ENTITY.ENABLED": False}, False),
        ({"DATASETS.EPISODE_MAPPERS": ("instance",)}, False),
        ({"DATASETS.EPISODE_MAPPERS": ("instance",), "INPUT.INSTANCE.MAX_MASKS": 1}, True),
        # a folder per class: whatever is asked, a picture shows one
        ({"INPUT.SEMANTIC.MAX_ENTITIES": 3, "DATASETS.TRAIN": ("folder:{}",)}, True),
    ],
)
def test_a_run_that_cannot_train_negatives_says_so(tmp_path, caplog, changes, warned):
    if "folder:{}" in changes.get("DATASETS.TRAIN", ()):
        for name in ("coin/1", "coin/2", "key/1", "key/2"):
            file = tmp_path / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(f"{file}.jpg")
            Image.new("L", (32, 32), 255).save(f"{file}.png")
        changes = {**changes, "DATASETS.TRAIN": (f"folder:{tmp_path / 'data'}",)}
    cfg = short_config(tmp_path, *(x for pair in changes.items() for x in pair))
    with caplog.at_level(logging.WARNING, "segic_d2"):
        EpisodeTrainer(cfg)
    assert ("an embedding that is never trained" in caplog.text) == warned


@pytest.mark.parametrize("config", ["segic_region.yaml", "segic_insid3.yaml"])
def test_what_needs_no_weights_is_evaluated_without(config, tmp_path, monkeypatch, caplog):
    """On the tiny backbone, the log and the random numbers of this process left as they are."""
    for name in ("default_setup", "setup_logger"):
        monkeypatch.setattr(f"segic_d2.engine.run.{name}", lambda *args, **options: None)
    r = "MODEL.SEGIC.REGIONS."
    opts = [
        *("MODEL.BACKBONE.NAME", "build_tiny_backbone", "MODEL.BACKBONE.WEIGHTS", "random"),
        *("MODEL.DEVICE", "cpu", "INPUT.CANVAS", "112"),
        *(f"{r}WHITENING", "", f"{r}DEBIAS", "3", f"{r}CELLS", "24"),
        *("TEST.EPISODES", "8", "OUTPUT_DIR", str(tmp_path)),
    ]
    results = []
    for weight in ("0.0", "0.2"):
        line = ["--eval-only", "--config-file", str(ROOT / "configs" / config), *opts]
        args = train_net.parse_args([*line, f"{r}DECODER", weight])
        train_net.require(args)
        with caplog.at_level("WARNING"):
            results.append(train_net.main(args)["one_shot"])
        assert ("the decoder is random" in caplog.text) == (weight == "0.2")
    assert results[0]["episodes"] == 8 and 0 < results[0]["mIoU"] < 100


def test_what_is_wrong_with_data_is_one_line(tmp_path):
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"][0]["segmentation"] = [[1, None, 5, 5, 9, 9]]
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(SystemExit) as end, one_line_errors():
        Source(f"coco:{tmp_path}/bad.json:{tmp_path}/images")
    start = f"error: {tmp_path}/bad.json: annotation {data['annotations'][0]['id']}: polygon 1 has"
    assert end.value.code.startswith(start) and "\n" not in end.value.code


@pytest.mark.parametrize(
    "fails",
    [lambda: np.zeros(3).reshape(2, 2), lambda: {}["a"], lambda: Path("/no/file").read_text()],
    ids=["of a library", "of no kind of ours", "of the system"],
)
def test_other_errors_keep_their_traceback(fails):
    with pytest.raises((ValueError, KeyError, OSError)), one_line_errors():
        fails()
