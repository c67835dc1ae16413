"""Objects of chosen regions, by hand."""

import torch

from segic_d2.modeling.segic.regions.instances import part_objects
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation


def test_parts_of_each_class_best_first():
    logits = torch.full((2, 8, 8), -3.0)
    logits[0, 0:2, 0:2] = 1.0  # of the first class, two
    logits[0, 4:6, 4:6] = 3.0
    logits[1, 2:4, 0:3] = 2.0
    logits[1, 7, 7] = 9.0  # in the padding, which is no object
    frame = Frame(32, (28, 28), (28, 28))
    found = Segmentation(logits, torch.tensor([0.5, 0.9]), [7, 3], ["a", "b"], frame)
    told = part_objects(found, 10)
    assert told.ids == [3, 7, 7] and told.names == ["b", "a", "a"]
    assert told.classes.tolist() == [3, 7, 7]
    expected = torch.tensor([0.9, 0.5, 0.5]) * torch.tensor([2.0, 3.0, 1.0]).sigmoid()
    torch.testing.assert_close(told.scores, expected)
    areas = [6, 4, 4]
    for part, area in zip(told.logits, areas, strict=True):
        assert (part > 0).sum() == area and (part[part <= 0] == -1e4).all()
    assert len(told.instances()) == 3 and part_objects(found, 1).ids == [3]


def test_nothing_found_is_no_object():
    found = Segmentation(
        torch.full((1, 8, 8), -1.0), torch.ones(1), [1], [None], Frame(32, (32, 32), (32, 32))
    )
    assert len(part_objects(found, 5).instances()) == 0
