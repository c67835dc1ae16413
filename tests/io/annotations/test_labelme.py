"""labelme's files, as version 5 writes them."""

import base64
import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from segic_d2.io.annotations import read_annotations, write_annotations
from segic_d2.io.rle import decode
from tests.io.annotations.parts import SIZE, annotated, box, picture, read, write


def shape(label, points, kind="polygon", **more):
    about = {"label": label, "points": points, "group_id": None, "description": ""}
    return {**about, "shape_type": kind, "flags": {}, "mask": None, **more}


def export(folder, shapes, **changes):
    picture(folder / "photos" / "a.JPG")
    about = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "..\\photos\\a.JPG"}
    about |= {"imageData": None, "imageHeight": 40, "imageWidth": 60, **changes}
    write(folder / "labels" / "a.json", about)
    return f"labelme:{folder / 'labels'}"


def png(side):
    """The base64 of a PNG whose header alone is there, of a square."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return base64.b64encode(data).decode()


SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def test_polygons_groups_circles_and_masks(tmp_path):
    patch = np.zeros((6, 8), np.uint8)
    patch[2:, 3:] = 255
    png = io.BytesIO()
    Image.fromarray(patch).save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode()
    shapes = [
        shape("cat", SQUARE, group_id=1),
        shape("cat", [[40, 30], [50, 30], [50, 35], [40, 35]], group_id=1),
        shape("dog", [[20, 20], [20, 28]], "circle"),
        shape("cat", [[50, 2], [57, 7]], "mask", mask=data),
    ]
    found = read(export(tmp_path, shapes))
    assert found.names == ["cat", "dog"] and len(found) == 1
    cat, dog, masked = (decode(t.segmentation, *SIZE) for t in found[0].things)
    np.testing.assert_array_equal(cat, box(10, 5, 30, 25) | box(40, 30, 50, 35))
    np.testing.assert_array_equal(masked, box(53, 4, 58, 8))
    y, x = np.mgrid[:40, :60] + 0.5
    disc = (x - 20) ** 2 + (y - 20) ** 2 < 64
    assert (dog != disc).sum() <= 0.05 * disc.sum()
    file = tmp_path / "labels" / "a.json"
    assert read(f"labelme:{file.rename(file.with_suffix('.JSON')).parent}")[0].file_name.endswith(
        "photos/a.JPG"
    )


def test_labelme_reads_what_is_written(tmp_path):
    """It paints the border of a polygon, too: a mask may grow by the pixels beside it."""
    pytest.importorskip("labelme", exc_type=ImportError)  # without Qt's libraries, too
    from labelme import LabelFile
    from labelme.utils import shape_to_mask

    (given,) = annotated(tmp_path / "in", 1)[:1]
    write_annotations("labelme", [given], tmp_path / "out")
    shapes = LabelFile(str(tmp_path / "out" / "p0.json")).shapes
    for number, thing in enumerate(given.things, 1):
        mask = decode(thing.segmentation, *SIZE)
        group = number if number < 3 else None  # the last has one part
        own = [s for s in shapes if s["group_id"] == group]
        drawn = np.logical_or.reduce([shape_to_mask(SIZE, s["points"], "polygon") for s in own])
        assert {s["label"] for s in own} == {given.names[thing.label]}
        assert (drawn >= mask).all()
        assert (drawn <= binary_dilation(mask, np.ones((3, 3)))).all()


def test_one_file_and_the_picture_beside_it(tmp_path):
    picture(tmp_path / "b.png")
    write(tmp_path / "b.json", {"shapes": [shape("x", SQUARE)], "imagePath": "C:\\gone\\b.png"})
    (only,) = read(f"labelme:{tmp_path / 'b.json'}")
    assert only.file_name == str(tmp_path / "b.png") and list(only.masks()) == ["x"]


def test_what_has_no_area_is_counted(tmp_path):
    shapes = [shape("cat", SQUARE), shape("cat", [[1, 1], [9, 9]], "rectangle")]
    shapes += [shape("cat", [[1, 1]], "point"), shape("__ignore__", SQUARE)]
    shapes += [shape("cat", SQUARE, "oriented_rectangle")]
    found = read(export(tmp_path, shapes))
    assert len(found[0].things) == 1
    assert found.notes == {
        "of the kind rectangle": 1, "of the kind point": 1, "labelled __ignore__": 1,
        "of the kind oriented_rectangle": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (shape("cat", [[1, 2], [3]]), r"shapes\[0\] \(cat\): points are .* no list of \[x, y\]"),
        (shape("cat", [[1, 2], [3, None], [5, 6]]), r"shapes\[0\]: polygon 1 has None"),
        (shape("cat", [[1, 2], [3, 1e9], [5, 6]]), r"shapes\[0\]: polygon 1 has the corner"),
        (shape(None, SQUARE), r"shapes\[0\]: label is None; it must be a text"),
        (shape("cat", SQUARE, "blob"), "shape_type is 'blob'; polygon, circle and mask are read"),
        (shape("cat", [[0, 0], [1, 1]], "mask", mask="§"), "mask is no base64"),
        (shape("cat", [[0, 0], [1, 1]], "mask", mask="AAAA"), "mask is no PNG: "),
        (
            shape("cat", [[0, 0], [1, 1]], "mask", mask=png(40_000)),
            "mask is no PNG: it is 40000x40000",
        ),
        (
            shape("cat", [[0, 0], [1, 1]], "mask", mask=png(12_000)),
            "mask of 12000x12000 px at .* out",
        ),
        (shape("cat", [["9" * 400] * 2] * 3), r"polygon 1 has '9{79}'? where a number"),
        (shape("a\nb", [[1, 2], [3]]), r"shapes\[0\] \(a\ufffdb\): points are"),
        (shape("cat", [[0, "a"], [1, 1]], "circle"), r"shapes\[0\] \(cat\): "),
    ],
)
def test_a_fault_is_one_line_with_file_and_shape(tmp_path, one, message):
    found = read_annotations(export(tmp_path, [one, shape("dog", SQUARE)]))
    (fault,) = found.faults
    assert fault.startswith(str(tmp_path / "labels" / "a.json")) and "\n" not in fault
    assert re.search(message, fault), fault
    assert len(found[0].things) == 1


def test_faults_of_files(tmp_path):
    name = export(tmp_path, [shape("cat", SQUARE)], imageHeight=60, imageWidth=40)
    write(tmp_path / "labels" / "b.json", {"version": "5"})
    write(tmp_path / "labels" / "c.json", "{")
    write(tmp_path / "labels" / "d.json", {"shapes": [], "imagePath": "d.png"})
    turned, none, broken, lost = read_annotations(name).faults
    assert "is of a picture of 40x60 px" in turned and "is 60x40 px as displayed" in turned
    assert "b.json has no list 'shapes'" in none and "cannot read" in broken
    assert "d.json: imagePath is 'd.png': no such picture, nor one beside it" in lost
    write(tmp_path / "labels" / "d.json", {"shapes": [], "imageData": "iVBORw0KGgo="})
    *_, inside = read_annotations(name).faults
    assert "d.json: imagePath is None: no such picture, nor one beside it; save the" in inside
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.json files in .*empty"):
        read_annotations(f"labelme:{tmp_path / 'empty'}")
