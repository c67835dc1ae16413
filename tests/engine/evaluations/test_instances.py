"""One-shot instances of miniature COCO and LVIS, as ``train_net.py --eval-only`` runs them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segic_d2.data import build_target_loader, check_data
from segic_d2.data.health.damaged import DamagedDataError
from segic_d2.data.index import load_records
from segic_d2.data.records import instance_masks
from segic_d2.data.references.instance import InstanceReferences, picture_key
from segic_d2.engine import EVALUATION_REGISTRY, EpisodeTrainer, evaluate
from segic_d2.engine.evaluations.instances import CLASSES_AT_ONCE, instance_context
from segic_d2.evaluation import build_coco_evaluator, build_lvis_evaluator
from tests.data.paper_data import registered
from tests.miniatures import coco_instances, lvis_instances
from tests.tiny import prototype_context, tiny_config

BENCHMARKS = {
    "coco_instances": ("coco_2017_train", "coco_2017_val", [0, 2, 11, 79]),  # ids 1, 3, 13, 90
    "lvis_instances": ("lvis_v1_train", "lvis_v1_val", [0, 702, 1202]),
}
EVALUATORS = {"coco_instances": build_coco_evaluator, "lvis_instances": build_lvis_evaluator}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    coco_instances.make(root)
    lvis_instances.make(root)
    with registered(root):
        yield root


@pytest.fixture(params=BENCHMARKS)
def benchmark(request, data):
    if request.param == "lvis_instances":
        pytest.importorskip("lvis")
    return request.param


def config(benchmark, *opts):
    train, val, _ = BENCHMARKS[benchmark]
    return tiny_config(
        *("DATASETS.TRAIN", (), "DATASETS.REFERENCE", (train,), "DATASETS.TEST", (val,)),
        *("TEST.EVALUATORS", (benchmark,), "DATALOADER.NUM_WORKERS", 0, *opts),
    )


def test_from_references_to_average_precision(benchmark, tmp_path):
    cfg = config(benchmark, "OUTPUT_DIR", str(tmp_path), "TEST.SEEN", "unseen")
    cfg.TEST.DAMAGED = "skip"  # 76 of COCO's classes have no image in the miniature
    check_data(cfg, training=False)
    _, val, classes = BENCHMARKS[benchmark]
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    seen, forward = [], model.backbone.forward
    model.backbone.forward = lambda x: seen.append(len(x)) or forward(x)
    result = EpisodeTrainer.test(cfg, model)
    task = f"instances-{val}-1shot-unseen-no_text"
    images = len(load_records(val))
    assert sum(seen) == len(classes) + images  # every class once, not once per image
    assert set(result) == {task} and 0 <= result[task]["AP"] <= 100
    assert not hasattr(np, "float")  # the alias that lvis needs is gone
    folder = tmp_path / "inference" / val / benchmark
    written = json.loads((folder / "results.json").read_text())
    known = {k: v for k, v in result[task].items() if v == v and k != "skipped"}
    assert known == {k: v for k, v in written["metrics"].items() if v is not None}
    assert (written["benchmark"], written["images"], written["shots"]) == (benchmark, images, 1)
    assert len(written["references"]) == len(classes) and written["seen"] == "unseen"
    unreferenced = [s for s in written["skipped"] if "has no image in" not in s]
    assert len(written["skipped"]) - len(unreferenced) == result[task].get("skipped", 0)
    assert len(unreferenced) == (80 if "coco" in benchmark else 1203) - len(classes)
    kind = benchmark.split("_")[0]
    found = json.loads((folder / f"{kind}_instances_results.json").read_text())
    ids = {c + 1 for c in classes} if kind == "lvis" else {1, 3, 13, 90}
    assert found and {x["category_id"] for x in found} <= ids
    assert all(x["segmentation"]["size"] == [48, 64] for x in found)


def test_stock_tools_find_the_same_by_a_held_context(benchmark, tmp_path):
    """Detectron2's own mapper, loader, loop and evaluator, against ``TEST.EVALUATORS``."""
    cfg = config(benchmark, "OUTPUT_DIR", str(tmp_path), "TEST.DAMAGED", "skip")
    assert cfg.INPUT.MIN_SIZE_TEST == 800
    cfg.INPUT.MIN_SIZE_TEST = 0  # as our configs set it
    (train,), (val,) = cfg.DATASETS.REFERENCE, cfg.DATASETS.TEST
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    (expected,) = EpisodeTrainer.test(cfg, model).values()
    model.context = instance_context(model, InstanceReferences(cfg, [train], val))
    evaluator = EVALUATORS[benchmark](val, str(tmp_path / "stock"))
    found = inference_on_dataset(model, build_detection_test_loader(cfg, val), evaluator)["segm"]
    assert found == {k: pytest.approx(expected[k], nan_ok=True) for k in found}
    kind, ours = benchmark.split("_")[0], tmp_path / "inference" / val / benchmark
    one, two = (
        json.loads((folder / f"{kind}_instances_results.json").read_text())
        for folder in (ours, tmp_path / "stock")
    )
    assert len(one) > 5 and one == two


def test_the_truth_itself_has_full_precision(benchmark):
    """The stock evaluators read classes, masks and sizes as they are meant."""
    _, val, _ = BENCHMARKS[benchmark]
    evaluator = EVALUATORS[benchmark](val)
    evaluator.reset()
    for record in load_records(val):
        masks, classes = instance_masks(record)
        found = Instances((48, 64))
        found.pred_masks = torch.from_numpy(masks)
        found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        found.scores = torch.ones(len(masks))
        found.pred_classes = torch.tensor(classes)
        evaluator.process([record], [{"instances": found}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
    assert not hasattr(np, "float")


def test_the_alias_goes_also_when_lvis_fails(data, monkeypatch):
    lvis = pytest.importorskip("lvis")
    evaluator = build_lvis_evaluator("lvis_v1_val")
    evaluator.reset()
    with pytest.raises(IndexError):  # nothing was processed, so that gathering has no first one
        monkeypatch.setattr(
            "detectron2.evaluation.LVISEvaluator.evaluate", lambda self: np.float([][0])
        )
        evaluator.evaluate()
    assert not hasattr(np, "float") and lvis is not None


def test_without_lvis_the_error_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "lvis", None)
    with pytest.raises(ImportError, match="evaluating 'lvis_v1_val' needs the package lvis"):
        build_lvis_evaluator("lvis_v1_val")


def test_a_reference_is_the_largest_object_of_its_class(data):
    cfg = config("coco_instances", "TEST.SHOTS", 3)
    references = InstanceReferences(cfg, ["coco_2017_train"], "coco_2017_val")
    assert references.names == {0: "person", 2: "car", 11: "stop sign", 79: "toothbrush"}
    shots = references.of_class(79)  # images 3 (two of them) and 4 (one)
    assert sorted(r["file_name"][-5:] for r in shots) == ["3.jpg", "4.jpg"]
    assert len(references.of_class(0)) == 2 and references.files[79] == [
        r["file_name"] for r in shots
    ]
    (two,) = (r for r in shots if r["file_name"].endswith("3.jpg"))
    assert two["masks"].shape == (1, 84, 112) and two["entity_ids"] == [79]
    box = [round(v * 112 / 64) for v in (4, 4, 20, 18)]  # the first, 16×14, not 14×12
    inside = (two["masks"][0] > 0.5).nonzero()
    assert inside.min(0).values.tolist() == [box[1], box[0]]
    assert inside.max(0).values.tolist() == pytest.approx([box[3] - 1, box[2] - 1], abs=1)
    near = config("coco_instances", "TEST.SHOTS", 3, "INPUT.REFERENCE_ZOOM", 1.0)
    (cut, *_) = InstanceReferences(near, ["coco_2017_train"], "coco_2017_val").of_class(79)
    assert cut["masks"].mean() > 0.7 > two["masks"].mean()  # 16x14 px in 16x16
    other = InstanceReferences(config("coco_instances"), ["coco_2017_train"], "coco_2017_val")
    assert all(len(f) == 1 and f[0] == references.files[c][0] for c, f in other.files.items())


def test_no_image_of_the_targets_is_a_reference(data):
    cfg = config("coco_instances")
    with pytest.raises(ValueError, match="no class of dataset 'coco_2017_val' in images that are"):
        InstanceReferences(cfg, ["coco_2017_val"], "coco_2017_val")
    both = InstanceReferences(cfg, ["coco_2017_val", "coco_2017_train"], "coco_2017_val")
    assert all("train2017" in f for files in both.files.values() for f in files)
    names = ("a/COCO_val2014_000000000042.jpg", "b/000000000042.jpg")
    assert picture_key(names[0]) == picture_key(names[1]) != picture_key("b/42.jpg")


def test_a_damaged_reference_is_named_or_makes_way(tmp_path):
    """Before anything is encoded; the next picture of the class takes its place."""
    coco_instances.make(tmp_path)
    with registered(tmp_path):
        opts = ("OUTPUT_DIR", str(tmp_path / "out"), "TEST.VERIFY", "full")
        cfg = config("coco_instances", *opts)
        whole = InstanceReferences(cfg, ["coco_2017_train"], "coco_2017_val")
        lost = whole.files[0][0]
        Path(lost).write_bytes(Path(lost).read_bytes()[:300])
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        model.encode_context = None
        with pytest.raises(DamagedDataError) as error:
            evaluate(cfg, model, "coco_2017_val")
        assert "77 damaged or missing" in str(error.value)  # with 76 classes without images
        with pytest.raises(ValueError, match=f"cannot read image {lost}"):
            InstanceReferences(cfg, ["coco_2017_train"], "coco_2017_val")
        cfg.TEST.DAMAGED = "skip"
        evaluate(cfg, build_model(cfg).eval(), "coco_2017_val")
        file = tmp_path / "out/inference/coco_2017_val/coco_instances/results.json"
    written = json.loads(file.read_text())
    assert any(s.startswith(f"{lost}: cannot read image") for s in written["skipped"])
    assert list(written["references"]) == list(whole.names.values())
    assert all(files and lost not in files for files in written["references"].values())


def test_datasets_without_objects_are_named(data):
    cfg = config("coco_instances")
    with pytest.raises(ValueError, match="dataset 'shapes_novel_sem_seg': .* no 'annotations'"):
        InstanceReferences(cfg, ["shapes_novel_sem_seg"], "coco_2017_val")
    cfg.DATASETS.TEST = ("shapes_novel_sem_seg",)
    model = build_model(cfg).eval()
    with pytest.raises(ValueError, match="'coco_instances', which needs a file of annotated"):
        EVALUATION_REGISTRY.get("coco_instances")(cfg, model, "shapes_novel_sem_seg", None)


def test_a_context_in_parts_is_the_context(data, monkeypatch):
    cfg = config("coco_instances", "TEST.SHOTS", 2)
    model = build_model(cfg).eval()
    references = InstanceReferences(cfg, ["coco_2017_train"], "coco_2017_val")
    whole = model.encode_context(
        [r for c in references.names for r in references.of_class(c)], references.names, "instance"
    )
    monkeypatch.setattr("segic_d2.engine.evaluations.instances.CLASSES_AT_ONCE", 1)
    parts = instance_context(model.train(), references)
    assert model.training and CLASSES_AT_ONCE > 1
    assert parts.ids == whole.ids and parts.names == whole.names and parts.task == "instance"
    assert parts.fingerprint == whole.fingerprint and torch.equal(parts.shots, whole.shots)
    torch.testing.assert_close(parts.tensors["prototypes"], whole.tensors["prototypes"])
    torch.testing.assert_close(parts.tensors["unit_prototypes"], whole.tensors["unit_prototypes"])


def test_memory_is_bounded_with_all_classes_of_lvis(data):
    """1203 classes: no tensor grows with the square of the classes, or with all their peaks."""
    cfg = config(
        *("coco_instances", "MODEL.SEGIC.INSTANCES.PER_IMAGE", 30),
        *("MODEL.SEGIC.INSTANCES.MIN_SIMILARITY", -1.0),
    )
    model = build_model(cfg).eval()
    g = torch.Generator().manual_seed(0)
    prototypes = torch.randn(1203, 1, 24, generator=g)
    ids, shots = list(range(1203)), torch.ones(1203, 1, dtype=torch.bool)
    context = prototype_context(prototypes, prototypes / 5, shots, None, ids, ids, "instance")
    target = next(iter(build_target_loader(cfg, "coco_2017_val")))
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            largest = max([largest, *sizes])
            return out

    with Watch():
        (out,) = model.find_instances(target, context)
    assert 0 < len(out["instances"]) <= 30
    # the positions of 1203 maps of 8×8 cells, as two coordinates; the maps of 30 on the canvas
    assert largest <= max(1203 * 64 * 2, 30 * 112**2) < 1203**2
