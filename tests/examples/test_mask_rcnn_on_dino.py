import pytest


@pytest.mark.slow
def test_mask_rcnn_overfits_16_scenes_over_the_frozen_backbone(run_example):
    boxes, masks = run_example("mask_rcnn_on_dino.py", "out")  # 63.5, 41.1, twice
    assert min(boxes, masks) >= 20
