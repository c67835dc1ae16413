"""What all evaluations have in common: names, one schema of results.json, any model."""

import json
import os

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from results.tables import collect
from segic_d2.engine import EVALUATION_REGISTRY, evaluate
from segic_d2.engine.evaluations.base import write_results
from tests.data.paper_data import registered
from tests.engine.evaluations.semantic_runs import settings
from tests.full_disk import full_disk
from tests.miniatures import coco_instances, fss1000, spair71k
from tests.tiny import tiny_config
from tests.toy_model import MeanColour

KEYS = ["benchmark", "dataset", "shots", "seen", "text", "standard", "note", "metrics", "skipped"]
SHAPES = "shapes_novel_coco"


def config(output, name, *evaluators, **opts):
    flat = [x for k, v in opts.items() for x in (k.upper().replace("__", "."), v)]
    return tiny_config(
        *("OUTPUT_DIR", str(output), "DATASETS.TEST", (name,), "TEST.EVALUATORS", evaluators),
        *("DATALOADER.NUM_WORKERS", 0, "TEST.EPISODES", 6, "TEST.FIRST_EPISODES", 6, *flat),
    )


def segic(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def written(output, name, evaluator):
    """results.json, as the collector of tables finds it."""
    content = json.loads((output / "inference" / name / evaluator / "results.json").read_text())
    assert list(content)[: len(KEYS)] == KEYS
    assert (content["dataset"], content["skipped"]) == (name, content["skipped"] or [])
    assert content["metrics"] and isinstance(content["note"], str)
    assert all(v is None or isinstance(v, int | float) for v in content["metrics"].values())
    assert {k: v for k, v in collect(output)[1][0].items() if k != "file"} == content
    return content


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    fss1000.make(tmp_path / "data")
    return "fss1000_test"


def test_one_shot(tmp_path):
    cfg = config(tmp_path, SHAPES, "one_shot", test__shots=2)
    found = evaluate(cfg, segic(cfg), SHAPES)["one_shot"]
    content = written(tmp_path, SHAPES, "one_shot")
    assert content["metrics"] | {"episodes": 6} == found
    about = {k: content[k] for k in ("benchmark", "shots", "seen", "text", "standard", "episodes")}
    assert about == {
        **{"benchmark": "one_shot", "shots": 2, "seen": "unseen", "text": "no_text"},
        **{"standard": False, "episodes": 6},
    }
    unread = config(tmp_path, SHAPES, "one_shot", datasets__train=("folder:/nowhere",))
    evaluate(unread, segic(unread), SHAPES)
    assert written(tmp_path, SHAPES, "one_shot")["seen"] == ""


def test_few_shot(tmp_path, benchmark):
    cfg = config(tmp_path, benchmark, "few_shot")
    evaluate(cfg, segic(cfg), benchmark)
    content = written(tmp_path, benchmark, "few_shot")
    assert (content["benchmark"], content["fold"], content["episodes"]) == ("fss1000", 0, 6)
    assert content["note"] and content["own_episodes"]


def test_semantic(root, tmp_path):
    cfg = settings(tmp_path, "ade20k")
    (name,) = cfg.DATASETS.TEST
    evaluate(cfg, segic(cfg), name)
    content = written(tmp_path, name, "semantic")
    assert content["benchmark"] == "sem_seg-ade20k" and set(content["classes"]) == {
        "all",
        "present",
    }
    assert None in content["classes"]["all"].values()  # JSON has no NaN


def test_instances(tmp_path):
    coco_instances.make(tmp_path / "data")
    with registered(tmp_path / "data"):
        cfg = config(tmp_path, "coco_2017_val", "coco_instances", test__damaged="skip")
        cfg.DATASETS.REFERENCE = ("coco_2017_train",)
        evaluate(cfg, segic(cfg), "coco_2017_val")
        content = written(tmp_path, "coco_2017_val", "coco_instances")
        with pytest.raises(ValueError, match="'coco_instances'.* find_instances; MeanColour has"):
            evaluate(cfg, MeanColour(), "coco_2017_val")
    assert content["images"] and content["references"] and content["text"] == "no_text"


def test_pck(tmp_path):
    spair71k.make(tmp_path / "data")
    with spair71k.registered(tmp_path / "data"):
        cfg = config(tmp_path, "spair71k_test", "pck")
        evaluate(cfg, segic(cfg), "spair71k_test")
        content = written(tmp_path, "spair71k_test", "pck")
        cfg.OUTPUT_DIR = str(tmp_path / "toy")
        evaluate(cfg, MeanColour(), "spair71k_test")
    assert content["standard"] and content["backbone"] == "tiny-24-14" and content["seen"] == ""
    assert written(tmp_path / "toy", "spair71k_test", "pck")["backbone"] == "MeanColour"


def test_what_is_no_number_is_null_in_the_results(tmp_path):
    write_results(str(tmp_path), {"a": float("nan"), "b": [float("inf")], "c": {"d": -np.inf}})
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [None], "c": {"d": None}}


def test_a_full_disk_leaves_the_older_results(tmp_path):
    write_results(str(tmp_path), {"metrics": {"mIoU": 50.0}})
    before = (tmp_path / "results.json").read_text()
    with full_disk(8), pytest.raises(OSError, match=r"results\.json"):
        write_results(str(tmp_path), {"metrics": {"mIoU": 60.0}})
    assert (tmp_path / "results.json").read_text() == before


def test_a_dataset_with_a_long_name_has_a_folder_of_its_own(tmp_path, monkeypatch):
    def mine(cfg, model, dataset_name, output_dir):
        return {"task": {"metric": 1.0}}

    monkeypatch.setitem(EVALUATION_REGISTRY._obj_map, "mine", mine)
    names = [f"folder:/{first}/{'狐' * 300}" for first in ("a", "b")]
    for name in names:
        evaluate(config(tmp_path, name, "mine"), None, name)
    folders = sorted((tmp_path / "inference").iterdir())
    assert len(folders) == 2 and all(len(os.fsencode(f.name)) < 255 for f in folders)
    found = {json.loads((f / "mine/results.json").read_text())["dataset"] for f in folders}
    assert found == set(names)


def test_functions_of_users_keep_working(tmp_path, monkeypatch):
    """With any results; one that writes no file gets one of the same schema."""

    def mine(cfg, model, dataset_name, output_dir):
        return {"a": {"x": 1.0}, "b": {"x": float("nan")}}

    monkeypatch.setitem(EVALUATION_REGISTRY._obj_map, "mine", mine)
    found = evaluate(config(tmp_path, SHAPES, "mine"), None, SHAPES)
    assert list(found) == ["a", "b"]
    content = written(tmp_path, SHAPES, "mine")
    assert content["benchmark"] == "mine" and content["metrics"] == {"a/x": 1.0, "b/x": None}

    def writes(cfg, model, dataset_name, output_dir):
        write_results(output_dir, {"benchmark": "ours", "metrics": {"x": 2}})
        return {"a": {"x": 2}}

    monkeypatch.setitem(EVALUATION_REGISTRY._obj_map, "mine", writes)
    evaluate(config(tmp_path, SHAPES, "mine"), None, SHAPES)
    assert written(tmp_path, SHAPES, "mine")["benchmark"] == "ours"


@pytest.mark.parametrize(
    "name, instead", [("sem_seg", "semantic"), ("coco", "coco_instances"), ("mIoU", "")]
)
def test_an_unknown_name_is_one_line_before_anything_runs(tmp_path, name, instead):
    cfg = config(tmp_path, SHAPES, "one_shot", name)
    with pytest.raises(ValueError) as error:
        evaluate(cfg, None, SHAPES)
    message = str(error.value)
    assert f"TEST.EVALUATORS has {name!r}, but there are only coco_instances, few_shot" in message
    assert message.endswith(f"; {instead!r} takes its place" if instead else "semantic, video")
    assert "\n" not in message and not list(tmp_path.iterdir())


def test_any_model_is_evaluated_by_episodes(tmp_path, benchmark):
    for name, evaluator in ((SHAPES, "one_shot"), (benchmark, "few_shot")):
        cfg = config(tmp_path / evaluator, name, evaluator, test__shots=2)
        (metrics,) = evaluate(cfg, MeanColour(), name).values()
        assert 0 < metrics["mIoU"] < 100 and metrics["episodes"] == 6
        assert written(tmp_path / evaluator, name, evaluator)["shots"] == 2


def test_any_model_is_evaluated_by_label_maps(root, tmp_path):
    cfg = settings(tmp_path, "ade20k")
    (name,) = cfg.DATASETS.TEST
    for near in (60.0, 60.0, 1.0):  # the second run reads the context of the first
        found = evaluate(cfg, MeanColour(56, near), name)
        shown = next(v for task, v in found.items() if "-present-" in task)
        assert (shown["pACC"] > 50) == (near > 1)
    assert written(tmp_path, name, "semantic")["seen"] == "seen"
