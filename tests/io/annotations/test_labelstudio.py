"""Label Studio's JSON export."""

import json

import numpy as np
import pytest

from segic_d2.io.annotations import read_annotations, write_annotations
from segic_d2.io.annotations.brush import decode_brush, encode_brush
from segic_d2.io.rle import decode
from tests.io.annotations.parts import SIZE, annotated, box, noise, picture, read, write

# 2x1 px, the second painted: head (32 bits: 8 values; words of 8; lengths of 3, 4, 8, 16), then
# a run of 4 zeros, and 4 values one by one
BITS = "0" * 28 + "1000" + "00111" + "0010" + "0011" + "0111" + "1111"
BITS += "1" + "00" + "011" + "00000000" + "0" + "00" + "011" + "11111111" * 4
BY_HAND = list(int(BITS.ljust(-(-len(BITS) // 8) * 8, "0"), 2).to_bytes(-(-len(BITS) // 8), "big"))


def test_brush_masks_by_hand_and_back():
    assert decode_brush(BY_HAND, (1, 2)).tolist() == [[False, True]]
    for mask in (noise(), box(3, 3, 50, 30), box(0, 0, 0, 0), np.ones((300, 400), bool)):
        np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)


def test_bytes_of_label_studio_itself():
    """Its ``mask2rle`` of a mask of 5x3 px."""
    data = [0, 0, 0, 60, 57, 27, 252, 96, 22, 255, 231, 0, 183, 255, 133, 192, 0]
    np.testing.assert_array_equal(decode_brush(data, (3, 5)), box(1, 0, 4, 2, (3, 5)))


@pytest.mark.slow
def test_label_studio_decodes_what_is_written():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    for mask in (noise(), box(3, 3, 50, 30), np.ones((300, 400), bool)):
        theirs = np.reshape(brush.decode_rle(encode_brush(mask)), (*mask.shape, 4))[..., 3]
        np.testing.assert_array_equal(theirs > 0, mask)
        own = decode_brush(brush.mask2rle(mask.astype(np.uint8) * 255), mask.shape)
        np.testing.assert_array_equal(own, mask)


@pytest.mark.slow
def test_label_studio_exports_what_is_written_as_masks(tmp_path):
    """Its own converter reads tasks.json; ``label-studio-sdk`` has it, and needs an older NumPy."""
    converter = pytest.importorskip("label_studio_sdk.converter")
    (one,) = annotated(tmp_path / "in", 1)[:1]
    write_annotations("labelstudio", [one], tmp_path)
    labels = '<Image name="image" value="$image"/><BrushLabels name="tag" toName="image"/>'
    convert = converter.Converter(f"<View>{labels}</View>", str(tmp_path), download_resources=False)
    (tmp_path / "npy").mkdir()
    convert.convert(f"{tmp_path}/tasks.json", f"{tmp_path}/npy", "BRUSH_TO_NUMPY", is_dir=False)
    files = sorted((tmp_path / "npy").iterdir())
    assert len(files) == len(one.things)
    left = [decode(thing.segmentation, *SIZE) for thing in one.things]
    for file in files:
        mask = np.load(file) > 0
        left = [m for m in left if (m != mask).any()]
    assert not left


@pytest.mark.slow
def test_polygons_are_where_label_studio_has_them(tmp_path):
    converter = pytest.importorskip("label_studio_sdk.converter")
    name = export(tmp_path, polygon())
    (tmp_path / "c").mkdir()
    labels = '<Image name="image" value="$image"/><PolygonLabels name="tag" toName="image"/>'
    convert = converter.Converter(f"<View>{labels}</View>", str(tmp_path), download_resources=False)
    convert.convert(f"{tmp_path}/export.json", f"{tmp_path}/c", "COCO", is_dir=False)
    (theirs,) = json.loads((tmp_path / "c" / "result.json").read_text())["annotations"]
    assert read(name)[0].things[0].segmentation == theirs["segmentation"]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        (BY_HAND[:-6], "ends too early"),
        ([], "no list of bytes"),
        ([300], "has 300, no byte"),
        (["a"], "no list of bytes"),
        (encode_brush(box(0, 0, 3, 3)), "has 9600 values, 2x1 px have 4 each"),
    ],
)
def test_bytes_that_are_no_mask(rle, message):
    with pytest.raises(ValueError, match=message):
        decode_brush(rle, (1, 2))


def result(kind, value, **more):
    about = {"id": "x1", "type": kind, "from_name": "tag", "to_name": "image", "origin": "manual"}
    sides = {"original_width": 60, "original_height": 40, "image_rotation": 0}
    return {**about, **sides, "value": value, **more}


def polygon(points=((25, 25), (50, 25), (50, 75), (25, 75)), label="dog", **more):
    value = {"points": [list(p) for p in points], "closed": True, "polygonlabels": [label]}
    return result("polygonlabels", value, **more)


def export(folder, *results, image="/data/upload/3/1a2b3c4d-cat%20one.jpg", **task):
    picture(folder / "cat one.jpg")
    own = {"id": 8, "completed_by": 1, "was_cancelled": False, "result": list(results)}
    about = {"id": 11, "data": {"image": image}, "annotations": [own], "predictions": [], **task}
    return f"labelstudio:{write(folder / 'export.json', [about])}"


def test_polygons_brushes_and_ellipses(tmp_path):
    brush = {"format": "rle", "rle": encode_brush(noise()), "brushlabels": ["fur"]}
    oval = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "rotation": 0, "ellipselabels": ["dog"]}
    rectangle = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["dog"]}
    found = read(
        export(
            tmp_path, polygon(), result("brushlabels", brush), result("ellipselabels", oval),
            result("rectanglelabels", rectangle),
        )
    )  # fmt: skip
    assert found.names == ["dog", "fur"] and found.notes == {"of the kind rectanglelabels": 1}
    one, fur, ellipse = (decode(t.segmentation, *SIZE) for t in found[0].things)
    np.testing.assert_array_equal(one, box(15, 10, 30, 30))
    np.testing.assert_array_equal(fur, noise())
    y, x = np.mgrid[:40, :60] + 0.5
    exact = ((x - 30) / 6) ** 2 + ((y - 20) / 10) ** 2 < 1
    assert (ellipse != exact).sum() <= 0.05 * exact.sum()


@pytest.mark.parametrize(
    "image",
    [
        "/data/local-files/?d=my%2Ffolder%2Fcat%20one.jpg",
        "s3://bucket/deep/cat one.jpg",
        "http://localhost:8080/data/upload/1/00ff00ff-cat%20one.jpg",
        "C:\\photos\\cat one.jpg",
    ],
)
def test_pictures_are_found_by_name(tmp_path, image):
    found = read(export(tmp_path, polygon(), image=image))
    assert found[0].file_name == str(tmp_path / "cat one.jpg")
    assert found[0].image_id == 11


def test_cancelled_and_earlier_annotations(tmp_path):
    several = [
        {"was_cancelled": False, "result": [polygon(label="old")]},
        {"was_cancelled": False, "result": [polygon(label="new")]},
        {"was_cancelled": True, "result": [polygon(label="no")]},
    ]
    found = read(export(tmp_path, annotations=several))
    assert list(found[0].masks()) == ["new"]
    assert found.notes == {"annotations of which a later one is there": 1}
    for nobody in ([], [several[2]]):  # a task that was skipped says not that nothing is there
        found = read(export(tmp_path, annotations=nobody))
        assert len(found) == 0 and found.notes == {"tasks that nobody has labelled": 1}


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (polygon(((1, 1), (2, None), (3, 3))), "result 0: "),
        (polygon(((1, 1), (2, 9e9), (3, 3))), "far outside"),
        (polygon(((1, 1), (2, "b"), (3, 3))), "result 0: "),
        (polygon(original_width=61), "is of a picture of 61x40 px"),
        (polygon(image_rotation=90), "image_rotation is 90; turn the file instead"),
        (result("brushlabels", {"format": "png", "brushlabels": ["a"]}), "format is 'png'"),
        (result("polygonlabels", {"points": []}), "lacks 'polygonlabels'"),
        (result("polygonlabels", {"points": [], "polygonlabels": []}), "one label is expected"),
    ],
)
def test_a_fault_is_one_line_with_file_task_and_result(tmp_path, one, message):
    found = read_annotations(export(tmp_path, one, polygon()))
    (fault,) = found.faults
    assert fault.startswith(f"{tmp_path / 'export.json'}: task 11: ") and message in fault
    assert len(found[0].things) == 1


def test_other_exports(tmp_path):
    (fault,) = read_annotations(export(tmp_path, image="/x/gone.jpg")).faults
    assert "task 11: data is '/x/gone.jpg': no such picture" in fault
    file = write(tmp_path / "min.json", [{"id": 1, "image": "a.jpg", "label": []}])
    with pytest.raises(ValueError, match="export as 'JSON', not as 'JSON-MIN'"):
        read_annotations(f"labelstudio:{file}")
    with pytest.raises(ValueError, match="is no list of tasks"):
        read_annotations(f"labelstudio:{write(tmp_path / 'c.json', {})}")


@pytest.mark.parametrize("text", ["https://[x/a", "a text of a sentence or two, " * 20])
def test_other_texts_of_a_task_are_passed_over(tmp_path, text):
    export(tmp_path, polygon())
    tasks = json.loads((tmp_path / "export.json").read_text())
    tasks[0]["data"] = {"about": text, **tasks[0]["data"]}
    write(tmp_path / "export.json", tasks)
    assert len(read(f"labelstudio:{tmp_path / 'export.json'}")[0].things) == 1
