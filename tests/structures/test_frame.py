import pytest
import torch

from segic_d2.structures import frame as outputs
from segic_d2.structures.frame import merged_labels, resize_to_image, to_label_map


def test_label_map_takes_the_highest_logit_above_the_threshold():
    logits = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    got = to_label_map(logits, [4, 7, 9], background=0)
    for y in range(5):
        for x in range(6):
            best = max(range(3), key=lambda n, y=y, x=x: logits[n, y, x])
            assert got[y, x] == ([4, 7, 9][best] if logits[best, y, x] > 0 else 0)


def test_the_content_of_the_canvas_fills_the_image():
    low = torch.full((1, 8, 8), -5.0)
    low[:, :4] = 5.0  # the content of a 16×32 image on a canvas of 32
    full = resize_to_image(low, 32, (16, 32), 100, 200)
    assert full.shape == (1, 100, 200)
    assert (full[:, :90] > 0).all()


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
    got = merged_labels(
        three_classes(), [4, 7, 9], 8, (8, 8), 8, 8, threshold=threshold, nothing=nothing
    )
    expected = torch.full((8, 8), 7)
    expected[4:, :4], expected[4:, 4:] = 4, corner
    assert got.dtype == torch.int32 and torch.equal(got.long(), expected)


def test_merging_class_by_class_is_merging_at_once(monkeypatch):
    low = torch.randn(37, 16, 16, generator=torch.Generator().manual_seed(0))
    ids, frame = [5 * i for i in range(37)], (32, (32, 20), 75, 47)
    full = outputs.resize_to_image(low, *frame)
    expected = to_label_map(full, ids, background=255)
    largest = []
    resize = outputs.resize_to_image

    def counted(logits, *args):
        largest.append(len(logits))
        return resize(logits, *args)

    monkeypatch.setattr(outputs, "resize_to_image", counted)
    for at_once in (1, 3, 100):
        monkeypatch.setattr(outputs, "FULL_SIZE_PIXELS", at_once * 75 * 47)
        largest.clear()
        assert torch.equal(merged_labels(low, ids, *frame).long(), expected)
        assert max(largest) == min(at_once, 37) and sum(largest) == 37


def test_nothing_asked_for_is_nothing_found():
    got = merged_labels(torch.zeros(0, 8, 8), [], 8, (8, 8), 4, 6, nothing=255)
    assert torch.equal(got, torch.full((4, 6), 255, dtype=torch.int32))
