"""What was found in a frame as a shot."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.frame_context import frame_context
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.released import RELEASED
from segic_d2.structures.context import COUNTS, PARTS
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.modeling.segic.parts import context_encoder, head

FRAME = Frame(112, (70, 112), (140, 224))


def found(exclusive=True, side=32):
    """Two masks that overlap, in a frame of 5 rows of cells."""
    logits = torch.full((2, side, side), -3.0)
    logits[0, :12, :12] = 2.0
    logits[1, 4:16, 8:28] = 1.0
    return Segmentation(
        logits, torch.tensor([0.5, 0.4]), [3, 1], ["a", None], FRAME, exclusive=exclusive
    )


def features():
    g = torch.Generator().manual_seed(0)
    return Features(torch.randn(1, 24, 8, 8, generator=g), [FRAME])


@pytest.mark.parametrize("exclusive", [True, False])
def test_prototypes_are_means_by_the_probability_of_exclusive_masks(exclusive):
    given, seen = found(exclusive), features()
    context = frame_context(context_encoder(), seen, given, "instance")
    full = F.interpolate(given.logits[None], (112, 112), mode="bilinear", align_corners=False)[0]
    full = full[:, :70]
    weights = full.sigmoid() * (full > 0)
    if exclusive:
        weights[0] *= full[0] >= full[1]
        weights[1] *= full[1] > full[0]
    for row in range(2):
        total = vector = 0
        for y in range(8):
            for x in range(8):
                share = weights[row, 14 * y : 14 * y + 14, 14 * x : 14 * x + 14].sum()
                total, vector = total + share, vector + share * seen.map[0, :, y, x]
        torch.testing.assert_close(context.tensors["prototypes"][row, 0], vector / total)
    assert context.ids == [3, 1] and context.names == ["a", None]
    assert context.shots.all() and context.task == "instance"


def test_the_released_rules_take_overlaps_and_padding():
    given = found()
    given.logits[1, 16:, :8] = 4.0  # rows 4 to 7 of the grid, of which 4 is content
    context = frame_context(context_encoder(RELEASED), features(), given, "instance")
    centres = F.interpolate(given.logits[None], (112, 112), mode="bilinear", align_corners=False)
    inside = (centres[0] > 0)[:, 7::14, 7::14]
    assert inside[1, 6, 0] and (inside[0] & inside[1]).any()
    mean = features().map[0][:, inside[1]].mean(1)
    torch.testing.assert_close(context.tensors["prototypes"][1, 0], mean)


def test_parts_cover_what_is_marked():
    context = frame_context(context_encoder(), features(), found(False), "instance", parts=4)
    parts, counts = context.tensors[PARTS][:, 0], context.tensors[COUNTS][:, 0]
    assert parts.shape == (2, 4, 24) and (counts > 0).all()
    units = F.normalize(features().map[0], dim=0).flatten(1).T
    full = F.interpolate(found().logits[None], (112, 112), mode="bilinear", align_corners=False)
    full = (full.sigmoid() * (full > 0))[0]
    full[:, 70:] = 0
    weights = F.avg_pool2d(full[:, None], 14).flatten(1)
    for row in range(2):
        inside = units[weights[row] > 0.5]
        assert counts[row].sum() == len(inside)
        torch.testing.assert_close((parts * counts[..., None])[row].sum(0), inside.sum(0))


def test_the_most_alike_part_counts():
    model = head()
    context = frame_context(context_encoder(), features(), found(False), "instance", parts=3)
    queries = Queries.from_contexts([context])
    maps = model.propagate(features().map, queries)
    units = F.normalize(features().map[0], dim=0)
    for row in range(2):
        each = [torch.einsum("c,chw->hw", p, units) for p in context.tensors[PARTS][row, 0]]
        torch.testing.assert_close(maps[row], torch.stack(each).amax(0))
    context.tensors[COUNTS][0, 0, 1:] = 0  # those that are none do not count
    maps = model.propagate(features().map, Queries.from_contexts([context]))
    first = torch.einsum("c,chw->hw", context.tensors[PARTS][0, 0, 0], units)
    torch.testing.assert_close(maps[0], first)


@pytest.mark.parametrize("times", [1, 4])
def test_given_masks_of_the_frames_own_size_mark_the_same_cells(times):
    size = (70 * times, 112 * times)
    marked = torch.zeros(1, *size, dtype=torch.bool)
    marked[0, : 28 * times, 14 * times : 70 * times] = True  # whole cells
    square = F.pad(torch.where(marked, 10.0, -10.0), (0, 0, 0, size[1] - size[0]))
    own = Segmentation(square, torch.ones(1), [3], [None], Frame(size[1], size, size))
    context = frame_context(context_encoder(), features(), own, "instance", parts=2)
    assert context.tensors[COUNTS].sum() == 8
    mean = features().map[0, :, :2, 1:5].flatten(1).mean(1)
    torch.testing.assert_close(context.tensors["prototypes"][0, 0], mean, atol=2e-2, rtol=0)
