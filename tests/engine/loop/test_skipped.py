"""Four kinds of damage, each named in one message before the run, or skipped and counted."""

import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from segic_d2.data import build_target_loader
from segic_d2.data.health.damaged import NAMED, Damaged, DamagedDataError, message
from segic_d2.data.health.verify import fault, verify_files
from segic_d2.data.records import File
from segic_d2.engine import EVALUATION_REGISTRY, evaluate
from segic_d2.engine.loop.inference import run_inference
from segic_d2.evaluation import build_coco_evaluator, build_sem_seg_evaluator
from tests.data import toy
from tests.engine.loop.resumable import Predictor
from tests.tiny import tiny_config

Model = Predictor


def stock(build):
    """An evaluation of bare targets by one of Detectron2's evaluators."""

    def evaluation(cfg, model, dataset_name, output_dir):
        loader = build_target_loader(cfg, dataset_name)
        evaluator = build(dataset_name, output_dir)
        return run_inference(cfg, model, loader, evaluator, output_dir)

    return evaluation


@pytest.fixture(autouse=True)
def stock_evaluations(monkeypatch):
    for name, build in (
        ("stock_sem_seg", build_sem_seg_evaluator),
        ("stock_coco", build_coco_evaluator),
    ):
        monkeypatch.setitem(EVALUATION_REGISTRY._obj_map, name, stock(build))


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def truncated_jpeg(root):
    """One image of class folders, whose episodes cannot be read."""
    toy.folder_a(root, 12)
    file = sorted((root / "a" / "green_thing").glob("*.jpg"))[0]
    truncate(file)
    return f"folder:{root}/a", "one_shot", [f"cannot read image {file}"]


def missing_mask(root):
    toy.folder_a(root, 12)
    file = sorted((root / "a" / "green_thing").glob("*.jpg"))[1]
    file.with_suffix(".png").unlink()
    return f"folder:{root}/a", "one_shot", [f"image without a mask: {file}"]


def unreadable_mask(root):
    toy.folder_a(root, 12)
    file = sorted((root / "a" / "green_thing").glob("*.png"))[1]
    file.write_bytes(b"no picture")
    return f"folder:{root}/a", "one_shot", [f"cannot read image {file}"]


def unknown_value(root, evaluator="one_shot"):
    """In layout B, whose classes.txt names the ids."""
    toy.folder_b(root, 7)
    file = root / "b" / "masks" / "2.png"
    ids = np.array(Image.open(file))
    ids[5, 5] = 77
    Image.fromarray(ids).save(file)
    return f"folder:{root}/b", evaluator, [f"{file} shows the id 77"]


def unknown_value_for_the_stock_evaluator(root):
    return unknown_value(root, "stock_sem_seg")


def label_maps(root):
    """A Detectron2 dataset of label maps, of which every kind of damage is left to be found."""
    name = toy.sem_seg(root, 9)
    paths = [root / "semseg" / f"{i}.png" for i in range(3)]
    ids = np.array(Image.open(paths[0]))
    ids[5, 5] = 77
    Image.fromarray(ids).save(paths[0])
    paths[1].unlink()
    truncate(paths[2])
    reasons = (
        f"{paths[0]} shows the ids",
        f"no such file: {paths[1]}",
        f"cannot read image {paths[2]}",
    )
    return name, paths, reasons


def every_damage_of_label_maps(root):
    name, paths, reasons = label_maps(root)
    truncate(paths[0].with_name("4.jpg"))
    return name, "one_shot", [*reasons, f"cannot read image {paths[0].with_name('4.jpg')}"]


def every_damage_of_label_maps_of_the_stock_evaluator(root):
    name, paths, _ = label_maps(root)
    return name, "stock_sem_seg", list(map(str, paths))


def class_without_images(root, evaluator="one_shot"):
    toy.coco(root, 7)
    content = json.loads((root / "coco.json").read_text())
    content["categories"].append({"id": 90, "name": "yeti"})
    (root / "coco.json").write_text(json.dumps(content))
    name = toy.unique("benchmark")
    register_coco_instances(name, {}, f"{root}/coco.json", f"{root}/images")
    return name, evaluator, [f"class 3 (yeti) has no image in {root}/coco.json"]


def class_without_images_of_the_stock_evaluator(root):
    return class_without_images(root, "stock_coco")


CASES = [
    truncated_jpeg,
    missing_mask,
    unreadable_mask,
    unknown_value,
    unknown_value_for_the_stock_evaluator,
    every_damage_of_label_maps,
    every_damage_of_label_maps_of_the_stock_evaluator,
    class_without_images,
    class_without_images_of_the_stock_evaluator,
]


def config(root, name, evaluator, *opts):
    return tiny_config(
        *("OUTPUT_DIR", str(root / "out"), "DATASETS.TRAIN", (name,), "TEST.EPISODES", 20),
        *("TEST.EVALUATORS", (evaluator,), "TEST.BATCH_SIZE", 2, "DATALOADER.NUM_WORKERS", 0),
        *("TEST.VERIFY", "full"),
        *opts,
    )


@pytest.mark.parametrize("case", CASES)
def test_every_damage_is_named_before_the_run(tmp_path, case):
    name, evaluator, reasons = case(tmp_path)
    model = Model()
    with pytest.raises(DamagedDataError) as error:
        evaluate(config(tmp_path, name, evaluator, "TEST.VERIFY", "full"), model, name)
    assert not model.seen
    for reason in reasons:
        assert str(error.value).count(reason) == 1, error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("evaluator", ["one_shot", "stock_coco"])
def test_a_name_that_a_labelling_tool_keeps_is_no_damage(tmp_path, evaluator, caplog):
    class_without_images(tmp_path)
    name, model = f"coco:{tmp_path}/coco.json:{tmp_path}/images", Model()
    assert evaluate(config(tmp_path, name, evaluator), model, name) and model.seen
    assert f"{name}: 1 classes without an object are left out: yeti" in caplog.text


@pytest.mark.parametrize("case", CASES)
def test_or_it_is_skipped_and_counted(tmp_path, case, caplog):
    name, evaluator, reasons = case(tmp_path)
    model = Model()
    with caplog.at_level(logging.WARNING, "segic_d2"):
        found = evaluate(config(tmp_path, name, evaluator, "TEST.DAMAGED", "skip"), model, name)
    assert model.seen
    (file,) = (tmp_path / "out" / "inference").glob(f"*/{evaluator}/results.json")
    skipped = json.loads(file.read_text())["skipped"]
    for reason in reasons:
        assert any(reason in s for s in skipped), skipped
        assert reason in caplog.text
    for metrics in found.values():
        assert metrics["skipped"] == len(skipped) >= len(reasons)
    if evaluator == "one_shot":
        episodes = [s for s in skipped if s.startswith("episode")]
        assert len(model.seen) == 20 - len(episodes) == found["one_shot"]["episodes"]


def test_a_sound_dataset_skips_nothing(tmp_path):
    toy.folder_a(tmp_path, 12)
    name = f"folder:{tmp_path}/a"
    whole = evaluate(config(tmp_path, name, "one_shot"), Model(), name)
    again = evaluate(config(tmp_path, name, "one_shot", "TEST.DAMAGED", "skip"), Model(), name)
    assert whole == again and "skipped" not in whole["one_shot"]
    (file,) = (tmp_path / "out" / "inference").glob("*/one_shot/results.json")
    content = json.loads(file.read_text())
    assert content["skipped"] == [] and content["metrics"] | {"episodes": 20} == whole["one_shot"]


def test_skipped_images_are_no_missed_ones_for_coco(tmp_path):
    """AP without an image equals AP of a file that never listed it."""
    name = f"coco:{tmp_path}/coco.json:{tmp_path}/images"
    toy.coco(tmp_path, 7)
    content = json.loads((tmp_path / "coco.json").read_text())
    for part, key in (("images", "id"), ("annotations", "image_id")):
        content[part] = [x for x in content[part] if x[key] != 103]
    (tmp_path / "less.json").write_text(json.dumps(content))
    less = f"coco:{tmp_path}/less.json:{tmp_path}/images"
    opts = ("TEST.DAMAGED", "skip", "DATASETS.REFERENCE", (less,))
    expected = evaluate(config(tmp_path, less, "stock_coco", *opts), Perfect(less), less)
    truncate(tmp_path / "images" / "3.png")
    found = evaluate(config(tmp_path, name, "stock_coco", *opts), Perfect(name), name)
    assert found["segm"].pop("skipped") == 1
    assert str(found) == str(expected) and found["segm"]["AP"] > 50  # NaN equals NaN


class Perfect(Model):
    """Predicts the true instances of a COCO dataset."""

    def __init__(self, name):
        super().__init__()
        from segic_d2.data.index import load_records

        self.records = {r["image_id"]: r for r in load_records(name)}

    def output(self, x):
        import torch
        from detectron2.structures import Boxes, Instances

        from segic_d2.data.records import usable_annotations
        from segic_d2.io.rle import decode

        objects = usable_annotations(self.records[x["image_id"]])
        size = x["height"], x["width"]
        masks = np.stack([decode(a["segmentation"], *size) for a in objects])
        found = Instances(size)
        found.pred_masks = torch.from_numpy(masks)
        found.pred_classes = torch.tensor([a["category_id"] for a in objects])
        found.scores = torch.ones(len(objects))
        found.pred_boxes = Boxes(torch.zeros(len(objects), 4))
        return {"instances": found}


def test_an_interrupted_run_remembers_what_it_skipped(tmp_path):
    name, evaluator, _ = truncated_jpeg(tmp_path)
    cfg = config(tmp_path, name, evaluator, "TEST.DAMAGED", "skip")
    whole = evaluate(cfg, Model(), name)
    model = Model(fail_at=6)
    with pytest.raises(RuntimeError, match="interrupted"):
        evaluate(cfg, model, name)
    rest = Model()
    assert evaluate(cfg, rest, name) == whole
    assert len(model.seen) + len(rest.seen) == whole["one_shot"]["episodes"]


@pytest.mark.parametrize("level", ["none", "exists", "full"])
def test_the_cost_of_looking_is_a_key(tmp_path, level):
    """A truncated file is found by reading, a missing one by looking, else in the run."""
    name = toy.sem_seg(tmp_path, 6)
    truncate(tmp_path / "semseg" / "1.jpg")
    (tmp_path / "semseg" / "2.jpg").unlink()
    cfg = config(tmp_path, name, "one_shot", "TEST.VERIFY", level)
    with pytest.raises(ValueError) as error:
        evaluate(cfg, Model(), name)
    assert ("2.jpg" in str(error.value)) >= (level != "none")
    assert ("1.jpg" in str(error.value)) >= (level == "full")
    if level == "exists":
        assert "1.jpg" not in str(error.value)


def test_images_that_detectron2_leaves_out_for_want_of_a_map(tmp_path):
    from detectron2.data.datasets import load_sem_seg

    toy.sem_seg(tmp_path, 6)
    (tmp_path / "semseg" / "3.png").unlink()
    name, folder = toy.unique("loaded"), str(tmp_path / "semseg")
    DatasetCatalog.register(name, lambda: load_sem_seg(folder, folder))
    MetadataCatalog.get(name).set(
        stuff_classes=["background", *toy.NAMES], image_root=folder, sem_seg_root=folder
    )
    with pytest.raises(DamagedDataError, match="no label map in .* for .*3.jpg"):
        evaluate(config(tmp_path, name, "stock_sem_seg"), Model(), name)


def test_files_are_read_once_until_they_change(tmp_path):
    file = tmp_path / "1.png"
    Image.new("L", (4, 4)).save(file)
    asked = File(str(file), "labels", frozenset({0}))
    assert verify_files([asked, asked]) == [] and fault(asked) is None
    Image.new("L", (5, 5), 9).save(file)
    (found,) = verify_files([asked])
    assert found == Damaged(str(file), f"{file} shows the ids [9], which its dataset does not name")
    assert fault(asked._replace(labels=None)) is None
    assert fault(asked, full=False) is None
    assert "no such file" in fault(asked._replace(path="gone.png"), full=False)


def test_a_message_names_many_and_counts_the_others():
    text = message([Damaged(str(i), f"reason {i}.") for i in range(NAMED + 5)])
    assert text.startswith("25 damaged or missing: reason 0.;") and text.endswith("; and 5 more")
    assert f"reason {NAMED - 1}." in text and f"reason {NAMED}." not in text


@pytest.mark.parametrize("key", ["DAMAGED", "VERIFY"])
def test_unknown_values_of_the_keys_are_errors(tmp_path, key):
    toy.folder_a(tmp_path, 12)
    name = f"folder:{tmp_path}/a"
    with pytest.raises(ValueError, match=f"TEST.{key} is 'maybe'; it must be "):
        evaluate(config(tmp_path, name, "one_shot", f"TEST.{key}", "maybe"), Model(), name)
