import numpy as np
import pytest
import torch

from segic_d2.io.masks import read_label_map
from segic_d2.io.writer import OVERLAY_SIDE, draw_overlay, label_image
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from segic_d2.utils.visualizer import entity_colours
from tests.predictor.parts import H, W


def test_label_image_keeps_every_id(tmp_path):
    for top in (254, 255, 40000):
        labels = np.arange(H * W).reshape(H, W) % (top + 1)
        labels[0, 0] = top
        label_image(labels).save(tmp_path / "labels.png")
        np.testing.assert_array_equal(read_label_map(tmp_path / "labels.png"), labels)


@pytest.mark.parametrize("side", [300, 3000])
def test_overlay(side):
    masks = np.zeros((2, side, side), dtype=bool)
    masks[0, side // 2 : side * 3 // 4, side // 2 :] = True  # the second entity is not found
    grey = np.full((side, side, 3), 100, dtype=np.uint8)
    frame, scores = Frame(side, (side, side), (side, side)), np.array([0.9, 0])
    logits = torch.from_numpy(masks).float() - 0.5
    result = Segmentation(logits, scores, [1, 2], ["cat", None], frame, image=grey, arrays=True)
    overlay = draw_overlay(result)
    shown = min(side, OVERLAY_SIDE)
    assert overlay.shape == (shown, shown, 3)
    quarter = shown // 4
    np.testing.assert_array_equal(overlay[:quarter, :], 100)
    blend = (100 + entity_colours()[1].astype(int)) / 2
    np.testing.assert_allclose(overlay[shown * 7 // 10, shown * 9 // 10], blend, atol=2)
