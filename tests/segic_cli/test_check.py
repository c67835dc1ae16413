"""``segic check``: tables, and the exit status."""

import json

import pytest
from PIL import Image

from segic_cli.main import main
from tests.data import toy


@pytest.fixture
def data(tmp_path):
    """A COCO file, as a dict, and its folder."""
    toy.coco(tmp_path, 4)
    return tmp_path, json.loads((tmp_path / "coco.json").read_text())


def check(capsys, folder, content, *options):
    """The exit status and the lines of a check."""
    (folder / "own.json").write_text(json.dumps(content))
    status = main(["check", f"coco:{folder}/own.json:{folder}/images", *options])
    return status, capsys.readouterr().out.splitlines()


def test_what_a_data_set_holds(data, capsys):
    status, found = check(capsys, *data)
    assert status == 0
    assert found == [
        "pictures   4",
        "sizes      64x48 to 64x48 px, median 64x48",
        "classes    3",
        "objects    12",
        "left out   1 crowds, which are ignored",
        "",
        "class        pictures  objects",
        "red thing           3        5",
        "green thing         3        4",
        "blue thing          2        3",
        "",
        "nothing is wrong",
    ]


def test_all_that_is_wrong(data, capsys):
    folder, content = data
    content["annotations"][0]["segmentation"] = [[1, None, 3, 4, 5, 6]]
    content["annotations"][1]["category_id"] = 99
    content["images"][2]["file_name"] = "gone.png"
    Image.new("RGB", (64, 50)).save(folder / "images" / "1.png")
    (folder / "images" / "3.png").write_bytes(b"no picture")
    status, found = check(capsys, folder, content)
    assert status == 1 and found[0] == "pictures   3"
    wrong = found[found.index("wrong: 5") + 1 :]
    for part in ("annotation 1: polygon 1 has None", "annotation 2: category_id is 99",
                 "image 102: no such file", "1.png is 64x50 px as displayed, its record says 64x48",
                 "cannot read image"):  # fmt: skip
        assert sum(part in line for line in wrong) == 1, part
    assert len(wrong) == 5


def test_a_cut_picture_shows_when_it_is_read(data, capsys):
    folder, content = data
    file = folder / "images" / "0.png"
    file.write_bytes(file.read_bytes()[:-3000])
    assert check(capsys, folder, content)[0] == 0
    status, found = check(capsys, folder, content, "--full")
    assert status == 1 and "0.png" in found[-1]


def test_nothing_but_faults(data, capsys):
    folder, content = data
    for image in content["images"]:
        image["file_name"] = "gone.png"
    status, found = check(capsys, folder, content)
    assert status == 1 and found[0] == "pictures   0" and "no such file" in found[-2]
    assert main(["check", "coco_2099_train"]) == 1
    assert "'coco_2099_train' is no registered data set" in capsys.readouterr().err


def test_folders_and_label_maps(tmp_path, capsys):
    toy.folder_b(tmp_path)
    assert main(["check", str(tmp_path / "b")]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found[0] == "pictures   6" and found[2] == "classes    3"
    assert found[4:6] == ["class        pictures  objects", "red thing           4        -"]
