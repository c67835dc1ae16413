import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from segic_d2.data.records import (
    class_masks,
    instance_masks,
    record_form,
    usable_annotations,
)
from tests.data import toy


def coco_record(*segmentations, crowd=()):
    return {
        "file_name": "scene.jpg",
        "height": 20,
        "width": 30,
        "annotations": [
            {"category_id": i % 2, "segmentation": s, "iscrowd": int(i in crowd)}
            for i, s in enumerate(segmentations)
        ],
    }


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def block(y0, y1, x0, x1, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_the_three_forms_give_the_same_class_masks(tmp_path):
    coco = DatasetCatalog.get(toy.coco(tmp_path))[3]
    sem_seg = DatasetCatalog.get(toy.sem_seg(tmp_path))[3]
    assert record_form(coco) == "coco" and record_form(sem_seg) == "sem_seg"
    objects = [objects for _, objects in toy.scenes()][3]
    drawn = toy.label_map(objects)
    for class_id in range(3):
        mask, ignore = toy.class_mask(sem_seg, class_id + 1)
        np.testing.assert_array_equal(mask, drawn == class_id + 1)
        np.testing.assert_array_equal(ignore, drawn == 255)
        mask, ignore = toy.class_mask(coco, class_id)
        union = np.zeros(toy.SIZE, bool)
        for c, (x, y, w, h) in objects:
            union[y : y + h, x : x + w] |= c == class_id
        np.testing.assert_array_equal(mask, union)
        assert ignore is None
    folder = DatasetCatalog.get(toy.folder_a(tmp_path))[0]
    x, y, w, h = next(o[0][1] for _, o in toy.scenes(6) if o[0][0] == 2)
    masks, ignore = class_masks(folder, [folder["category_id"], 77])
    np.testing.assert_array_equal(masks[0], block(y, y + h, x, x + w, toy.SIZE))
    assert not masks[1].any() and ignore is None


def test_crowds_are_no_objects_and_their_pixels_are_ignored():
    own, other, crowd = block(2, 6, 2, 8), block(8, 12, 2, 8), block(4, 15, 0, 20)
    record = coco_record(rle(own), rle(other), rle(crowd), crowd=[2])
    mask, ignore = toy.class_mask(record, 0)
    np.testing.assert_array_equal(mask, own)
    np.testing.assert_array_equal(ignore, crowd & ~own)
    masks, categories = instance_masks(record)
    np.testing.assert_array_equal(masks, [own, other])
    assert categories == [0, 1]
    assert toy.class_mask(record, 1)[1] is None


def test_only_the_asked_objects_are_decoded_and_in_that_order():
    masks = [block(i, i + 3, i, i + 4) for i in range(4)]
    found, categories = instance_masks(coco_record(*map(rle, masks)), [3, 0])
    np.testing.assert_array_equal(found, [masks[3], masks[0]])
    assert categories == [1, 0]


def test_every_encoding_of_a_mask_is_understood():
    mask = block(3, 9, 4, 10)
    compressed = rle(mask)
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
    runs = np.diff([0, *edges, mask.size]).tolist()
    uncompressed = {"counts": runs, "size": [20, 30]}
    polygon = [[4, 3, 10, 3, 10, 9, 4, 9]]
    record = coco_record(compressed, uncompressed, polygon, mask)
    assert len(usable_annotations(record)) == 4
    for decoded in instance_masks(record)[0]:
        np.testing.assert_array_equal(decoded, mask)


def test_a_polygon_between_pixel_centres_still_marks_its_pixel():
    masks, _ = instance_masks(coco_record([[7.1, 5.1, 7.3, 5.1, 7.2, 5.2]]))
    assert masks.sum() == 1 and masks[0, 5, 7]


def test_errors_name_the_image(tmp_path):
    with pytest.raises(ValueError, match="scene.jpg is 5x4 px, its image is 30x20 px"):
        instance_masks(coco_record(rle(np.ones((4, 5)))))
    with pytest.raises(ValueError, match="a.jpg has none of"):
        record_form({"file_name": "a.jpg"})
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="a.jpg.*annotations.*sem_seg"):
        instance_masks({"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "m.png")})
    with pytest.raises(ValueError, match="scene.jpg lacks 'height'"):
        record = coco_record(rle(block(0, 2, 0, 2)))
        del record["height"]
        toy.class_mask(record, 0)


@pytest.mark.parametrize("size", [(200_000, 200_000), (2**62, 2**62), (0, 30), (-1, 30), ("x", 30)])
@pytest.mark.parametrize("read", [instance_masks, lambda record: class_masks(record, [0])])
def test_a_record_that_says_it_is_huge_asks_for_no_memory(size, read):
    record = coco_record([0, 0, 9, 0, 9, 9])
    record["height"], record["width"] = size
    with pytest.raises(ValueError, match="the record of scene.jpg says height and width are") as e:
        read(record)
    assert str(size[0]) in str(e.value)
