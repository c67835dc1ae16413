import numpy as np
import pycocotools.mask as mask_util
import pytest

from segic_d2.io.rle import decode, has_mask, is_crowd, runs


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_empty_rles_are_no_objects():
    nothing = np.zeros((20, 30))
    assert not has_mask({"segmentation": rle(nothing)})
    assert not has_mask({"segmentation": {"counts": [600], "size": [20, 30]}})
    assert not has_mask({"bbox": [0, 0, 3, 3]})


def test_runs_of_compressed_rles_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for density in (0, 0.01, 0.5, 1):
        mask = rng.random((37, 53)) < density
        found = runs(rle(mask)["counts"])
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(flat, prepend=False))
        np.testing.assert_array_equal(found, np.diff([0, *edges, flat.size]))
    assert runs(rle(mask)["counts"].decode()).sum() == mask.size


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [10, 20], "size": [20, 30]}, "has counts that sum to 30, its image has 600 px"),
        ({"counts": [2**62] * 4 + [600], "size": [20, 30]}, "has counts that sum to"),  # 2**64
        ({"counts": [-10, 610], "size": [20, 30]}, "has counts below 0, such as -10"),
        ({"counts": None, "size": [20, 30]}, "has the counts None"),
        ({"counts": [600.5], "size": [20, 30]}, "has counts that are no whole numbers"),
        ({"counts": "<x>", "size": [20, 30]}, "has counts that are no compressed RLE"),
        ({"counts": "P" * 40, "size": [20, 30]}, "has counts that are no compressed RLE"),
        ({"counts": [600], "size": [30, 20]}, "is 20x30 px, its image is 30x20 px"),
        ({"counts": [600]}, "lacks 'size'"),
        ([[0, 0, 5, 5]], "has 2 corners"),
        ([[0, 0, 5, 5, 9]], "has 5 numbers"),
        ([[0, 0, 5, float("nan"), 9, 9]], r"has the corner \(5, nan\)"),
        ([[0, 0, 5, 1e9, 9, 9]], r"has the corner \(5, 1e\+09\): far outside"),
        ([[-1e9, 0, 5, 1, 9, 9]], "far outside of a picture of 30x20 px"),
    ],
)
def test_what_pycocotools_must_not_see(segmentation, message):
    with pytest.raises(ValueError, match=f"in the annotations of scene.jpg .*{message}"):
        decode(segmentation, 20, 30, "scene.jpg")


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(0, False), ("0", False), (None, False), (False, False), (1, True), ("1", True), (True, True)],
)
def test_crowds_as_numbers_and_text(value, crowd):
    annotation = {"id": 7, "iscrowd": value, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    assert is_crowd(annotation) == crowd and has_mask(annotation) != crowd
    with pytest.raises(ValueError, match="annotation 7: iscrowd is 'yes'; it must be 0 or 1"):
        has_mask({**annotation, "iscrowd": "yes"})
