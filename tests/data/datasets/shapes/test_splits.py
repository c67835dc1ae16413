"""The embedded dataset as files and as registered datasets."""

import hashlib
import json
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from segic_d2.data.datasets.shapes import register as shapes
from segic_d2.data.datasets.shapes.splits import VOCABULARIES, generate
from segic_d2.evaluation import build_coco_evaluator, build_sem_seg_evaluator

TINY = {"train": 24, "seen": 6, "novel": 14}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A small dataset in a cache of its own; nothing is generated before a test asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(shapes, "SIZES", TINY)
        yield


@pytest.fixture(scope="module")
def root(cache):
    return shapes.shapes_root()


def hashes(folder):
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def labels(path):
    return np.asarray(Image.open(path))


def decode(annotation):
    return pycocotools.mask.decode(annotation["segmentation"]).astype(bool)


def test_stock_coco_evaluator_finds_files_that_nobody_has_asked_for_yet(cache, tmp_path):
    evaluator = build_coco_evaluator("shapes_novel_coco", str(tmp_path))  # first use of the cache
    evaluator.reset()
    for record in DatasetCatalog.get("shapes_novel_coco"):
        masks = torch.from_numpy(np.stack([decode(a) for a in record["annotations"]]))
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]])
        boxes[:, 2:] += boxes[:, :2]
        found = Instances((record["height"], record["width"]))
        found.pred_masks, found.pred_boxes = masks, Boxes(boxes)
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        found.scores = torch.ones(len(masks))
        evaluator.process([record], [{"instances": found}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_stock_sem_seg_evaluator(root):
    evaluator = build_sem_seg_evaluator("shapes_seen_sem_seg")
    evaluator.reset()
    classes = MetadataCatalog.get("shapes_seen_sem_seg").stuff_classes
    for record in DatasetCatalog.get("shapes_seen_sem_seg"):
        truth = torch.from_numpy(labels(record["sem_seg_file_name"]).copy()).long()
        one_hot = torch.nn.functional.one_hot(truth, len(classes)).permute(2, 0, 1)
        evaluator.process([record], [{"sem_seg": one_hot}])
    result = evaluator.evaluate()["sem_seg"]
    assert result["mIoU"] == result["IoU-background"] == 100


@pytest.mark.parametrize("split", TINY)
def test_three_forms_agree_pixel_by_pixel(root, split):
    names = VOCABULARIES[split].names
    coco, sem_seg, folder = (
        DatasetCatalog.get(f"shapes_{split}_{form}") for form in ("coco", "sem_seg", "folder")
    )
    assert len(coco) == len(sem_seg) == len(folder) == TINY[split]
    for a, b, c in zip(coco, sem_seg, folder, strict=True):
        assert a["file_name"] == b["file_name"] == c["file_name"]
        truth = labels(b["sem_seg_file_name"])
        assert Image.open(a["file_name"]).size == (a["width"], a["height"]) == truth.shape[::-1]
        from_instances = np.zeros_like(truth)
        for annotation in a["annotations"]:
            mask = decode(annotation)
            assert not from_instances[mask].any()  # visible parts never overlap
            from_instances[mask] = annotation["category_id"] + 1
            assert (
                annotation["bbox"] == pycocotools.mask.toBbox(annotation["segmentation"]).tolist()
            )
        np.testing.assert_array_equal(from_instances, truth)
        np.testing.assert_array_equal(labels(c["sem_seg_file_name"]), truth)
    assert MetadataCatalog.get(f"shapes_{split}_coco").thing_classes == names
    for form in ("sem_seg", "folder"):
        metadata = MetadataCatalog.get(f"shapes_{split}_{form}")
        assert metadata.stuff_classes == ["background", *names]
        assert (metadata.background_label, metadata.ignore_label) == (0, 255)


def test_every_category_of_every_scene_has_a_visible_distractor(root):
    for split in TINY:
        coco = json.loads((root / split / "instances.json").read_text())
        names = {c["id"]: c["name"] for c in coco["categories"]}
        kinds = set()
        for image in coco["images"]:
            shown = {a["category_id"] for a in coco["annotations"] if a["image_id"] == image["id"]}
            assert shown <= {d["of"] for d in image["distractors"]}
            for d in image["distractors"]:
                texture, looks = names[d["of"]].split()[0], d["looks"]
                assert d["area"] >= 24
                assert (looks.split()[0] == texture) == (d["shares"] == "texture")
                assert looks not in names.values()  # else it would be one
                kinds.add(d["shares"])
        assert kinds == {"texture", "colour"}


def test_novel_categories_are_new_in_shape_and_in_texture():
    train, novel = VOCABULARIES["train"], VOCABULARIES["novel"]
    assert VOCABULARIES["seen"] == train
    assert len(set(train.names)) == 16 and len(set(novel.names)) == 8
    assert not set(train.textures) & set(novel.textures)
    assert not set(train.families) & set(novel.families)


def test_same_seed_same_files_whatever_the_sizes(root, tmp_path):
    generate(tmp_path / "a", num_train=2, num_seen=0, num_novel=1)
    generate(tmp_path / "b", num_train=2, num_seen=0, num_novel=1)
    generate(tmp_path / "c", num_train=2, num_seen=0, num_novel=1, seed=1)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert a == b and len(a) == 2 * (2 + 1) + 2 * 2
    pictures = [name for name in a if name.endswith((".jpg", ".png"))]
    assert all(a[name] != c[name] for name in pictures)
    larger = hashes(root)
    assert {name: larger[name] for name in pictures} == {name: a[name] for name in pictures}
    assert larger["seen/images/0001.jpg"] != larger["train/images/0001.jpg"]


def test_two_that_ask_at_once_get_one_complete_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    calls = []

    def counted(root, **parameters):
        calls.append(root)
        generate(root, **parameters)

    monkeypatch.setattr(shapes, "generate", counted)
    with ThreadPoolExecutor(2) as pool:
        sizes = {"num_train": 1, "num_seen": 0, "num_novel": 0}
        roots = list(pool.map(lambda _: shapes.shapes_root(**sizes), range(2)))
    assert roots[0] == roots[1] and len(calls) == 1
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == [roots[0].name]
    assert shapes.shapes_root(**sizes, seed=3) != roots[0]


def test_an_interrupted_generation_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))

    def fails(root, **parameters):
        generate(root, num_train=1, num_seen=0, num_novel=0)
        raise OSError("disk full")

    monkeypatch.setattr(shapes, "generate", fails)
    with pytest.raises(OSError, match="disk full"):
        shapes.shapes_root()
    assert not [f for f in tmp_path.iterdir() if f.is_dir()]


def test_bad_sizes_and_folders_are_errors(tmp_path):
    with pytest.raises(ValueError, match="num_seen is -1"):
        generate(tmp_path, num_train=1, num_seen=-1)
    (tmp_path / "novel").mkdir()
    with pytest.raises(ValueError, match="novel exists already"):
        generate(tmp_path, num_train=1)
    assert not (tmp_path / "train").exists()


def test_command_line(tmp_path, monkeypatch, capsys):
    sizes = ["--num-train", "1", "--num-seen", "0", "--num-novel", "0"]
    monkeypatch.setattr(sys, "argv", ["prepare_shapes.py", "--output", str(tmp_path / "o"), *sizes])
    script = Path(__file__).parents[4] / "datasets" / "prepare_shapes.py"
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip() == str(tmp_path / "o")
    assert [f.name for f in (tmp_path / "o" / "train" / "images").iterdir()] == ["0001.jpg"]
