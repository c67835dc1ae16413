"""What labelling tools export, as datasets of training and evaluation."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BitMasks, Instances
from PIL import Image

from segic_d2.data import build_target_loader, build_train_loader
from segic_d2.data.build import build_one_shot_loader
from segic_d2.data.datasets.annotated import give_truth_file
from segic_d2.data.health.damaged import DamagedDataError, leaving_out
from segic_d2.data.index import Source, load_records
from segic_d2.data.records import class_masks, instance_masks
from segic_d2.evaluation import build_coco_evaluator
from segic_d2.io.annotations import Annotated, Thing, write_annotations
from segic_d2.io.rle import encode
from tests.data import toy

FORMATS = ("coco", "yolo", "labelme", "cvat", "labelstudio")


def pictures(folder):
    """The toy scenes as they are to be written."""
    found = []
    (folder / "in").mkdir(parents=True, exist_ok=True)
    for i, (image, objects) in enumerate(toy.scenes(6)):
        Image.fromarray(image).save(folder / "in" / f"{i}.png")
        things = []
        for class_id, (x, y, w, h) in objects:
            mask = np.zeros(toy.SIZE, bool)
            mask[y : y + h, x : x + w] = True
            things.append(Thing(class_id, encode(mask)))
        found.append(Annotated(f"{folder}/in/{i}.png", toy.SIZE, toy.NAMES, things, i))
    return found


@pytest.fixture(params=(*FORMATS, "voc"))
def name(request, tmp_path):
    if request.param != "voc":
        return write_annotations(request.param, pictures(tmp_path), tmp_path / "out")
    write_annotations("masks", pictures(tmp_path), tmp_path / "voc")
    (tmp_path / "voc" / "images").rename(tmp_path / "voc" / "JPEGImages")
    (tmp_path / "voc" / "masks").rename(tmp_path / "voc" / "SegmentationClass")
    names = "\n".join(["_background_", *toy.NAMES])
    (tmp_path / "voc" / "class_names.txt").write_text(names)
    return f"voc:{tmp_path / 'voc'}"


def test_every_format_trains_and_is_evaluated(name):
    source = Source(name)
    shift = int(name.startswith("voc"))
    assert sorted(source.names[shift:]) == sorted(toy.NAMES) and len(source.records) == 6
    for row, (_, objects) in enumerate(toy.scenes(6)):
        shown = {toy.NAMES[c] for c, _ in objects}
        assert {source.names[c] for c in source.presence[row]} == shown
        label = source.names.index(toy.NAMES[objects[1][0]])
        masks, ignored = class_masks(source.records[row], [label])
        x, y, w, h = objects[1][1]
        assert masks[0].sum() == w * h and masks[0][y : y + h, x : x + w].all()
        assert ignored is None
        if not shift:
            own, labels = instance_masks(source.records[row])
            assert len(own) == 3 and source.counts[row] == 3
    batch = next(iter(build_train_loader(toy.config((name,)))))
    assert len(batch) == 4 and all(x["masks"].any() for x in batch)
    loader = build_one_shot_loader(toy.config((name,), test__episodes=3), name)
    assert len([x for batch in loader for x in batch]) == 3


def test_records_of_coco_are_those_of_detectron2(tmp_path):
    toy.coco(tmp_path)
    file, images = str(tmp_path / "coco.json"), str(tmp_path / "images")
    name = f"coco:{file}:{images}"
    ours, theirs = load_records(name), load_coco_json(file, images, "coco_check")
    assert [dict(r) for r in ours] == theirs
    found, stock = MetadataCatalog.get(name), MetadataCatalog.get("coco_check")
    assert found.thing_classes == stock.thing_classes
    assert found.thing_dataset_id_to_contiguous_id == stock.thing_dataset_id_to_contiguous_id
    assert (found.json_file, found.image_root, found.evaluator_type) == (file, images, "coco")
    assert ours[-1] == theirs[-1] and ours[2:4] == theirs[2:4]


def test_what_is_wrong_is_named_or_left_out(tmp_path):
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"][0]["segmentation"] = [[1, None, 3, 4, 5, 6]]
    data["annotations"][1]["category_id"] = 99
    (tmp_path / "bad.json").write_text(json.dumps(data))
    name = f"coco:{tmp_path}/bad.json:{tmp_path}/images"
    with pytest.raises(DamagedDataError, match="2 damaged or missing: .*annotation 1: .*None"):
        Source(name)
    with leaving_out() as found:
        source = Source(name)
    assert len(found) == 2 and source.counts.sum() == 22
    data["annotations"][1]["category_id"] = 11
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"bad.json: annotation 1: polygon 1 has None"):
        Source(name)


def test_what_is_left_out_is_said(tmp_path, caplog):
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"][0]["segmentation"] = [[90, 0, 95, 0, 95, 20]]
    (tmp_path / "out.json").write_text(json.dumps(data))
    Source(f"coco:{tmp_path}/out.json:{tmp_path}/images")
    assert "out.json: 1 outside of their picture: left out" in caplog.text


@pytest.mark.parametrize("kind", ["yolo", "cvat"])
def test_objects_of_every_format_are_scored(tmp_path, monkeypatch, kind):
    """The stock COCOEvaluator gives 100 to the truth itself."""
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    assert score(write_annotations(kind, pictures(tmp_path), tmp_path / "out"))["AP"] == 100


ODD = {
    "no area": lambda d: [a.pop("area", None) for a in d["annotations"]],
    "area is null, text or 0": lambda d: [
        a.update(area=v) for a, v in zip(d["annotations"], [None, "x", 0, "9"] * 6, strict=False)
    ],
    "sizes are text": lambda d: [i.update(height=str(i["height"])) for i in d["images"]],
    "no sizes": lambda d: [i.pop("height") for i in d["images"]],
    "iscrowd is text": lambda d: [a.update(iscrowd="0") for a in d["annotations"]],
    "ids are text": lambda d: [
        *[i.update(id=f"i{i['id']}") for i in d["images"]],
        *[a.update(image_id=f"i{a['image_id']}") for a in d["annotations"]],
    ],
    "a class that groups": lambda d: d["categories"].append(
        {"id": 0, "name": "things", "supercategory": "none"}
    ),
    "no ids of annotations": lambda d: [a.pop("id") for a in d["annotations"]],
    "no info": lambda d: d.pop("info", None),
    "no boxes": lambda d: [a.pop("bbox", None) for a in d["annotations"]],
}


@pytest.mark.parametrize("odd", ODD)
def test_files_that_lack_something_are_scored_to_the_end(tmp_path, monkeypatch, odd):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    ODD[odd](data)
    (tmp_path / "odd.json").write_text(json.dumps(data), encoding="utf-8-sig")
    found = score(f"coco:{tmp_path}/odd.json:{tmp_path}/images")
    assert found["AP"] == 100 and found["APs"] == 100


def test_areas_of_the_file_sort_objects(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    for annotation in data["annotations"]:
        annotation["area"] = 99.0**2
    (tmp_path / "large.json").write_text(json.dumps(data))
    found = score(f"coco:{tmp_path}/large.json:{tmp_path}/images")
    assert found["APl"] == 100 and np.isnan(found["APs"])


def score(name):
    """What the stock COCOEvaluator says of the truth itself."""
    records = load_records(name)
    give_truth_file(name)
    evaluator = build_coco_evaluator(name)
    evaluator.reset()
    for record in records:
        masks, labels = instance_masks(record)
        found = Instances(toy.SIZE, pred_masks=torch.as_tensor(masks))
        found.scores, found.pred_classes = torch.ones(len(labels)), torch.as_tensor(labels)
        found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()["segm"]


def test_targets_of_every_format(name):
    """As stock evaluators see them: the picture, and nothing of its annotations."""
    loader = build_target_loader(toy.config((name,)), name)
    found = [target for batch in loader for target in batch]
    assert [(x["height"], x["width"]) for x in found] == [toy.SIZE] * 6
    assert all("annotations" not in x for x in found)
    assert len({x["image_id"] for x in found}) == 6


def test_sizes_of_other_pictures_are_said_on_load(tmp_path):
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    file, name = tmp_path / "turned.json", f"coco:{tmp_path}/turned.json:{tmp_path}/images"
    for image in data["images"][2:4]:
        image["height"], image["width"] = image["width"], image["height"]
        for annotation in data["annotations"]:
            if annotation["image_id"] == image["id"]:
                annotation["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    file.write_text(json.dumps(data))
    with pytest.raises(DamagedDataError) as error:
        Source(name)
    text, (height, width) = str(error.value), toy.SIZE
    assert text.startswith("2 damaged or missing: ")
    assert f"2.png is {width}x{height} px as displayed, its record says {height}x{width} px" in text
    toy.coco(tmp_path)
    data["images"] = json.loads((tmp_path / "coco.json").read_text())["images"]
    data["categories"][0]["name"] = "mended"
    file.write_text(json.dumps(data))
    assert Source(name).names[0] == "mended"  # the same name, in the same process


def test_nothing_that_is_read_is_marked(tmp_path):
    toy_file = tmp_path / "a.json"
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    box = {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    about = {"imagePath": "a.png", "imageHeight": 20, "imageWidth": 20, "shapes": [box]}
    toy_file.write_text(json.dumps(about))
    with pytest.raises(ValueError, match="has no masks, only shapes that are none: 1 of the"):
        load_records(f"labelme:{tmp_path}")
