import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.io.masks import read_label_map
from segic_d2.io.writer import OVERLAY_SIDE, PredictionWriter, label_image
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.full_disk import full_disk
from tests.predictor.parts import H, W


def test_label_image_keeps_every_id(tmp_path):
    for top in (254, 255, 40000):
        labels = np.arange(H * W).reshape(H, W) % (top + 1)
        labels[0, 0] = top
        label_image(labels).save(tmp_path / "labels.png")
        np.testing.assert_array_equal(read_label_map(tmp_path / "labels.png"), labels)


def test_an_id_that_a_label_image_cannot_hold_is_named():
    with pytest.raises(ValueError, match="the id 65536 does not fit"):
        label_image(np.array([[0, 65536]]))


def test_a_full_disk_leaves_the_files_of_before(tmp_path):
    """Each kind of file: the one that fails is named, the others are whole."""
    result = found_in("x.png")
    PredictionWriter(tmp_path, merge=True).write(result, "a")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert {Path(name).suffix for name in before} == {".png", ".jpg"}
    for size in (64, max(map(len, before.values())) - 10):
        with full_disk(size), pytest.raises(OSError, match=str(tmp_path / "a_")):
            PredictionWriter(tmp_path, merge=True).write(result, "a")
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


ODD = (
    *("../../x", "/etc/x", "~root", "$HOME", "con:aux", "-rf", ".", "..", "", " "),
    *("\x1b[31m", "a\0b", "a\nb", "\u202ex", "\ud800", "👨\u200d👩", "𐐀" * 99, "狐" * 300),
    *("$\\frac{$", "a" * 1000),
)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_written_inside_the_folder(tmp_path, name):
    """As the name of an entity and as that of a picture; twice, so that it is numbered."""
    out, result = tmp_path / "out", found_in("x.png")
    result.names = [name]
    writer = PredictionWriter(out, merge=True)
    written = [path for _ in range(2) for path in writer.write(result, name)]
    assert len(set(written)) == 6 == len(list(out.iterdir()))
    assert all(path.parent == out and path.is_file() for path in written)
    assert os.listdir(tmp_path) == ["out"]


def test_files_of_a_result(tmp_path):
    """A mask each, the overlay, at most so large, and what is merged."""
    side = OVERLAY_SIDE + 100
    masks = np.zeros((2, side, side), dtype=bool)
    masks[0, side // 2 :] = True  # the second entity is not found
    image, frame = np.full((side, side, 3), 100, np.uint8), Frame(side, (side, side), (side, side))
    logits, scores = torch.from_numpy(masks).float() - 0.5, np.array([0.9, 0])
    result = Segmentation(logits, scores, [1, 2], ["cat", None], frame, image=image, arrays=True)
    written = PredictionWriter(tmp_path, merge=True).write(result, "a")
    names = ["a_overlay.jpg", "a_labels.png", "a_cat.png", "a_entity2.png"]
    assert [path.name for path in written] == names
    assert Image.open(written[0]).size == (OVERLAY_SIDE, OVERLAY_SIDE)
    np.testing.assert_array_equal(read_label_map(written[1]), masks[0])
    for path, mask in zip(written[2:], masks, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask * np.uint8(255))


def found_in(file, image=None):
    """A result of a picture with one entity that fills it."""
    image = np.zeros((8, 8, 3), np.uint8) if image is None else image
    frame = Frame(8, (8, 8), (8, 8))
    return Segmentation(
        torch.ones(1, 8, 8),
        np.ones(1),
        [1],
        ["cat"],
        frame,
        image=image,
        arrays=True,
        file_name=file,
    )


def test_only_results_of_the_same_picture_are_written_over(tmp_path, monkeypatch):
    """Not somebody's file, be it a picture or not, not a link, not another picture's result."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a_cat.png", comment="mine")
    Path("a_overlay.jpg").write_text("no picture")
    Path("a_labels.png").symlink_to("nowhere")
    before = Path("a_cat.png").read_bytes(), Path("a_overlay.jpg").read_bytes()

    def write(file, image=None):
        written = PredictionWriter(".", merge=True).write(found_in(file, image), "a")
        return [path.name for path in written]

    own = ["a_overlay_2.jpg", "a_labels_2.png", "a_cat_2.png"]
    assert write("p/a.jpg") == own
    white = np.full((8, 8, 3), 255, np.uint8)
    assert write(str(tmp_path / "p" / "a.jpg"), white) == own  # the same command again
    assert np.asarray(Image.open("a_overlay_2.jpg"))[0, 0].mean() > 60
    others = ["a_overlay_3.jpg", "a_labels_3.png", "a_cat_3.png"]
    assert write("q/a.jpg") == others and write("q/a.jpg") == others
    assert write("https://x.org/p/a.jpg")[0] == "a_overlay_4.jpg" and write("p/a.jpg") == own
    assert (Path("a_cat.png").read_bytes(), Path("a_overlay.jpg").read_bytes()) == before
    assert not Path("a_labels.png").exists() and not Path("nowhere").exists()


def test_what_must_be_kept_is_not_written_over(tmp_path):
    kept = [tmp_path / "a_overlay.jpg", tmp_path / "A_cat.png", tmp_path / "other" / "a_2.png"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    image, frame, logits = (
        np.zeros((8, 8, 3), np.uint8),
        Frame(8, (8, 8), (8, 8)),
        torch.ones(2, 8, 8),
    )
    names = ["cat", None]
    result = Segmentation(logits, np.ones(2), [1, 2], names, frame, image=image, arrays=True)
    written = PredictionWriter(tmp_path, keep=kept).write(result, "a")
    names = {file.name for file in written}
    assert names == {"a_overlay_2.jpg", "a_cat_2.png", "a_entity2.png"}
    assert all(file.read_text() == "mine" for file in kept)


def test_an_earlier_mask_of_what_is_absent_now_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a_dog.png")  # somebody's
    PredictionWriter(".").write(found_in("a.jpg"), "a")
    Path("b_cat.png").write_bytes(Path("a_cat.png").read_bytes())
    nothing = found_in("a.jpg").take([])
    written = PredictionWriter(".").write(nothing, "a", absent=["cat", "dog", "emu"])
    assert [path.name for path in written] == ["a_overlay.jpg"]
    assert sorted(path.name for path in Path().iterdir()) == [
        "a_dog.png",
        "a_overlay.jpg",
        "b_cat.png",
    ]
