"""Objects of chosen regions, by hand, and of peaks in a picture."""

from dataclasses import replace

import torch

from segic_d2.modeling.segic.regions.instances import part_objects
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.modeling.segic.parts import build


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
    areas, sources = [6, 4, 4], [1, 0, 0]
    for part, area, row in zip(told.logits, areas, sources, strict=True):
        own = logits[row]
        assert (part > 0).sum() == area and (part[own > 0] != own[own > 0]).sum() > 0
        # the ground keeps its logits, so that an object's edges are those of its class
        assert torch.equal(part[own <= 0], own[own <= 0])
        assert (part[(own > 0) & (part <= 0)] == -1e4).all()
    assert len(told.instances()) == 3 and part_objects(found, 1).ids == [3]


def test_objects_are_as_crisp_as_their_class():
    logits = torch.full((1, 8, 8), -1.0)
    logits[0, 1:4, 1:4], logits[0, 5:8, 5:8] = 0.2, 3.0
    frame = Frame(32, (32, 32), (96, 96))
    whole = Segmentation(logits, torch.ones(1), [1], [None], frame)
    told = part_objects(whole, 10)
    assert len(told) == 2 and torch.equal(told.masks.any(0), whole.masks[0])
    assert not told.masks.all(0).any()


def test_specks_are_no_objects():
    logits = torch.full((1, 8, 8), -1.0)
    logits[0, 1, 1:4], logits[0, 4:6, 4:6] = 1.0, 1.0  # of three positions, and of four
    found = Segmentation(logits, torch.ones(1), [1], [None], Frame(32, (32, 32), (32, 32)))
    (kept,) = part_objects(found, 10).logits
    assert (kept[4:6, 4:6] > 0).all() and (kept > 0).sum() == 4


def test_nothing_found_is_no_object():
    found = Segmentation(
        torch.full((1, 8, 8), -1.0), torch.ones(1), [1], [None], Frame(32, (32, 32), (32, 32))
    )
    assert len(part_objects(found, 5).instances()) == 0


RED, BLUE, GREY = (230, 20, 30), (20, 40, 230), (120, 120, 120)


def painted(*squares):
    """A grey picture (3, 112, 112) with squares of two cells' side: (colour, row, column)."""
    picture = torch.tensor(GREY, dtype=torch.uint8)[:, None, None].repeat(1, 112, 112)
    for colour, row, column in squares:
        area = picture[:, 14 * row : 14 * row + 28, 14 * column : 14 * column + 28]
        area[:] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return picture


def segment_anything(model, monkeypatch):
    """In place of the decoder's masks: whatever square, or all of the ground, a peak points at,
    of the target below."""
    owners = torch.zeros(32, 32)  # four positions a cell
    for number, (row, column) in enumerate([(1, 1), (5, 1), (4, 5)], 1):
        owners[4 * row : 4 * row + 8, 4 * column : 4 * column + 8] = number
    forward = type(model.sem_seg_head).forward

    def pointed(head, *args, points=None, **options):
        out = forward(head, *args, points=points, **options)
        x, y = ((points[:, 0] + 0.5) / 3.5).long().unbind(1)
        return replace(out, logits=12.0 * (owners == owners[y, x][:, None, None]) - 6)

    monkeypatch.setattr(type(model.sem_seg_head), "forward", pointed)


def test_two_equal_things_are_found_and_a_distractor_is_not(monkeypatch):
    """The decoder marks whatever a peak lies on; its class chooses what of that counts. The two
    things are one region, for they look alike."""
    target = painted((RED, 1, 1), (RED, 5, 1), (BLUE, 4, 5))
    shown = painted((RED, 3, 4), (BLUE, 0, 0))
    mask = torch.zeros(1, 112, 112)
    mask[:, 42:70, 56:84] = 1
    reference = {"image": shown, "masks": mask, "entity_ids": [3]}
    found = {}
    for name in ("InContextMaskHead", "RegionMatchingHead"):
        model = build(
            *("MODEL.SEM_SEG_HEAD.NAME", name, "MODEL.SEGIC.REGIONS.DECODER", 0.2),
            *("MODEL.SEGIC.INSTANCES.MIN_SIMILARITY", -1.0),
        )
        context = model.encode_context([reference], {3: "red"}, "instance")
        with monkeypatch.context() as patch:
            segment_anything(model, patch)
            (out,) = model.find_instances([target], context)
        found[name] = out["instances"]
    assert len(found["InContextMaskHead"]) == 4  # three squares and the ground
    instances = found["RegionMatchingHead"]
    assert instances.pred_classes.tolist() == [3, 3]
    for rows in (slice(14, 42), slice(70, 98)):
        own = torch.zeros(112, 112, dtype=torch.bool)
        own[rows, 14:42] = True
        overlaps = [(own & m).sum() / (own | m).sum() for m in instances.pred_masks]
        assert max(overlaps) > 0.75 and min(overlaps) == 0  # edges are not refined here
