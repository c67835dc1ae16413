"""What is written is read back equal, by us and by others."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from segic_d2.io.annotations import (
    Annotated,
    Thing,
    format_of,
    read_annotations,
    references_in,
    write_annotations,
)
from segic_d2.io.rle import decode, encode
from tests.io.annotations import test_coco, test_cvat, test_labelme, test_labelstudio, test_yolo
from tests.io.annotations.parts import (
    SIZE,
    annotated,
    box,
    masks_of,
    noise,
    picture,
    read,
    ring_with_a_hole,
)

WRITTEN = ("coco", "yolo", "labelme", "cvat", "labelstudio")
TEXTS = (".json", ".txt", ".yaml", ".xml")


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_written_is_read_back_equal(tmp_path, kind):
    """Every thing by itself and to the pixel, with holes and many parts; pictures are copied."""
    pictures = annotated(tmp_path / "in")
    name = write_annotations(kind, pictures, tmp_path / "out")
    found = read(name)
    assert sorted(found.names) == sorted(pictures[0].names)
    by_stem = {Path(p.file_name).stem: p for p in found}
    assert set(by_stem) == {"p0", "p1", "empty"}
    for given in pictures:
        own = by_stem[Path(given.file_name).stem]
        assert (tmp_path / "out") in Path(own.file_name).parents
        assert Path(own.file_name).read_bytes() == Path(given.file_name).read_bytes()
        assert len(own.things) == len(given.things)
        for one, other in zip(own.things, given.things, strict=True):
            assert found.names[one.label] == given.names[other.label]
            np.testing.assert_array_equal(
                decode(one.segmentation, *SIZE), decode(other.segmentation, *SIZE)
            )


def test_label_maps_are_read_back_equal(tmp_path):
    file = picture(tmp_path / "in" / "a.jpg")
    things = [Thing(0, encode(noise())), Thing(1, encode(~noise() & box(0, 0, 30, 40)))]
    name = write_annotations("masks", [Annotated(str(file), SIZE, ["b", "a"], things)], tmp_path)
    (own,) = masks_of(read(name)).values()
    np.testing.assert_array_equal(own["b"], noise())
    np.testing.assert_array_equal(own["a"], ~noise() & box(0, 0, 30, 40))
    assert list(own) == ["b", "a"]


def test_names_are_mapped_by_a_table_which_gives_their_order(tmp_path):
    pictures = annotated(tmp_path / "in", 1)
    table = {"unused": "x", "Käfer & <co>": "beetle", "cat": "animal"}
    write_annotations("coco", pictures, tmp_path / "out", table)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["beetle", "animal"]
    assert [a["category_id"] for a in content["annotations"]] == [2, 1, 2]
    both = {"cat": "thing", "Käfer & <co>": "thing"}
    write_annotations("yolo", pictures, tmp_path / "one", both)
    assert read(f"yolo:{tmp_path / 'one'}").names == ["thing"]


@pytest.mark.parametrize("kind", (*WRITTEN, "masks"))
def test_nothing_is_written_over(tmp_path, kind):
    pictures = annotated(tmp_path / "in", 1)
    write_annotations(kind, pictures, tmp_path / "out")
    before = {f: f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    with pytest.raises(FileExistsError, match="is there already; give another folder"):
        write_annotations(kind, pictures, tmp_path / "out")
    assert before == {f: f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()}


def test_formats_that_are_not_written_or_not_there(tmp_path):
    with pytest.raises(ValueError, match="'vos' is read, not written; there are coco, cvat"):
        write_annotations("vos", [], tmp_path)
    with pytest.raises(ValueError, match="format 'labelmee' is not registered; similar: labelme"):
        read_annotations("labelmee:x")
    assert format_of("labelme:/data") == "labelme" and format_of("s3://x") == ""


def boxes(kind, folder):
    """An export of two boxes and nothing else."""
    if kind == "coco":
        data = test_coco.content(segmentation=[])
        data["annotations"][0]["segmentation"] = []
        test_coco.load(folder, data)
        return f"coco:{folder}/c.json:{folder}/images"
    if kind == "yolo":
        return test_yolo.roboflow(folder, "1 0.5 0.5 0.2 0.2\n")
    if kind == "labelme":
        shapes = [test_labelme.shape("cat", [[1, 1], [9, 9]], "rectangle")] * 2
        return test_labelme.export(folder, shapes)
    if kind == "cvat":
        tag = '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="5"/>'
        return test_cvat.export(folder, tag, tag)
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["dog"]}
    one = test_labelstudio.result("rectanglelabels", value)
    return test_labelstudio.export(folder, one, one)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_set_of_boxes_alone_is_refused_in_one_line(tmp_path, kind):
    name = boxes(kind, tmp_path)
    with pytest.raises(ValueError) as error:
        list(references_in(name))
    fault = str(error.value)
    assert "\n" not in fault and str(tmp_path) in fault
    assert re.search(r"boxes alone are no m|2 lines are boxes|no masks, .*: 2 of the kind", fault)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_encodings_of_windows(tmp_path, kind, encoding):
    """PowerShell writes UTF-16 with a byte order mark."""
    name = write_annotations(kind, annotated(tmp_path / "in", 1), tmp_path / "out")
    before = masks_of(read(name))
    mark = "\ufeff" * (encoding == "utf-16-be")  # which Python leaves out here
    for file in (f for f in (tmp_path / "out").rglob("*") if f.suffix in TEXTS):
        file.write_text(mark + file.read_text(encoding="utf-8"), encoding=encoding)
    after = masks_of(read(name))
    assert {k: list(v) for k, v in after.items()} == {k: list(v) for k, v in before.items()}
    assert len(before["p0"]) == 2


def test_references(tmp_path):
    name = write_annotations("labelme", annotated(tmp_path / "in", 1), tmp_path / "out")
    ((file, masks, names),) = references_in(name)  # the empty picture is none
    assert file.endswith("p0.jpg") and names == ["cat", "Käfer & <co>"]
    np.testing.assert_array_equal(masks, [np.ones(SIZE, bool), noise(0)])
    (tmp_path / "out" / "p0.json").write_text("{}")
    with pytest.raises(ValueError, match=r"p0.json has no list 'shapes'"):
        list(references_in(name))


def test_supervision_reads_what_is_written(tmp_path):
    """Its rasteriser draws the border: a mask may grow by the pixels beside it, and by the lines
    between its parts."""
    supervision = pytest.importorskip("supervision")
    from scipy.ndimage import binary_dilation

    one = annotated(tmp_path / "in", 1)[:1]
    masks = np.stack([decode(thing.segmentation, *SIZE) for thing in one[0].things])
    write_annotations("yolo", one, tmp_path / "yolo")
    out = tmp_path / "yolo"
    places = str(out / "images"), str(out / "labels"), str(out / "data.yaml")
    found = supervision.DetectionDataset.from_yolo(*places, force_masks=True)
    ((_, _, yolo),) = list(found)
    write_annotations("coco", one, tmp_path / "coco")
    out = tmp_path / "coco"
    places = str(out / "images"), str(out / "annotations.json")
    ((_, _, coco),) = list(supervision.DetectionDataset.from_coco(*places, force_masks=True))
    np.testing.assert_array_equal(coco.mask, masks)
    assert (yolo.mask >= masks).all()
    beyond = yolo.mask & ~binary_dilation(masks, np.ones((1, 3, 3)))
    assert not beyond[2].any() and 0 < beyond[0].sum() < 30


def test_what_supervision_makes_of_polygons_and_crowds(tmp_path):
    """Why readers of our own: if this fails, supervision may do."""
    supervision = pytest.importorskip("supervision")
    corners = [[10, 5, 30, 5, 30, 25, 10, 25]]
    data = test_coco.content(segmentation=corners)
    data["annotations"][0] |= {"iscrowd": 1, "segmentation": encode(box(3, 3, 9, 9))}
    for annotation in data["annotations"]:
        annotation["bbox"] = [0, 0, 60, 40]  # which it needs
    found = test_coco.load(tmp_path, data)
    places = str(tmp_path / "images"), str(tmp_path / "c.json")
    dataset = supervision.DetectionDataset.from_coco(*places, force_masks=True)
    theirs = {Path(file).name: detections for file, _, detections in dataset}
    assert theirs["a.jpg"].mask[0].sum() == 21 * 21  # of 20x20 px, as pycocotools has it
    np.testing.assert_array_equal(found[0].masks()["cat"], box(10, 5, 30, 25))
    assert len(theirs["b.jpg"]) == 1  # a crowd, which is no object
    assert found[1].things[0].crowd and found[1].masks() == {}


def test_pycocotools_reads_what_is_written(tmp_path):
    from pycocotools.coco import COCO

    write_annotations("coco", annotated(tmp_path / "in", 1), tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    first = coco.loadAnns(coco.getAnnIds())[0]
    np.testing.assert_array_equal(coco.annToMask(first), ring_with_a_hole())
    assert first["area"] == ring_with_a_hole().sum() and first["bbox"] == [4, 4, 46, 29]
