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
from segic_d2.io.rle import decode, encode
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


def box(labels, stem, *corners, label="box", **more):
    """A file of labelme with a box (x0, y0, x1, y1) alone."""
    x0, y0, x1, y1 = corners
    points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    shape = {"label": label, "points": points, "group_id": None, "shape_type": "polygon"}
    content = json.loads((labels / f"{stem}.json").read_text())
    (labels / f"{stem}.json").write_text(json.dumps({**content, "shapes": [shape], **more}))


def copied(labels, part, *stems):
    part.mkdir(parents=True)
    for name in [f"{stem}{suffix}" for stem in stems for suffix in (".png", ".json")]:
        (part / name).write_bytes((labels / name).read_bytes())
    return part


def shown(name, file):
    return {p.file_name.rsplit("/")[-1]: p.masks() for p in read_annotations(name)}[file]


def test_labels_of_an_earlier_round_are_compared_with_that_round(tmp_path):
    predictor = tiny_predictor()
    label_folder(predictor, write_pictures(tmp_path / "in", 5), tmp_path / "out", "labelme")
    labels = tmp_path / "out/round-1/labels"
    part = copied(labels, tmp_path / "part", "0001")
    box(part, "0001", 5, 5, 40, 30)
    assert label_again(predictor, tmp_path / "out", str(part)).given == 1
    box(labels, "0003", 1, 2, 30, 20)
    report = label_again(predictor, tmp_path / "out", str(labels))
    assert report.given == 2
    assert shown(report.name, "0001.png")["box"].sum() == 35 * 25  # not as round 1 had it
    assert shown(report.name, "0003.png")["box"].sum() == 29 * 18


def test_a_file_that_is_deleted_in_place_makes_no_part_of_the_rest(tmp_path):
    predictor = tiny_predictor()
    label_folder(predictor, write_pictures(tmp_path / "in", 4), tmp_path / "out", "labelme")
    labels = tmp_path / "out/round-1/labels"
    box(labels, "0001", 5, 5, 40, 30)
    (labels / "0002.json").unlink()
    assert label_again(predictor, tmp_path / "out", str(labels)).given == 1


def test_corrections_that_cannot_be_are_refused(tmp_path, monkeypatch):
    predictor, out = tiny_predictor(), tmp_path / "out"
    pictures = write_pictures(tmp_path / "in", 3)
    label_folder(predictor, pictures, out, "labelme", names={"box": "crate"})
    labels = out / "round-1/labels"
    twice = tmp_path / "twice"
    for name in "xy":
        copied(labels, twice / name, "0001")
    with pytest.raises(ValueError, match="x/0001.png and .*y/0001.png are both of .*in/0001.png"):
        label_again(predictor, out, f"labelme:{twice}")
    small = copied(labels, tmp_path / "small", "0001")
    Image.new("RGB", (40, 30)).save(small / "0001.png")
    box(small, "0001", 1, 1, 9, 9, imageWidth=40, imageHeight=30)
    with pytest.raises(ValueError, match="0001.png is 40x30 px; round 1 labelled it as 80x60 px"):
        label_again(predictor, out, f"labelme:{small}")
    part = copied(labels, tmp_path / "labelme", "0001")  # a folder may be named like a format
    monkeypatch.chdir(tmp_path)
    box(part, "0001", 1, 1, 9, 9)
    with pytest.raises(ValueError, match="class 'box' is called 'crate' in these labels"):
        label_again(predictor, out, "labelme")
    box(part, "0001", 1, 1, 9, 9, label="crate")
    (pictures / "0001.png").rename(tmp_path / "away.png")
    with pytest.raises(ValueError, match="in/0001.png was corrected and is not there any more"):
        label_again(predictor, out, "labelme")
    Image.new("RGB", (40, 30)).save(pictures / "0001.png")
    with pytest.raises(ValueError, match="was corrected as 80x60 px and is another picture"):
        label_again(predictor, out, "labelme")
    (tmp_path / "away.png").rename(pictures / "0001.png")
    assert label_again(predictor, out, "labelme").given == 1


def test_objects_that_are_parted_are_a_correction(tmp_path):
    predictor, out = tiny_predictor(), tmp_path / "out"
    label_folder(predictor, write_pictures(tmp_path / "in", 3), out, instances=True, min_score=0)
    file = out / "round-1/labels/annotations.json"
    content = json.loads(file.read_text())
    thing = content["annotations"][0]
    mask = decode(thing["segmentation"], 60, 80)
    left = mask & (np.arange(80) < np.argwhere(mask)[:, 1].mean())
    thing["segmentation"] = encode(left)
    more = {**thing, "id": 999, "segmentation": encode(mask & ~left), "iscrowd": 1}
    content["annotations"].append(more)  # as CVAT gives masks
    file.write_text(json.dumps(content))
    report = label_again(predictor, out, str(file))
    assert report.given == 1
    again = json.loads((out / "round-2/labels/annotations.json").read_text())["annotations"]
    own = [t for t in again if t["image_id"] == thing["image_id"]]
    masks = [decode(t["segmentation"], 60, 80) for t in own]
    assert any(np.array_equal(m, left) for m in masks)
    assert any(np.array_equal(m, mask & ~left) for m in masks)


@pytest.mark.parametrize("what", ["gone", "smaller", "broken"])
def test_a_picture_that_changes_during_an_interruption(predictor, tmp_path, monkeypatch, what):
    pictures = write_pictures(tmp_path / "in", 20)
    real, calls = work.label_pictures, []

    def stop(predictor, files, how):
        calls.append(len(files))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(predictor, files, how)

    monkeypatch.setattr(work, "label_pictures", stop)
    with pytest.raises(KeyboardInterrupt):
        label_folder(predictor, pictures, tmp_path / "out")
    file = pictures / "0003.png"
    if what == "smaller":
        Image.new("RGB", (40, 30)).save(file)
    else:
        file.write_bytes(b"broken") if what == "broken" else file.unlink()
    report = label_folder(predictor, pictures, tmp_path / "out")
    gone = what != "smaller"
    assert (report.pictures, report.unreadable) == (20 - gone, gone)
    assert calls == [16, 4, 16, 4]
    found = read_annotations(report.name)
    assert not found.faults and len(found) == 20 - gone


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
    mine = tmp_path / "mine.json"
    content = json.loads(near)
    content["annotations"].pop()
    mine.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="name a folder of them here: coco:.*mine.json:IMAGES"):
        label_again(predictor, out.place, str(mine))
    name = f"coco:{mine}:{pictures}"
    assert label_again(predictor, out.place, name).given == 1


def test_the_calls_are_of_the_package():
    assert segic_d2.label_folder is label_folder and segic_d2.label_again is label_again
