import numpy as np
import pycocotools.mask as mask_util

from segic_d2.io.rle import has_mask


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_empty_rles_are_no_objects():
    nothing = np.zeros((20, 30))
    assert not has_mask({"segmentation": rle(nothing)})
    assert not has_mask({"segmentation": {"counts": [600], "size": [20, 30]}})
    assert not has_mask({"bbox": [0, 0, 3, 3]})
