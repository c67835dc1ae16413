import numpy as np

from prepare_coco_semantic import paint


def box(x, y, w, h, class_id, **more):
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"category_id": class_id, "segmentation": [polygon], "iscrowd": 0, **more}


def test_smaller_objects_hide_larger_ones_and_crowds_none():
    crowd = {"counts": [6 * 4, 6 * 4], "size": [6, 8]}  # the right half
    record = {
        "file_name": "x.jpg",
        "height": 6,
        "width": 8,
        "annotations": [
            box(1, 1, 2, 2, 0),
            box(0, 0, 6, 4, 79),
            {"category_id": 3, "segmentation": crowd, "iscrowd": 1},
            {"category_id": 5, "iscrowd": 0},  # without a mask
        ],
    }
    expected = np.zeros((6, 8), np.uint8)
    expected[:, 4:] = 255
    expected[0:4, 0:6] = 80
    expected[1:3, 1:3] = 1
    got = paint(record)
    assert got.dtype == np.uint8 and got.tolist() == expected.tolist()
    assert not paint({**record, "annotations": []}).any()
