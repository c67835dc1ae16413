"""The paper's training mix, read from miniature copies of its data sets."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from segic_d2.config.load import load_config
from segic_d2.data import build_train_loader
from segic_d2.data.datasets import load_lvis
from segic_d2.data.index import Source
from segic_d2.io.masks import read_label_map
from segic_d2.modeling import save_text_table
from tests.data import paper_data
from text_table import config_datasets, texts_of

ROOT = Path(__file__).resolve().parents[2]


def config(*opts, file="segic_dinov2_L.yaml"):
    """A shipped config on a small canvas; everything about the episodes is as shipped."""
    small = ["INPUT.CANVAS", 112, "DATALOADER.NUM_WORKERS", 0]
    return load_config(file, [*small, *opts])


def plans(cfg, number):
    """The first plans of a training stream, and its mappers."""
    stream = build_train_loader(cfg).dataset.dataset._dataset
    return [stream[i] for i in range(number)], stream.mappers


@pytest.fixture(scope="module")
def drawn(paper_root):
    return plans(config(), 2000)


def test_the_main_experiment_reads_as_the_paper_says():
    cfg = load_config("segic_dinov2_L.yaml")
    assert cfg.INPUT.CANVAS == 896 and cfg.SOLVER.IMS_PER_BATCH == 32
    assert cfg.INPUT.SEMANTIC.MAX_ENTITIES == 1 and cfg.INPUT.INSTANCE.MAX_MASKS == 10
    names = ("coco_2014_train", "ade20k_sem_seg_train", "coco_2014_train", "lvis_v1_train")
    assert cfg.DATASETS.TRAIN == names and cfg.DATASETS.WEIGHTS == ()
    assert cfg.DATASETS.EPISODE_MAPPERS == ("semantic", "semantic", "instance", "instance")
    official = load_config("official/segic_dinov2_L.yaml")
    assert official.DATASETS.TRAIN[2] == "coco_2017_train"  # the paper: 2014
    for key in ("EPISODE_MAPPERS", "DRAW"):
        assert official.DATASETS[key] == cfg.DATASETS[key]


def test_every_data_set_gives_a_quarter_of_the_samples(drawn):
    count = Counter(plan["dataset"] for plan in drawn[0])
    assert all(abs(count[i] / 2000 - 0.25) < 0.04 for i in range(4)), count


def test_semantic_samples_have_one_mask_and_instance_samples_up_to_ten(drawn):
    """20 images of 14 objects: the cap is reached; the real step is run on the first samples."""
    found, mappers = drawn
    assert all(len(p["entities"]) == 1 for p in found if p["dataset"] < 2)
    assert {p["cap"] for p in found if p["dataset"] > 1} == {10}
    seen = Counter()
    for plan in found[:40]:
        episode = mappers[plan["dataset"]](plan)
        number = len(episode["entities"])
        assert episode["masks"].shape[0] == number
        assert episode["task"] == ("semantic" if plan["dataset"] < 2 else "instance")
        seen[episode["task"]] = max(seen[episode["task"]], number)
    assert seen["semantic"] == 1 and 5 < seen["instance"] <= 10


def test_coco_is_drawn_by_class_and_ade20k_by_image(drawn):
    """ADE's "wall" is in each image, so that a draw by image takes it in a third of the samples and
    the classes of two images in a ninth each; a draw by class takes each of the five in a fifth."""
    ade = Counter(p["entities"][0] for p in drawn[0] if p["dataset"] == 1)
    total = sum(ade.values())
    assert set(ade) == {0, 1, 2, 3, 4}
    assert ade[0] / total == pytest.approx(1 / 3, abs=0.07)
    assert ade[3] / total == pytest.approx(1 / 9, abs=0.05)
    by_class, _ = plans(config("DATASETS.DRAW", str(("class",) * 4)), 2000)
    ade = Counter(p["entities"][0] for p in by_class if p["dataset"] == 1)
    assert ade[0] / sum(ade.values()) == pytest.approx(1 / 5, abs=0.05)


def test_one_draw_serves_all_data_sets(paper_root):
    """INPUT.SEMANTIC.DRAW alone, and the same for each, are one and the same stream."""
    one, _ = plans(config("DATASETS.DRAW", "()", "INPUT.SEMANTIC.DRAW", "image"), 50)
    each, _ = plans(config("DATASETS.DRAW", str(("image",) * 4)), 50)
    assert one == each
    assert one != plans(config("DATASETS.DRAW", "()"), 50)[0]


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "DATASETS.DRAW",
            "('class', 'image')",
            r"DRAW has 2 entries \('class', 'image'\), .*has 4",
        ),
        ("DATASETS.DRAW", str(("class",) * 3 + ("pixel",)), "DATASETS.DRAW is .*'pixel'.* must be"),
        ("INPUT.SEMANTIC.DRAW", "pixel", "INPUT.SEMANTIC.DRAW is 'pixel'; it must be 'class' or"),
    ],
)
def test_errors_of_the_draw_name_their_key(paper_root, key, value, message):
    first = ["DATASETS.DRAW", "()"] if key != "DATASETS.DRAW" else []
    with pytest.raises(ValueError, match=message):
        build_train_loader(config(*first, key, value))


def test_a_semantic_mask_is_the_union_of_the_objects_of_a_class(paper_root):
    """Against the boxes as they were drawn; the crowd of image 1 counts neither way."""
    source = Source("coco_2014_train")
    assert len(source.records) == 20 and source.names[0] == "person"
    assert source.presence[0] == list(range(14))
    assert source.counts.tolist() == [14] * 20
    mapper = build_train_loader(config()).dataset.dataset._dataset.mappers[0]
    record, image, masks, ignore = mapper.read_classes(0, [0, 3])
    assert record["file_name"].endswith("coco/train2014/COCO_train2014_000000000001.jpg")
    for mask, k in zip(masks, (0, 3), strict=True):
        x, y, w, h = paper_data._boxes()[k]
        expected = np.zeros(paper_data.SIZE, bool)
        expected[y : y + h, x : x + w] = True
        assert (mask == expected).all()
    assert ignore[:, 60:].all() and not ignore[:, :60].any()


def test_ade20k_is_read_after_its_preparation(paper_root):
    folder = paper_root / "ADEChallengeData2016"
    raw = read_label_map(folder / "annotations/training/ADE_train_00000002.png")
    ready = read_label_map(folder / "annotations_detectron2/training/ADE_train_00000002.png")
    assert set(np.unique(raw)) == {0, 1, 2, 4} and set(np.unique(ready)) == {0, 1, 3, 255}
    assert ((raw == 0) == (ready == 255)).all() and (ready[raw > 0] == raw[raw > 0] - 1).all()
    source = Source("ade20k_sem_seg_train")
    assert source.presence[2] == [0, 1, 3] and source.names[0] == "wall"


def test_lvis_needs_no_package_of_its_own(paper_root, monkeypatch):
    """The same records as Detectron2's own loader, where the package lvis is there to ask."""
    monkeypatch.setitem(sys.modules, "lvis", None)
    source = Source("lvis_v1_train")
    assert source.names[0] == "aerosol_can" and len(source.names) == 1203
    assert source.presence[1] == [1, 401, 801] and source.counts.tolist() == [14] * 6
    assert source.files[1].endswith("coco/train2017/000000000002.jpg")
    assert Image.open(source.files[1]).size == paper_data.SIZE[::-1]


def test_lvis_records_are_those_of_detectron2(paper_root):
    pytest.importorskip("lvis")
    assert load_lvis("lvis_v1_train") == DatasetCatalog.get("lvis_v1_train")


def test_a_batch_of_the_main_experiment(paper_root):
    """32 episodes from four data sets through the loader, workers included."""
    batch = next(iter(build_train_loader(config("DATALOADER.NUM_WORKERS", 2))))
    assert len(batch) == 32
    assert {e["task"] for e in batch} == {"semantic", "instance"}
    assert all(max(e["image"].shape[1:]) <= 112 for e in batch)
    assert all(isinstance(e["masks"], torch.Tensor) for e in batch)


def test_train_net_runs_the_main_experiment(paper_root, tmp_path):
    """The shipped config on the miniature data, with a stand-in backbone: two steps and the test.

    The texts come from a table of all class names: no text tower is there.
    """
    texts = texts_of(config(), config_datasets(config()))
    table = str(tmp_path / "text.safetensors")
    save_text_table(table, texts, torch.randn(len(texts), 16))
    options = {
        "MODEL.TIMM.NAME": "vit_tiny_patch16_224",
        "MODEL.BACKBONE.WEIGHTS": "random",
        "INPUT.CANVAS": 96,
        "MODEL.SEGIC.TEXT.NAME": "table",
        "MODEL.SEGIC.TEXT.TABLE": table,
        "MODEL.SEGIC.TEXT.DIM": 16,
        "MODEL.SEGIC.DECODER.WIDTH": 32,
        "MODEL.SEGIC.DECODER.MLP": 64,
        "MODEL.SEGIC.LOSS.NUM_POINTS": 64,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.STEPS": "()",
        "TEST.EPISODES": 4,
        "DATALOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": str(tmp_path / "out"),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_net.py"), "--config-file", "configs/segic_dinov2_L.yaml"]
        + [str(part) for option in options.items() for part in option],
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(paper_root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "model_final.pth").is_file()
    assert (tmp_path / "out/inference/coco_2014_val/one_shot").is_dir()
