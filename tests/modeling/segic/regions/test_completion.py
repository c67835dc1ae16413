"""What of a marked area is the thing."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions import completion
from segic_d2.modeling.segic.regions.completion import complete_area

SIZE = 8, 10


def scene():
    """A 4×4 thing in a 6×6 box on ground; regions: the ground, and the thing's two halves."""
    g = torch.Generator().manual_seed(0)
    thing, opened = torch.zeros(SIZE, dtype=torch.bool), torch.zeros(SIZE, dtype=torch.bool)
    thing[2:6, 3:7] = opened[1:7, 2:8] = True
    labels = thing.long()
    labels[4:6, 3:7] = 2
    units = torch.where(thing[..., None], torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    units = F.normalize(units + 0.1 * torch.randn(*SIZE, 3, generator=g), dim=2)
    return units.flatten(0, 1), labels.flatten(), opened.flatten(), thing.flatten()


def test_the_ground_in_a_box_is_left_out():
    units, labels, opened, thing = scene()
    found = complete_area(units, labels, opened, None, units[:0])
    assert torch.equal(found, thing)


def test_ground_that_the_area_encloses_is_known_from_other_views():
    units, labels, opened, thing = scene()
    opened[:] = True  # nothing of this view is surely ground
    alone = complete_area(units, labels, opened, None, units[:0])
    assert torch.equal(alone, opened)
    assert torch.equal(complete_area(units, labels, opened, None, units[~thing]), thing)


def test_the_decoder_decides_what_features_do_not():
    units, labels, opened, thing = scene()
    units = units[:1].expand_as(units)
    chance = torch.where(labels == 1, 0.9, 0.2)
    found = complete_area(units, labels, opened, chance, units[:0])
    assert torch.equal(found, labels == 1)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_rule(seed, monkeypatch):
    monkeypatch.setattr(completion, "NEAREST", 3)
    g = torch.Generator().manual_seed(seed)
    units = F.normalize(torch.randn(30, 4, generator=g), dim=1)
    labels = torch.randint(0, 6, (30,), generator=g)
    opened, chance = torch.rand(30, generator=g) < 0.6, torch.rand(30, generator=g)
    beyond = F.normalize(torch.randn(5, 4, generator=g), dim=1)
    assert torch.equal(
        complete_area(units, labels, opened, chance, beyond),
        slow(units, labels, opened, chance, beyond),
    )


def slow(units, labels, opened, chance, beyond):
    regions = [(labels == i).nonzero()[:, 0].tolist() for i in range(6)]
    inside = [sum(bool(opened[c]) for c in cells) >= 0.3 * len(cells) for cells in regions]
    allowed = [bool(opened[c]) and inside[labels[c]] for c in range(30)]
    taken = allowed if any(allowed) else opened.tolist()

    def highest(values):
        return sum(sorted(values, reverse=True)[:3]) / len(values[:3]) if values else 0.0

    for _ in range(4):
        values = []
        for c in range(30):
            front = [float(units[c] @ units[o]) if o != c else -1.0 for o in range(30) if taken[o]]
            back = [
                float(units[c] @ units[o]) if o != c else -1.0 for o in range(30) if not taken[o]
            ]
            back += [float(units[c] @ other) for other in beyond]
            values.append(highest(front) - highest(back) + 0.5 * (float(chance[c]) - 0.5))
        means = [sum(values[c] for c in cells) / max(len(cells), 1) for cells in regions]
        found = [allowed[c] and means[labels[c]] > 0.05 for c in range(30)]
        if not any(found) or found == taken:
            break
        taken = found
    return torch.tensor(taken)


def test_what_would_leave_nothing_leaves_all():
    units, labels, opened, _ = scene()
    small = opened & (labels == 0)
    small[small.nonzero()[:5]] = False  # less than INSIDE of the ground
    chance = torch.full((len(units),), -9.0)
    assert torch.equal(complete_area(units, labels, small, chance, units[:0]), small)


def test_what_is_marked_stays_and_may_be_where_it_begins():
    units, labels, opened, thing = scene()
    ground = opened & (labels == 0)
    assert complete_area(units, labels, opened, None, units[:0], ground)[ground].all()
    upper = labels == 1
    begun = complete_area(units, labels, opened, None, units[:0], upper, True)
    assert torch.equal(begun, thing)  # and grows by what is like it
