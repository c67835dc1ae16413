"""What looks like the thing in a reference, unmarked, is no background."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions import matcher
from segic_d2.modeling.segic.regions.unmarked import find_unmarked
from tests.modeling.segic.regions.test_matcher import region_model
from tests.tiny import tiny_episode

SIZE = 6, 8


def scene(likeness: float):
    """Units of a 6×8 picture: two things, left marked, right with that cosine to it, on a ground;
    shares and regions of it; a cut of the marked one."""
    axes = torch.eye(4)
    other = likeness * axes[0] + (1 - likeness**2) ** 0.5 * axes[1]
    units = axes[2].expand(*SIZE, 4).clone()
    shares, labels = torch.zeros(SIZE), torch.zeros(SIZE, dtype=torch.long)
    units[1:3, 1:3], shares[1:3, 1:3], labels[1:3, 1:3] = axes[0], 1.0, 1
    units[3:5, 5:7], labels[3:5, 5:7] = other, 2
    cut = axes[0].expand(9, 4)
    return cut, torch.ones(9), units.flatten(0, 1), shares.flatten(), labels.flatten()


def test_another_one_and_its_edge_are_found():
    found = find_unmarked(*scene(0.9), SIZE, 0.75).view(SIZE)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[3:5, 4:8] = expected[2:6, 5:7] = True  # with the cells beside it
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("likeness", "share"), [(0.6, 0.75), (0.9, 0.95), (-0.5, 0.75)])
def test_what_is_less_alike_stays_background(likeness, share):
    assert not find_unmarked(*scene(likeness), SIZE, share).any()


def test_a_thing_that_the_picture_shows_otherwise_than_the_cut_is_not_mixed_up():
    """Tiny things have other features in the whole picture: then all of it is as near to the cut
    as the thing is, and what is near to the thing there, too, counts."""
    cut, shares, units, whole_shares, labels = scene(0.1)
    cut = F.normalize(torch.tensor([[1.0, 1, 1, 2]]), dim=1).expand(9, 4)  # all are as near
    assert not find_unmarked(cut, shares, units, whole_shares, labels, SIZE, 0.75).any()


def test_a_picture_that_the_mask_fills_leaves_nothing_unmarked():
    cut, shares, units, whole_shares, labels = scene(0.9)
    found = find_unmarked(cut, shares, units, torch.ones_like(whole_shares), labels, SIZE, 0.75)
    assert not found.any()


def test_contexts_leave_it_out_but_not_what_another_mask_marks(monkeypatch):
    monkeypatch.setattr(matcher, "find_unmarked", lambda cut, own, far, around, *rest: around < 0.1)
    model, reference = region_model(), tiny_episode(3, 1)["references"][0]
    other = torch.zeros_like(reference["masks"])
    other[:, -28:] = 1.0
    both = {"masks": torch.cat([reference["masks"], other]), "entity_ids": torch.tensor([0, 1])}
    behind = [
        model.encode_context([x]).tensors["cell_counts"][0, 0, 9:].sum()
        for x in (reference, reference | both)
    ]
    assert behind[0] == 0 and behind[1] > 0


def test_the_share_belongs_to_the_fingerprint():
    key = "MODEL.SEGIC.REGIONS.UNMARKED"
    assert region_model(key, 0.5).fingerprint["regions"]["unmarked"] == 0.5
    assert "unmarked" not in region_model(key, 0.0).fingerprint["regions"]
