import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks

from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation

FRAME = Frame(32, (32, 20), (75, 47))


def segmentation(count=4, **changes):
    logits = torch.randn(count, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = [3 * i + 1 for i in range(count)]
    values = {"logits": logits, "scores": torch.linspace(0.2, 0.9, count), "ids": ids}
    values |= {"names": [None] * count, "frame": FRAME, "threshold": 0.1}
    return Segmentation(**{**values, **changes})


def test_what_is_derived_follows_from_the_logits():
    found = segmentation(similarity=torch.rand(4, 4, 4))
    full = FRAME.upsample(found.logits)
    assert torch.equal(found.masks, full > 0.1) and found.masks is found.masks  # once
    assert torch.equal(found.propagated, FRAME.upsample(found.similarity)) and len(found) == 4
    assert segmentation().propagated is None
    boxes = BitMasks(found.masks).get_bounding_boxes()
    assert torch.equal(found.boxes.tensor, boxes.tensor)


def test_label_map_equals_a_plain_loop():
    found = segmentation()
    full, labels = FRAME.upsample(found.logits), found.label_map(background=2)
    for y in range(0, 75, 3):
        for x in range(0, 47, 3):
            best = max(range(4), key=lambda n, y=y, x=x: full[n, y, x])
            assert labels[y, x] == (found.ids[best] if full[best, y, x] > 0.1 else 2), (y, x)
    assert len(labels.unique()) > 2 and torch.equal(labels != 2, found.masks.any(0))
    with pytest.raises(ValueError, match="background 4 is the id"):
        found.label_map(background=4)
    assert torch.equal(found.labels(None, 9), full.max(0).indices.int() * 3 + 1)


def test_instances_are_the_masks_that_are_not_empty():
    logits = segmentation().logits.clone()
    logits[1] = -5
    found = segmentation(logits=logits)
    instances = found.instances()
    assert instances.image_size == (75, 47) and len(instances) == 3
    assert instances.pred_classes.tolist() == [1, 7, 10]
    assert torch.equal(instances.pred_masks, found.masks[[0, 2, 3]])
    assert torch.equal(instances.scores, found.scores[[0, 2, 3]])
    assert segmentation(classes=[5, 6, 7, 8]).instances().pred_classes.tolist() == [5, 6, 7, 8]


def test_sem_seg_is_for_the_arg_max():
    found = segmentation(2, ids=[2, 0])
    out = found.sem_seg(4, background=3)
    full = FRAME.upsample(found.logits)
    assert torch.equal(out[2], full[0]) and torch.equal(out[0], full[1])
    assert (out[3] == 0.1).all() and (out[1] == -torch.inf).all()
    for ids in ([1, 4], [1, 1]):
        with pytest.raises(ValueError, match="not distinct classes below 4"):
            segmentation(2, ids=ids).sem_seg(4)


def test_for_people_it_has_arrays_and_the_picture():
    found = segmentation(similarity=torch.rand(4, 4, 4))
    picture = np.zeros((75, 47, 3), np.uint8)
    result = found.for_people(picture, "a.jpg")
    for name in ("masks", "scores", "propagated"):
        assert isinstance(getattr(result, name), np.ndarray)
        np.testing.assert_array_equal(getattr(result, name), getattr(found, name).numpy())
    np.testing.assert_array_equal(result.label_map(), found.label_map().numpy())
    assert result.image is picture and result.file_name == "a.jpg" and found.image is None
    assert len(result.instances()) == len(found.instances())
    torch.testing.assert_close(result.boxes.tensor, found.boxes.tensor)
