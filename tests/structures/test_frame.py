import pytest
import torch

from segic_d2.structures import frame as module
from segic_d2.structures.frame import Frame


def slow_labels(full, ids, nothing, threshold=0.0):
    """A label per pixel of full-size logits (N, H, W), one after the other."""
    labels = torch.full(full.shape[1:], nothing)
    for y in range(full.shape[1]):
        for x in range(full.shape[2]):
            best = max(range(len(ids)), key=lambda n, y=y, x=x: full[n, y, x])
            if full[best, y, x] > threshold:
                labels[y, x] = ids[best]
    return labels


def test_the_content_of_the_canvas_fills_the_image():
    low = torch.full((1, 8, 8), -5.0)
    low[:, :4] = 5.0  # the content of a 16×32 image on a canvas of 32
    frame = Frame(32, (16, 32), (100, 200))
    full = frame.upsample(low)
    assert full.shape == (1, 100, 200)
    assert (full[:, :90] > 0).all()
    assert torch.equal(frame.masks(low), full > 0)
    assert torch.equal(frame.masks(low, 5.0), full > 5.0)


def test_cells_and_rows_are_those_of_the_content():
    frame = Frame(112, (40, 84), (400, 840))
    assert frame.cells(8).nonzero().amax(0).tolist() == [2, 5]  # centres at 35 and 77 px
    assert frame.rows_columns(32) == (11, 24) and Frame(112, (1, 112), (1, 112)).rows_columns(8)[0]
    assert torch.equal(frame.cells(8), module.valid_cells([(9, 9), (40, 84)], 8, 112)[1])


def test_masks_are_padded_right_and_below():
    masks = torch.rand(2, 40, 84)
    padded = Frame(112, (40, 84), (400, 840)).pad(masks)
    assert padded.shape == (2, 112, 112) and torch.equal(padded[:, :40, :84], masks)
    assert not padded[:, 40:].any() and not padded[:, :, 84:].any()


def three_classes():
    """Low-resolution logits of three classes, in quarters of the canvas, and what they merge to."""
    low = torch.full((3, 8, 8), -3.0)
    low[0, :, :4] = 2.0  # class 4 on the left half
    low[1, :4, :] = 5.0  # class 7 above, stronger
    low[2, 4:, 4:] = -1.0  # class 9 below on the right: the best, but below the threshold
    return low


@pytest.mark.parametrize(
    "nothing, threshold, corner", [(0, 0.0, 0), (255, 0.0, 255), (65535, 0.0, 65535), (0, None, 9)]
)
def test_three_classes_merge_as_expected(nothing, threshold, corner):
    frame = Frame(8, (8, 8), (8, 8))
    got = frame.labels(three_classes(), [4, 7, 9], threshold=threshold, nothing=nothing)
    expected = torch.full((8, 8), 7)
    expected[4:, :4], expected[4:, 4:] = 4, corner
    assert got.dtype == torch.int32 and torch.equal(got.long(), expected)


def test_merging_a_few_at_a_time_is_merging_at_once(monkeypatch):
    low = torch.randn(37, 16, 16, generator=torch.Generator().manual_seed(0))
    ids, frame = [5 * i for i in range(37)], Frame(32, (32, 20), (75, 47))
    expected = slow_labels(frame.upsample(low), ids, 255)
    largest = []
    resize = Frame.upsample

    def counted(self, logits):
        largest.append(len(logits))
        return resize(self, logits)

    monkeypatch.setattr(Frame, "upsample", counted)
    for at_once in (1, 3, 100):
        monkeypatch.setattr(module, "FULL_SIZE_PIXELS", at_once * 75 * 47)
        largest.clear()
        assert torch.equal(frame.labels(low, ids, nothing=255).long(), expected)
        assert max(largest) == min(at_once, 37) and sum(largest) == 37


def test_nothing_asked_for_is_nothing_found():
    frame = Frame(8, (8, 8), (4, 6))
    got = frame.labels(torch.zeros(0, 8, 8), [], nothing=255)
    assert torch.equal(got, torch.full((4, 6), 255, dtype=torch.int32))
    assert frame.masks(torch.zeros(0, 8, 8)).shape == (0, 4, 6)


def test_maps_of_no_entity_come_to_the_image_size():
    assert Frame(28, (28, 14), (9, 5)).upsample(torch.zeros(0, 8, 8)).shape == (0, 9, 5)


def test_maps_may_come_to_their_size_by_the_nearest_pixel():
    low = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    frame = Frame(16, (16, 12), (9, 30), nearest=True)
    rows, columns = torch.arange(9) * 16 // 9 // 2, torch.arange(30) * 12 // 30 // 2
    assert torch.equal(frame.upsample(low), low[:, rows][:, :, columns])
    assert torch.equal(frame.masks(low), frame.upsample(low) > 0)
