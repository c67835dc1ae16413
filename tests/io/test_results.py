"""What others read of a result, and read back."""

import json
import os
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest

from segic_d2.io import results
from segic_d2.io.masks import to_masks
from segic_d2.io.results import Found


@pytest.fixture
def found():
    """Two rectangles, which overlap."""
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 5:15, 10:22], masks[1, 12:30, 20:40] = True, True
    boxes = np.array([[10, 5, 22, 15], [20, 12, 40, 30]], np.float32)
    return Found([1, 2], ["Käfer", None], [7, 9], [0.5, 0.25], boxes, masks)


def test_annotations_of_coco(found):
    annotations = json.loads(json.dumps(results.to_coco(found)))
    first = {"category_id": 7, "score": 0.5, "iscrowd": 0, "bbox": [10, 5, 12, 10], "area": 120}
    assert {k: v for k, v in annotations[0].items() if k != "segmentation"} == first
    assert annotations[1]["bbox"] == [20, 12, 20, 18]
    for annotation, mask in zip(annotations, found.masks, strict=True):
        np.testing.assert_array_equal(mask_util.decode(annotation["segmentation"]), mask)
        # and it is a mask that references take
        taken = to_masks(annotation["segmentation"], (30, 40))
        np.testing.assert_array_equal(taken[1], mask)


def test_json(found):
    told = json.loads(results.to_json(found, "", (30, 40)))
    assert (told["file"], told["height"], told["width"]) == (None, 30, 40)
    first, second = told["entities"]
    assert first.pop("segmentation") == results.to_coco(found)[0]["segmentation"]
    about = {"id": 1, "category_id": 7, "name": "Käfer", "score": 0.5, "area": 120}
    assert first == {**about, "box": [10, 5, 22, 15]} and second["name"] is None
    assert "Käfer" in results.to_json(found, "", (30, 40))
    odd = os.fsdecode(b"\xff.jpg")  # no UTF-8
    text = results.to_json(found, odd, (30, 40))
    assert text.encode() and json.loads(text)["file"] == odd


def test_detections_of_supervision(found):
    pytest.importorskip("supervision", reason="pip install 'segic_d2[supervision]'")
    detections = results.to_supervision(found)
    np.testing.assert_array_equal(detections.xyxy, found.boxes)
    np.testing.assert_array_equal(detections.mask, found.masks)
    np.testing.assert_array_equal(detections.confidence, [0.5, 0.25])
    assert detections.class_id.tolist() == [7, 9]
    assert detections.data["class_name"].tolist() == ["Käfer", "9"]
    nothing = Found([], [], [], [], np.zeros((0, 4)), np.zeros((0, 30, 40), bool))
    assert len(results.to_supervision(nothing)) == 0 and results.to_coco(nothing) == []


def test_without_supervision_it_says_what_to_install(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'segic_d2\[supervision\]'$"):
        results.to_supervision(found)
