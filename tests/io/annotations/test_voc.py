"""VOC's folders: the development kit's, CVAT's "Segmentation mask 1.1", labelme's labelme2voc."""

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.annotations import read_annotations, references_in
from tests.io.annotations.parts import SIZE, box, picture, read, write

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[7] * (252 * 3), 224, 224, 192]


def values():
    labels = np.zeros(SIZE, np.uint8)
    labels[box(5, 5, 20, 20)], labels[box(30, 5, 50, 30)] = 1, 2
    labels[box(5, 19, 20, 20)] = 255
    return labels


def kit(folder, labels=None, stem="a"):
    picture(folder / "JPEGImages" / f"{stem}.jpg")
    image = Image.fromarray(values() if labels is None else labels).convert("P")
    image.putpalette(PALETTE)
    (folder / "SegmentationClass").mkdir(exist_ok=True)
    image.save(folder / "SegmentationClass" / f"{stem}.png")
    return f"voc:{folder}"


def test_the_development_kit(tmp_path):
    for stem in "abc":
        name = kit(tmp_path, stem=stem)
    lists = tmp_path / "ImageSets" / "Segmentation"
    for split, stems in (("train", "a\n"), ("val", "b\n"), ("trainval", "a\nb\n")):
        write(lists / f"{split}.txt", stems)
    found = read(name)
    assert [p.split for p in found] == ["train", "val", ""] and found.names[15] == "person"
    assert len(found.names) == 21
    masks = found[0].masks()
    np.testing.assert_array_equal(masks["aeroplane"], box(5, 5, 20, 19))
    np.testing.assert_array_equal(masks["bicycle"], box(30, 5, 50, 30))
    (val,) = read(f"{name}:val")
    assert val.file_name.endswith("b.jpg")
    with pytest.raises(FileNotFoundError, match="no such file: .*/test.txt"):
        read_annotations(f"{name}:test")
    file, masks, names = next(references_in(name))
    assert names == ["aeroplane", "bicycle"] and masks.shape == (2, *SIZE)


def test_files_in_capitals_and_values_without_a_class(tmp_path):
    labels = values()
    labels[0, 0] = 21
    name = kit(tmp_path, labels)
    (tmp_path / "SegmentationClass" / "a.png").rename(tmp_path / "SegmentationClass" / "a.PNG")
    (only,) = read(name)
    with pytest.raises(ValueError, match="a.PNG has the value 21; its classes are 0 to 20"):
        only.masks()


LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:250,50,83::\ncat:1,2,3::\n"


def test_cvat_paints_in_colours(tmp_path):
    name = kit(tmp_path)
    write(tmp_path / "labelmap.txt", LABELMAP)
    colours = np.array([[0, 0, 0], [250, 50, 83], [1, 2, 3]], np.uint8)
    painted = colours[np.where(values() == 255, 0, values())]
    Image.fromarray(painted).save(tmp_path / "SegmentationClass" / "a.png")
    found = read(name)
    assert found.names == ["background", "dog", "cat"]
    masks = found[0].masks()
    assert sorted(masks) == ["cat", "dog"]
    np.testing.assert_array_equal(masks["dog"], box(5, 5, 20, 19))
    painted[0, 0] = 9, 9, 9
    Image.fromarray(painted).save(tmp_path / "SegmentationClass" / "a.png")
    (fault,) = read_annotations(name).faults
    assert "shows the colour (9, 9, 9), which labelmap.txt does not name" in fault


def test_a_palette_in_another_order_is_read_by_its_colours(tmp_path):
    """The values are not the lines of labelmap.txt: colours decide, not numbers."""
    name = kit(tmp_path)
    write(tmp_path / "labelmap.txt", "background:0,0,0::\ndog:0,128,0::\ncat:128,0,0::\n")
    masks = read(name)[0].masks()
    np.testing.assert_array_equal(masks["cat"], box(5, 5, 20, 19))
    write(tmp_path / "labelmap.txt", "background:0,0,0::\ndog:128,0,0::\ncat:0,128,0::\n")
    own = read(name)[0]
    assert own.label_file and list(own.masks()) == ["dog", "cat"]


def test_labelme2voc(tmp_path):
    name = kit(tmp_path)
    write(tmp_path / "class_names.txt", "_background_\nbolt\nnut\n")
    assert list(read(name)[0].masks()) == ["bolt", "nut"]


def test_faults(tmp_path):
    name = kit(tmp_path)
    kit(tmp_path, np.zeros((9, 9), np.uint8), "small")
    picture(tmp_path / "SegmentationClass" / "alone.png")
    picture(tmp_path / "JPEGImages" / "painted.jpg")
    Image.fromarray(np.full((*SIZE, 3), 77, np.uint8)).save(
        tmp_path / "SegmentationClass" / "painted.png"
    )
    alone, painted, small = read_annotations(name).faults
    assert alone.startswith(f"mask without an image: {tmp_path}/SegmentationClass/alone.png")
    assert "painted.png is coloured, and no labelmap.txt names its colours" in painted
    assert "small.png is 9x9 px, its image 60x40 px" in small
    write(tmp_path / "labelmap.txt", "background=0")
    with pytest.raises(ValueError, match="labelmap.txt, line 1: expected name:r,g,b"):
        read_annotations(name)
    for colour in ("281474976710656,0,0", "0,-1,0"):  # the first is 0,0,0 in 64 bits
        write(tmp_path / "labelmap.txt", f"background:0,0,0::\ndog:{colour}::")
        with pytest.raises(ValueError, match=f"labelmap.txt, line 2: {colour} is no colour up to"):
            read_annotations(name)
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="no such folder: .*JPEGImages"):
        read_annotations(f"voc:{tmp_path / 'other'}")
