"""Truths that pycocotools would end the process on are refused before the evaluation."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from segic_d2.engine.evaluations.instances import check_truth
from segic_d2.evaluation import build_coco_evaluator
from tests.data import toy

NAN = float("nan")
GOOD = {
    "polygon": [[0, 0, 9, 0, 9, 9]],
    "outside": [[-3, -3, 9, 0, 9, 9]],
    "odd": [[0, 0, 9, 0, 9, 9, 3]],
    "none": [],
}
BAD = {
    "nan": ([[0, 0, NAN, 0, 9, 9]], "has the corner"),
    "null": ([[0, 0, None, 0, 9, 9]], "has the corner"),
    "infinite": ([[0, 0, float("inf"), 0, 9, 9]], "has the corner"),
    "far": ([[0, 0, 1e8, 0, 1e8, 1e8]], "far outside"),
    "very far": ([[0, 0, 9, 0, 9, 9], [0, 0, -1e300, 0, 9, 9]], "far outside"),
    "text": ([[0, 0, "x", 0, 9, 9]], "is no mask"),
    "short": ({"size": [1, 1], "counts": [5]}, "1x1 px"),
    "negative": ({"size": "SIZE", "counts": [-5, 9]}, "counts below 0, such as -5"),
    "no counts": ({"size": "SIZE"}, "lacks 'counts'"),
    "garbage": ({"size": "SIZE", "counts": "~~"}, "no compressed RLE"),
}


@pytest.fixture
def evaluator_of(tmp_path):
    """A function that builds the evaluator of a truth whose first annotation is another."""
    toy.coco(tmp_path, 3)
    data = json.loads((tmp_path / "coco.json").read_text())
    size = [data["images"][0][key] for key in ("height", "width")]

    def build(segmentation):
        if isinstance(segmentation, dict) and segmentation["size"] == "SIZE":
            segmentation = {**segmentation, "size": size}
        first = next(a for a in data["annotations"] if a["image_id"] == data["images"][0]["id"])
        first["segmentation"] = segmentation
        (tmp_path / "own.json").write_text(json.dumps(data))
        register_coco_instances("own_truth", {}, str(tmp_path / "own.json"), str(tmp_path))
        evaluator = build_coco_evaluator("own_truth")
        check_truth(evaluator, "own_truth")
        return first, evaluator

    yield build
    DatasetCatalog.remove("own_truth"), MetadataCatalog.remove("own_truth")


@pytest.mark.parametrize("kind", GOOD)
def test_a_truth_that_is_read_is_taken(evaluator_of, kind):
    first, evaluator = evaluator_of(GOOD[kind])
    api = evaluator._coco_api
    if GOOD[kind]:
        api.annToRLE(api.anns[first["id"]])  # it lives


@pytest.mark.parametrize("kind", BAD)
def test_a_truth_that_would_end_the_process_is_refused(evaluator_of, kind):
    segmentation, message = BAD[kind]
    with pytest.raises(ValueError, match=rf"own.json: the mask of annotation \d+ .*{message}"):
        evaluator_of(segmentation)
