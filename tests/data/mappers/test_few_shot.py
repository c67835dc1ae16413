"""An episode of a benchmark as the model gets it."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from segic_d2.data import check_data
from segic_d2.data.benchmarks import Sample, dataset_name, find_fold, list_episodes
from segic_d2.data.mappers.few_shot import FewShotMapper
from tests.data import toy
from tests.miniatures import coco20i, fss1000
from text_table import dataset_classes

CLASSES = {7: "dog"}
SIZE = (40, 80)
ITEM = {
    "episode": 3,
    "class_id": 7,
    "target": "t.png",
    "references": ("r.png", "r.png"),
    "objects": None,
}


class Reader:
    """A square at (8, 10) of every image; boxes and masks are the test's."""

    def __init__(self, folder, box=None, ignore=None, empty=False):
        self.folder, self.box, self.ignore, self.empty = folder, box, ignore, empty
        self.asked = []
        rng = np.random.default_rng(0)
        for name in ("t.png", "r.png"):
            Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(folder / name)

    def read(self, file_name, class_id, object=None):
        self.asked.append((file_name, class_id, object))
        mask = np.zeros(SIZE, bool)
        mask[10:20, 8:24] = not self.empty
        return Sample(str(self.folder / file_name), mask, self.ignore, self.box)


def test_the_fields_of_an_episode(tmp_path):
    reader = Reader(tmp_path)
    x = FewShotMapper(toy.config(), CLASSES, reader)(ITEM)  # canvas 56
    assert x["image"].shape == (3, 28, 56) and (x["height"], x["width"]) == SIZE
    assert x["entities"] == [{"id": 7, "name": "dog"}] and x["episode"] == 3
    assert x["gt_masks"].shape == (1, *SIZE) and x["gt_masks"].sum() == 160
    assert x["image_id"] == "t.png" and x["file_name"] == str(tmp_path / "t.png")
    first, second = x["references"]
    assert first["key"] == second["key"] == ("r.png", 7, None) and first["entity_ids"] == [7]
    assert first["masks"].shape == (1, 28, 56)
    assert first["masks"].sum() == pytest.approx(160 * 0.49, rel=0.05)
    assert reader.asked == [("t.png", 7, None), ("r.png", 7, None), ("r.png", 7, None)]


def test_references_are_zoomed_and_targets_not(tmp_path):
    """16x10 px cut out as 16x16 px, which fill the canvas; with a box, of what it leaves."""
    for box in (None, (0.0, 5.0, 60.0, 25.0)):
        plain, near = (
            FewShotMapper(toy.config(input__reference_zoom=z), CLASSES, Reader(tmp_path, box=box))
            for z in (0.0, 1.0)
        )
        (a, *_), (b, *_) = plain(ITEM)["references"], near(ITEM)["references"]
        assert b["image"].shape == (3, 56, 56) != a["image"].shape
        assert b["masks"].sum() == pytest.approx(56 * 35, rel=0.02)
        assert torch.equal(plain(ITEM)["image"], near(ITEM)["image"])


def test_network_size_is_the_canvas_without_its_padding(tmp_path):
    ignore = np.zeros(SIZE, bool)
    ignore[:4] = True
    x = FewShotMapper(
        toy.config(test__mask_size="network"), CLASSES, Reader(tmp_path, None, ignore)
    )
    x = x(ITEM)
    assert (x["height"], x["width"]) == (28, 56)
    rows, columns = (torch.arange(n) * 10 // 7 for n in (28, 56))  # torch's "nearest"
    truth = torch.zeros(SIZE, dtype=torch.bool)
    truth[10:20, 8:24] = True
    assert torch.equal(x["gt_masks"][0], truth[rows][:, columns])
    assert torch.equal(x["gt_ignore"], torch.from_numpy(ignore)[rows][:, columns])


@pytest.mark.parametrize("size", ["original", "network"])
def test_a_box_is_cut_out_before_anything_else(tmp_path, size):
    ignore = np.zeros(SIZE, bool)
    ignore[10, 8] = True
    reader = Reader(tmp_path, (7.5, 9.2, 30.5, 23.0), ignore)  # columns 7 to 30, rows 9 to 22
    item = {**ITEM, "objects": (4, 0, 1)}
    x = FewShotMapper(toy.config(test__mask_size=size), CLASSES, reader)(item)
    pixels = np.array(Image.open(tmp_path / "t.png"))[9:23, 7:31]
    expected = np.array(Image.fromarray(pixels).resize((56, 33), Image.BILINEAR))
    assert torch.equal(x["image"], torch.from_numpy(expected).permute(2, 0, 1))
    assert (x["height"], x["width"]) == ((14, 24) if size == "original" else (33, 56))
    if size == "original":
        assert x["gt_masks"][0, 1:11, 1:17].all() and x["gt_masks"].sum() == 160
        assert x["gt_ignore"].nonzero().tolist() == [[1, 1]]
    reference = x["references"][0]
    assert reference["image"].shape == (3, 33, 56)
    assert reference["masks"].sum() == pytest.approx(160 * 33 / 14 * 56 / 24, rel=0.05)
    assert [r["key"][2] for r in x["references"]] == [0, 1] and reader.asked[0][2] == 4


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="TEST.MASK_SIZE is 'canvas'; it must be 'original' or"):
        FewShotMapper(toy.config(test__mask_size="canvas"), CLASSES, Reader(tmp_path))
    with pytest.raises(ValueError, match=r"r\.png shows nothing of class 7 \(dog\)"):
        FewShotMapper(toy.config(), CLASSES, Reader(tmp_path, empty=True))(ITEM)
    with pytest.raises(ValueError, match=r"box \(90, 0, 99, 9\) lies outside of .*t\.png, 80x40"):
        FewShotMapper(toy.config(), CLASSES, Reader(tmp_path, box=(90, 0, 99, 9)))(ITEM)
    reader = Reader(tmp_path)
    Image.new("RGB", (30, 30)).save(tmp_path / "t.png")
    with pytest.raises(ValueError, match=r"mask of .*t\.png.* is 80x40 px, the image .* 30x30"):
        FewShotMapper(toy.config(), CLASSES, reader)(ITEM)
    (tmp_path / "t.png").write_bytes((tmp_path / "r.png").read_bytes()[:-900])
    with pytest.raises(ValueError, match=r"cannot read image .*t\.png"):
        FewShotMapper(toy.config(), CLASSES, reader)(ITEM)


def test_names_of_folds():
    for name, key in {"coco20i_fold3": ("coco20i", 3), "fss1000_test": ("fss1000", 0)}.items():
        assert dataset_name(*key) == name and find_fold(name) == key
    for name in ("coco20i_test", "fss1000_fold0", "fss_1000_test", "coco_2014_val", "coco20i"):
        assert find_fold(name) is None


def test_missing_files_are_found_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = toy.config(datasets__test=("coco20i_fold2",), test__evaluators=("few_shot",))

    def missing(message):
        with pytest.raises(FileNotFoundError, match=message):
            check_data(cfg, training=False)

    missing(f"no folder {tmp_path}/coco/val2014.*now {tmp_path}")
    coco20i.make(tmp_path)
    check_data(cfg, training=False)
    (tmp_path / "coco/splits/coco/val/fold2.pkl").unlink()
    check_data(cfg, training=False)  # the annotations will do
    (tmp_path / "coco/annotations/instances_val2014.json").unlink()
    missing(r"'coco20i_fold2' .*no file .*fold2\.pkl, nor any of")
    with pytest.raises(ValueError, match="'coco20i_fold4'.*similar: coco20i_fold3"):
        check_data(toy.config(datasets__test=("coco20i_fold4",)), training=False)


def test_a_fold_is_a_dataset_of_its_one_shot_episodes(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    coco20i.make(tmp_path)
    fss1000.make(tmp_path)
    (first, *_), expected = DatasetCatalog.get("coco20i_fold1"), list_episodes("coco20i", 1)
    assert first["target"] == expected.episodes[0].target and first["episode"] == 0
    assert tuple(first["references"]) == expected.episodes[0].references
    assert dataset_classes("coco20i_fold1")[:2] == ["person", "bicycle"]  # known without files
    assert dataset_classes("fss1000_test") == ["abe's flyingfish", "bus", "hotel slipper"]
