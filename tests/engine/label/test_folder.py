"""Rounds of labelling, in one process."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

import segic_d2
from segic_d2.engine.label import label_again, label_folder, work
from segic_d2.io.annotations import read_annotations
from segic_d2.utils.store import Store
from tests.engine.label.boxes import files_of, tiny_predictor, write_pictures

FORMATS = ("coco", "labelme", "yolo", "cvat", "labelstudio", "masks")


@pytest.fixture(scope="module")
def predictor():
    return tiny_predictor()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_labels_are_what_the_predictor_says(predictor, tmp_path, kind):
    pictures = write_pictures(tmp_path / "in", 5)
    before = files_of(pictures)
    tolerance = 0 if kind in ("labelme", "yolo") else None
    report = label_folder(predictor, pictures, tmp_path / "out", kind, tolerance=tolerance)
    assert (report.number, report.pictures, report.unreadable, report.changed) == (1, 5, 0, None)
    assert files_of(pictures) == before
    found = read_annotations(report.name)
    assert not found.faults
    by_stem = {picture.file_name.rsplit("/")[-1]: picture for picture in found}
    for file in sorted(pictures.iterdir()):
        result = predictor(file)
        masks = by_stem[file.name].masks()
        assert set(masks) == {n for n, area in zip(result.names, result.areas, strict=True) if area}
        for name, mask in masks.items():
            assert np.array_equal(mask, result.masks[result.names.index(name)])


def test_polygons_keep_to_their_tolerance(predictor, tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    report = label_folder(predictor, pictures, tmp_path / "out", "labelme")
    corners = 0
    for file in sorted(pictures.iterdir()):
        shapes = json.loads((tmp_path / f"out/round-1/labels/{file.stem}.json").read_text())
        corners += sum(len(shape["points"]) for shape in shapes["shapes"])
    exact = label_folder(predictor, pictures, tmp_path / "exact", "labelme", tolerance=0)
    more = 0
    for rough, fine in zip(
        read_annotations(report.name), read_annotations(exact.name), strict=True
    ):
        more += sum(len(r) // 2 for t in fine.things for r in t.segmentation)
        for name, mask in fine.masks().items():
            away = rough.masks()[name] ^ mask
            edge = np.zeros_like(mask)
            for axis in (0, 1):
                for step in (-2, -1, 1, 2):
                    edge |= np.roll(mask, step, axis) != mask
            assert not (away & ~edge).any()
    assert corners < more


def test_what_is_finished_stays_and_other_arguments_are_refused(predictor, tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    report = label_folder(predictor, pictures, tmp_path / "out")
    files = files_of(tmp_path / "out", but=())
    assert label_folder(predictor, pictures, tmp_path / "out") == report
    assert files_of(tmp_path / "out", but=()) == files
    with pytest.raises(ValueError, match="begun with format 'coco', now it is 'yolo'"):
        label_folder(predictor, pictures, tmp_path / "out", "yolo")
    with pytest.raises(ValueError, match="begun with other references"):
        label_folder(tiny_predictor(("cat",)), pictures, tmp_path / "out")


def test_an_interrupted_round_goes_on_to_the_same_files(predictor, tmp_path, monkeypatch):
    pictures = write_pictures(tmp_path / "in", 40)
    label_folder(predictor, pictures, tmp_path / "whole")
    real, calls = work.label_pictures, []

    def stop(predictor, files, how):
        calls.append(list(files))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(predictor, files, how)

    monkeypatch.setattr(work, "label_pictures", stop)
    with pytest.raises(KeyboardInterrupt):
        label_folder(predictor, pictures, tmp_path / "out")
    assert not (tmp_path / "out/round-1/labels").exists()
    half = tmp_path / "out/round-1/chunks/000001.json.part"  # of a writer that was killed
    half.write_text("[")
    report = label_folder(predictor, pictures, tmp_path / "out")
    assert not half.exists()
    assert [len(files) for files in calls] == [16, 16, 16, 8]  # the second again, the first not
    assert report.pictures == 40
    ours, whole = (files_of(tmp_path / name) for name in ("out", "whole"))
    ours.pop("round-1/report.json"), whole.pop("round-1/report.json")  # of paths
    assert ours == whole


def test_an_unreadable_picture_stands_at_the_top(predictor, tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    (pictures / "0001.png").write_bytes(b"no picture")
    report = label_folder(predictor, pictures, tmp_path / "out")
    assert (report.pictures, report.unreadable) == (2, 1)
    with open(report.review) as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["file"].endswith("0001.png") and "no picture" in rows[0]["error"]
    doubts = [float(row["doubt"]) for row in rows[1:]]
    assert doubts == sorted(doubts, reverse=True) and len(doubts) == 2
    assert len(read_annotations(report.name)) == 2


def test_corrections_stay_and_become_references(tmp_path):
    predictor = tiny_predictor()
    pictures = write_pictures(tmp_path / "in", 4)
    report = label_folder(predictor, pictures, tmp_path / "out", "labelme")
    labels = tmp_path / "out/round-1/labels"
    content = json.loads((labels / "0002.json").read_text())
    shape = {"label": "box", "points": [[5, 5], [40, 5], [40, 30], [5, 30]], "group_id": None}
    content["shapes"] = [{**shape, "shape_type": "polygon", "flags": {}}]
    (labels / "0002.json").write_text(json.dumps(content))
    files = files_of(tmp_path / "out", but=())
    first = predictor.context
    again = label_again(predictor, tmp_path / "out", str(labels))
    assert (again.number, again.pictures, again.given) == (2, 4, 1)
    assert 0 <= again.similar <= 1 and again.changed <= 4
    now = files_of(tmp_path / "out", but=())
    assert {name: now[name] for name in files} == files
    assert predictor.context.shots.sum() == first.shots.sum() + 1
    found = {p.file_name.rsplit("/")[-1]: p.masks() for p in read_annotations(again.name)}
    expected = np.zeros((60, 80), bool)
    expected[5:30, 5:40] = True
    assert np.array_equal(found["0002.png"]["box"], expected)
    result = predictor(pictures / "0000.png")  # the rest is labelled by the new references
    (record, *_) = json.loads((tmp_path / "out/round-2/chunks/000000.json").read_text())
    assert record["things"][0][2] == result.to_annotated().things[0].segmentation["counts"]
    with pytest.raises(ValueError, match="all 4 pictures are as round 2 wrote them"):
        label_again(predictor, tmp_path / "out", str(tmp_path / "out/round-2/labels"))
    assert report.name != again.name


def test_a_part_of_the_folder_is_all_taken(tmp_path):
    predictor = tiny_predictor()
    pictures = write_pictures(tmp_path / "in", 4)
    label_folder(predictor, pictures, tmp_path / "out", "labelme")
    part = tmp_path / "part"
    part.mkdir()
    for name in ("0001.png", "0001.json"):
        (part / name).write_bytes((tmp_path / "out/round-1/labels" / name).read_bytes())
    assert label_again(predictor, tmp_path / "out", f"labelme:{part}").given == 1


def test_a_class_that_is_new_becomes_an_entity(tmp_path):
    predictor = tiny_predictor()
    pictures = write_pictures(tmp_path / "in", 3)
    label_folder(predictor, pictures, tmp_path / "out", "masks", names={"box": "crate"})
    part = tmp_path / "part"
    for name in ("images", "masks"):
        (part / name).mkdir(parents=True)
    (part / "images/0000.png").write_bytes((pictures / "0000.png").read_bytes())
    labels = np.zeros((60, 80), np.uint8)
    labels[5:20, 5:20], labels[40:50, 40:60] = 1, 2
    Image.fromarray(labels).save(part / "masks/0000.png")
    (part / "classes.txt").write_text("1 crate\n2 sky\n")
    again = label_again(predictor, tmp_path / "out", f"folder:{part}")
    assert predictor.context.names == ["box", "sky"]
    assert predictor.context.shots.sum(1).tolist() == [2, 1]
    assert set(read_annotations(again.name)[0].masks()) == {"crate", "sky"}


def test_rounds_that_are_not_due_are_refused(predictor, tmp_path):
    pictures = write_pictures(tmp_path / "in", 2)
    with pytest.raises(ValueError, match="no finished first round"):
        label_again(predictor, tmp_path / "out", str(pictures))
    label_folder(predictor, pictures, tmp_path / "out")
    with pytest.raises(ValueError, match="the one that is due in .* is 2"):
        label_again(predictor, tmp_path / "out", str(pictures), number=3)
    with pytest.raises(ValueError, match="needs what was corrected"):
        label_again(predictor, tmp_path / "out")
    with pytest.raises(ValueError, match="no such file or folder"):
        label_again(predictor, tmp_path / "out", str(tmp_path / "nowhere"))
    other = write_pictures(tmp_path / "other", 1)
    (other / "0000.png").rename(other / "strange.png")
    (other / "strange.json").write_text(
        json.dumps({"shapes": [], "imagePath": "strange.png", "imageHeight": 60, "imageWidth": 80})
    )
    with pytest.raises(ValueError, match=re.escape("has no picture 'strange.png'")):
        label_again(predictor, tmp_path / "out", f"labelme:{other}")


def test_places_of_other_machines(predictor, tmp_path):
    pictures = write_pictures(tmp_path / "in", 3)
    label_folder(predictor, pictures, tmp_path / "out")
    far = Store("memory://bucket/pictures")
    for file in pictures.iterdir():
        far.write(file.name, file.read_bytes())
    out = Store("memory://bucket/out")
    report = label_folder(predictor, "memory://bucket/pictures", out.place)
    assert report.name.startswith("coco:memory://bucket/out/round-1/labels/annotations.json:")
    near = (tmp_path / "out/round-1/labels/annotations.json").read_bytes()
    assert out.read("round-1/labels/annotations.json") == near
    assert out.read("round-1/labels/images/0001.png") == (pictures / "0001.png").read_bytes()
    assert label_folder(predictor, "memory://bucket/pictures", out.place) == report


def test_the_calls_are_of_the_package():
    assert segic_d2.label_folder is label_folder and segic_d2.label_again is label_again
