"""COCO's files as people have them: what is read, and the one line for what is wrong."""

import json
import re

import numpy as np
import pytest

from segic_d2.io.annotations import read_annotations
from segic_d2.io.rle import decode, encode
from tests.io.annotations.parts import SIZE, box, picture, read, write

RING = [10, 5, 30, 5, 30, 25, 10, 25]


def content(**changes):
    """A file of two pictures; ``changes`` replace keys of the second annotation."""
    images = [{"id": 9, "file_name": "b.jpg", "height": 40, "width": 60}]
    images.append({"id": 3, "file_name": "a.jpg", "height": 40, "width": 60})
    things = [{"id": 1, "image_id": 9, "category_id": 7, "iscrowd": 0, "segmentation": [RING]}]
    things.append({**things[0], "id": 2, "image_id": 3, "category_id": 2, **changes})
    categories = [{"id": 7, "name": "dog", "supercategory": "pet"}, {"id": 2, "name": "cat"}]
    return {"info": {"year": 2024}, "licenses": [], "images": images, "annotations": things,
            "categories": categories}  # fmt: skip


def load(folder, data, encoding="utf-8"):
    for name in ("a.jpg", "b.jpg"):
        picture(folder / "images" / name)
    text = data if isinstance(data, str) else json.dumps(data)
    (folder / "c.json").write_text(text, encoding=encoding)
    return read_annotations(f"coco:{folder / 'c.json'}:{folder / 'images'}")


def test_classes_and_pictures_are_in_the_order_of_their_ids(tmp_path):
    found = load(tmp_path, content())
    assert found.faults == [] and found.names == ["cat", "dog"] and found.category_ids == [2, 7]
    assert [p.image_id for p in found] == [3, 9] and found[-1].image_id == 9
    (thing,) = found[0].things
    assert (thing.label, thing.id, thing.segmentation) == (0, 2, [[float(v) for v in RING]])
    np.testing.assert_array_equal(found[1].masks()["dog"], box(10, 5, 30, 25))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_annotations_may_stand_first_and_behind_a_byte_order_mark(tmp_path, encoding):
    data = content()
    turned = {key: data[key] for key in ("annotations", "categories", "images")}
    found = load(tmp_path, turned, encoding)
    assert found.faults == [] and [len(p.things) for p in found] == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": "0"}, {"iscrowd": None}, {"iscrowd": False}, {"iscrowd": 0.0},
        {"image_id": "3"}, {"image_id": 3.0}, {"category_id": "2"}, {"category_id": 2.0},
        {"bbox": None}, {"segmentation": RING},  # a flat list
        {"segmentation": encode(box(10, 5, 30, 25))},
        {"segmentation": {"size": ["40", "60"], "counts": [405, *[20, 20] * 19, 20, 1215]}},
        {"segmentation": {"size": list(SIZE), "counts": [405, *[20, 20] * 19, 20, 1215]}},
        {"segmentation": [RING, [1e9, 100, 2e9, 100, 2e9, 120], [1, 1, 2, 2]]},
    ],
)  # fmt: skip
def test_what_means_the_same(tmp_path, changes):
    found = load(tmp_path, content(**changes))
    assert found.faults == []
    (thing,) = found[0].things
    assert not thing.crowd
    np.testing.assert_array_equal(decode(thing.segmentation, *SIZE), box(10, 5, 30, 25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": [[1, None, 5, 5, 9, 9]]}, "polygon 1 has None where a number belongs"),
        ({"segmentation": [RING, [1, "7", 5, 5, 9, 9]]}, "polygon 2 has '7' where"),
        ({"segmentation": [[1, float("nan"), 5, 5, 9, 9]]}, r"polygon 1 has the corner \(1, nan\)"),
        ({"segmentation": [[1, 1e9, 5, 5, 9, 9]]}, r"has the corner \(1, 1e\+09\): far outside"),
        ({"segmentation": [[1, 1, 5, 5, 9, 9, 4]]}, "polygon 1 has 7 numbers"),
        ({"segmentation": "all"}, "segmentation is 'all', neither polygons nor an RLE"),
        ({"segmentation": {"size": [40, 60], "counts": [5]}}, "its RLE has counts that sum to 5"),
        ({"segmentation": {"size": [40, 60], "counts": None}}, "its RLE has the counts None"),
        ({"segmentation": {"size": [60, 40], "counts": [2400]}}, "its RLE is 40x60 px, its image"),
        ({"iscrowd": "yes"}, "iscrowd is 'yes'; it must be 0 or 1"),
        ({"image_id": 4}, "image_id is 4, which no image of the file has"),
        ({"image_id": "3b"}, "image_id is '3b', which no image"),
        ({"image_id": 3.5}, "image_id is 3.5, which no image"),
        ({"category_id": True}, "category_id is True, which no category"),
        ({"iscrowd": 2}, "iscrowd is 2; it must be 0 or 1"),
        ({"segmentation": [RING, None]}, "polygon 2 has None where a number belongs"),
        ({"category_id": [2]}, r"category_id is \[2\], which no category"),
    ],
)
def test_a_fault_is_one_line_with_file_and_annotation(tmp_path, changes, message):
    found = load(tmp_path, content(**changes))
    (fault,) = found.faults
    assert "\n" not in fault
    assert fault.startswith(f"{tmp_path / 'c.json'}: annotation 2: ")
    assert re.search(message, fault), fault
    assert [len(p.things) for p in found] == [0, 1]  # the others are there


def test_faults_of_pictures_and_categories(tmp_path):
    data = content()
    data["images"] += [
        {"id": 9, "file_name": "c.jpg", "height": 40, "width": 60},
        {"id": 10, "file_name": "gone.jpg", "height": 40, "width": 60},
        {"id": 11, "file_name": "a.jpg", "height": "tall", "width": 60},
        {"id": 12, "file_name": "a.jpg", "height": 10**9, "width": 60},
        {"id": 13, "file_name": "a.jpg", "height": 200_000, "width": 200_000},
    ]
    data["categories"] += [{"id": 2, "name": "cow"}, {"id": "x", "name": "y"}]
    found = load(tmp_path, data)
    told = "\n".join(found.faults)
    assert len(found.faults) == 7 and [p.image_id for p in found] == [3]  # 9 is whose?
    for part in (
        "image 9: b.jpg and c.jpg have this id",
        "image 10: no such file",
        "image 13: height and width are (200000, 200000), no size",
        "'tall'",
        "image 12: height and width are (1000000000, 60), no size",
        "category id 2 stands for 'cat' and for 'cow'",
        "'id' must be a number",
    ):
        assert part in told


def test_sizes_as_text_or_from_the_picture_and_names_of_windows(tmp_path):
    data = content()
    data["images"][0] |= {"height": "40", "file_name": "..\\images\\b.jpg"}
    del data["images"][1]["height"]
    found = load(tmp_path, data)
    assert found.faults == [] and [p.size for p in found] == [SIZE, SIZE]


def test_what_is_left_out_is_counted(tmp_path):
    data = content(segmentation=[[70, 50, 90, 50, 90, 70]])
    data["annotations"] += [
        {"id": 5, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4]},
        {"id": 6, "image_id": 9, "category_id": 7, "segmentation": [[1, 1, 2, 2]]},
        {"id": 7, "image_id": 9, "category_id": 7, "segmentation": [RING], "iscrowd": 1},
    ]
    data["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    data["categories"][0]["supercategory"] = "animals"
    found = load(tmp_path, data)
    assert found.faults == [] and found.names == ["cat", "dog"]
    assert found.notes == {
        "outside of their picture": 1, "without a mask (boxes alone)": 1,
        "with fewer than 3 corners": 1, "crowds, which are ignored": 1,
        "classes that only group others": 1,
    }  # fmt: skip


def test_a_category_that_groups_without_being_named(tmp_path):
    data = content()
    data["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    found = load(tmp_path, data)
    assert found.names == ["cat", "dog"] and found.notes == {"classes that only group others": 1}
    data["annotations"][0]["category_id"] = 0
    assert load(tmp_path, data).names == ["animals", "cat", "dog"]


def test_all_crowds_or_boxes_is_a_fault(tmp_path):
    data = content(iscrowd=1)
    data["annotations"][0]["iscrowd"] = 1
    (fault,) = load(tmp_path, data).faults
    assert "all 2 annotations are crowds (iscrowd 1), which are never objects" in fault
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    (fault,) = load(tmp_path, data).faults
    assert "no annotation has a 'segmentation': boxes alone are no masks" in fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annotations": []}', "has no 'categories': it is no file of COCO"),
        ('{"images": [], "annotations": [], "categories": []}', "name no class"),
        ('{"images": [{"id": 1', "cannot read .*c.json: "),
        ("[" * 10**6, "cannot read .*c.json: "),
        ('{"images": ' + "[" * 10**6, "cannot read .*c.json: "),
        ("", "cannot read .*c.json: "),
        (json.dumps(content()) * 2, "cannot read .*c.json: it goes on behind its end, with '{'"),
    ],
)
def test_files_that_are_none(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_a_name_without_pictures():
    with pytest.raises(ValueError, match="expected coco:ANNOTATIONS.json:IMAGE_FOLDER"):
        read("coco:a.json")
    with pytest.raises(FileNotFoundError, match="no such file: /none/a.json"):
        read("coco:/none/a.json:/none")


def test_elements_longer_than_a_chunk(tmp_path, monkeypatch):
    """The stream gives what ``json.load`` gives, wherever a chunk ends."""
    from segic_d2.io.annotations import json_stream

    data = {"a": [{"x": "é" * 50, "y": [1.5, -2e3, None, True]}, {"z": {}}], "b": [], "c": 12}
    file = write(tmp_path / "x.json", json.dumps(data, indent=1))
    flat = [("a", data["a"][0]), ("a", data["a"][1]), ("b", None), ("c", 12)]
    for size in range(1, 40):
        monkeypatch.setattr(json_stream, "CHUNK", size)
        assert list(json_stream.elements(file)) == flat


def test_categories_of_one_name(tmp_path):
    data = content()
    data["categories"].append({"id": 5, "name": "cat"})  # without annotations
    data["categories"].append(dict(data["categories"][0]))  # the same again
    found = load(tmp_path, data)
    assert (found.names, found.category_ids, found.faults) == (["cat", "dog"], [2, 7], [])
    assert found.notes == {"classes of a name that another one has, without annotations": 1}
    data["annotations"].append({**data["annotations"][0], "id": 3, "category_id": 5})
    (fault,) = load(tmp_path, data).faults
    assert "the categories 2 and 5 are both named 'cat': give all annotations one of them" in fault


def test_ids_as_text_throughout(tmp_path):
    data = content()
    for category in data["categories"]:
        category["id"] = str(category["id"])
    for image in data["images"]:
        image["id"] = str(image["id"])
    found = load(tmp_path, data)
    assert found.faults == [] and found.category_ids == [2, 7]
    assert [len(p.things) for p in found] == [1, 1]


def test_annotations_of_a_category_with_a_fault_are_not_told_again(tmp_path):
    data = content()
    data["categories"][0]["name"] = None
    (fault,) = load(tmp_path, data).faults
    assert "c.json: category {'id': 7, 'name': None" in fault


@pytest.mark.parametrize("height", [True, [40], "40 px", float("nan")])
def test_heights_that_are_none(tmp_path, height):
    data = content()
    data["images"][1]["height"] = height
    (fault,) = load(tmp_path, data).faults
    assert re.search(r"c.json: image 3: height and width are \(.*, 60\) \(.*\); correct it", fault)


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**53 + 1, 10**18 - 1, 2**63, 2**64])
def test_large_ids_are_exact_or_a_fault(tmp_path, number):
    data = content()
    data["images"][0]["id"] = data["annotations"][0]["image_id"] = number
    data["annotations"][0]["id"] = number
    found = load(tmp_path, data)
    assert found.faults == [] and [p.image_id for p in found] == [3, number]
    assert [t.id for t in found[1].things] == [number]
    data["categories"][0]["id"] = data["annotations"][0]["category_id"] = number
    found = load(tmp_path, data)
    if number < 10**18:
        assert found.faults == [] and found.category_ids == [2, number]
        assert [list(p.masks()) for p in found] == [["cat"], ["dog"]]
    else:
        (fault,) = found.faults
        assert (
            f"category {{'id': {number}, " in fault and "'id' must be a number below 1e18" in fault
        )


def test_coordinates_as_shares_of_the_sides(tmp_path):
    shares = [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]]
    found = load(tmp_path, content(segmentation=shares))
    assert found.faults == [] and [len(p.things) for p in found] == [0, 1]
    shown = "within the first pixel (coordinates are px, not shares of the sides)"
    assert found.notes == {shown: 1}
    data = content(segmentation=shares)
    data["annotations"].pop(0)
    (fault,) = load(tmp_path, data).faults
    assert fault == f"{tmp_path / 'c.json'}: all polygons are {shown}; export them in px"


def test_an_annotation_twice_counts_once(tmp_path):
    data = content()
    first = data["annotations"][0]
    rle = {"size": [40, 60], "counts": [405, 20, 1975]}
    again = {**first, "id": 8, "area": 3}
    others = {**first, "category_id": 2}, {**first, "segmentation": [RING, RING]}
    brushes = {**first, "segmentation": rle}, {**first, "segmentation": dict(rle)}
    data["annotations"] += [again, *others, *brushes]
    found = load(tmp_path, data)
    assert found.faults == [] and found.notes == {"that repeat another one": 2}
    assert [len(p.things) for p in found] == [1, 4]


def test_half_a_pixel_of_height_is_no_size(tmp_path):
    data = content()
    data["images"][0]["height"] = 40.5
    (fault,) = load(tmp_path, data).faults
    assert "image 9: height and width are (40.5, 60)" in fault
