"""CVAT's XML, "CVAT for images 1.1"."""

import numpy as np
import pytest

from segic_d2.io.annotations import read_annotations
from segic_d2.io.rle import decode
from tests.io.annotations.parts import SIZE, box, picture, read, write

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>cats &amp; dogs</name><mode>annotation</mode><labels>
    <label><name>cat</name><color>#ff00ff</color><type>any</type><attributes></attributes></label>
    <label><name>dog</name><attributes></attributes></label></labels></task></meta>
"""
POLYGON = (
    '<polygon label="dog" source="manual" occluded="0" points="10.00,5.00;30.00,5.00;30.00,25.00;'
    '10.00,25.00" z_order="0"><attribute name="fur">long</attribute></polygon>'
)


def export(folder, *shapes, name="sub/a.jpg", width=60):
    picture(folder / "images" / "sub" / "a.jpg")
    image = f'<image id="0" name="{name}" width="{width}" height="40" subset="Train">'
    write(folder / "annotations.xml", f"{HEAD}{image}{''.join(shapes)}</image></annotations>")
    return f"cvat:{folder}"


def test_polygons_masks_ellipses_and_groups(tmp_path):
    mask = '<mask label="cat" rle="1, 2, 1, 4" left="50" top="30" width="4" height="2"></mask>'
    ellipse = '<ellipse label="cat" cx="20" cy="20" rx="10" ry="5" rotation="90"></ellipse>'
    grouped = [
        f'<polygon label="cat" points="{x},0;{x + 5},0;{x + 5},5;{x},5" group_id="2"></polygon>'
        for x in (0, 50)
    ]
    found = read(export(tmp_path, POLYGON, mask, ellipse, *grouped))
    assert found.names == ["cat", "dog"] and found[0].split == "Train"
    dog, cat, oval, pair = (decode(t.segmentation, *SIZE) for t in found[0].things)
    np.testing.assert_array_equal(dog, box(10, 5, 30, 25))
    np.testing.assert_array_equal(cat, box(51, 30, 53, 31) | box(50, 31, 54, 32))
    np.testing.assert_array_equal(pair, box(0, 0, 5, 5) | box(50, 0, 55, 5))
    y, x = np.mgrid[:40, :60] + 0.5
    exact = ((x - 20) / 5) ** 2 + ((y - 20) / 10) ** 2 < 1
    assert (oval != exact).sum() <= 0.05 * exact.sum()


def test_places(tmp_path):
    export(tmp_path, POLYGON)
    for name in (f"{tmp_path}/annotations.xml", f"{tmp_path}/annotations.xml:{tmp_path}/images"):
        assert list(read(f"cvat:{name}")[0].masks()) == ["dog"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polygon label="cat" points="1,2;3;4,5"/>', "points are '1,2;3;4,5', not x,y;x,y"),
        ('<polygon label="cat" points="1,2;3,x;4,5"/>', "could not convert string to float"),
        ('<polygon label="cat" points="1,2;3,nan;4,5"/>', "has the corner (3, nan)"),
        ('<polygon label="cat" points="1,2;3,9e9;4,5"/>', "has the corner (3, 9e+09): far outside"),
        ('<polygon label="cat"/>', "lacks 'points'"),
        ('<polygon points="1,2;3,4;4,5"/>', "polygon 0 has no label"),
        ('<mask label="cat" rle="3" left="0" top="0" width="2" height="2"/>', "rle sums to 3"),
        (
            '<mask label="cat" rle="' + "4611686018427387904," * 4 + '4" left="0" top="0" '
            'width="2" height="2"/>',
            "rle sums to 4",
        ),
        ('<mask label="cat" rle="4" left="59" top="0" width="2" height="2"/>', "reach out of"),
        ('<mask label="cat" rle="4,b" left="0" top="0" width="2" height="2"/>', "invalid literal"),
    ],
)
def test_a_fault_is_one_line_with_file_image_and_shape(tmp_path, shape, message):
    found = read_annotations(export(tmp_path, shape, POLYGON))
    (fault,) = found.faults
    assert fault.startswith(f"{tmp_path}/annotations.xml: image '0' (sub/a.jpg): ")
    assert message in fault and len(found[0].things) == 1


def test_boxes_are_counted_and_pictures_checked(tmp_path):
    found = read(export(tmp_path, '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="5"/>', POLYGON))
    assert found.notes == {"of the kind box": 1} and len(found[0].things) == 1
    (fault,) = read_annotations(export(tmp_path, POLYGON, name="gone.jpg")).faults
    assert "no such picture in" in fault and "cvat:XML:IMAGES" in fault
    (fault,) = read_annotations(export(tmp_path, POLYGON, width=61)).faults
    assert "is of a picture of 61x40 px" in fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
            "cannot read .*annotations.xml: it has a DOCTYPE",
        ),
        ("<annotations><track/></annotations>", "tracks of a video: export it as 'CVAT for images"),
        ("<annotations></annotations>", "has no <image>"),
        ("<annotations>", "cannot read"),
    ],
)
def test_files_that_are_none(tmp_path, text, message):
    file = write(tmp_path / "annotations.xml", text)
    with pytest.raises(ValueError, match=message):
        read_annotations(f"cvat:{file}")
    with pytest.raises(FileNotFoundError, match="no such file: .*none.xml"):
        read_annotations(f"cvat:{tmp_path / 'none.xml'}")
