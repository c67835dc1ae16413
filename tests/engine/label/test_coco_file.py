"""A COCO file of labels opens elsewhere as it is, and trains the next decoder."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from pycocotools.coco import COCO

from segic_d2.data.datasets import register_by_name
from segic_d2.engine.label import label_folder
from segic_d2.io.annotations import read_annotations
from tests.engine.label.boxes import tiny_predictor, write_pictures
from tests.engine.short_runs import train


@pytest.fixture(scope="module", params=[None, 1.0])
def labels(tmp_path_factory, request):
    """The report of a labelled folder: exact masks, and polygons."""
    folder = tmp_path_factory.mktemp("coco")
    pictures = write_pictures(folder / "in", 4)
    return label_folder(tiny_predictor(), pictures, folder / "out", tolerance=request.param)


def places(report):
    _, file, images = report.name.split(":")
    return file, images


def masks_of(report):
    return {p.file_name.rsplit("/")[-1]: p.masks()["box"] for p in read_annotations(report.name)}


def test_pycocotools_reads_it(labels):
    coco, masks = COCO(places(labels)[0]), masks_of(labels)
    assert [c["name"] for c in coco.dataset["categories"]] == ["box"]
    for number, image in coco.imgs.items():
        found = sum(coco.annToMask(a) for a in coco.imgToAnns[number]) > 0
        assert np.array_equal(found, masks[image["file_name"]])


def test_detectron2_registers_it(labels):
    file, images = places(labels)
    name = f"labels-{id(labels)}"
    register_coco_instances(name, {}, file, images)
    try:
        records = DatasetCatalog.get(name)
        assert len(records) == 4 and MetadataCatalog.get(name).thing_classes == ["box"]
        assert all(np.asarray(Image.open(r["file_name"])).shape == (60, 80, 3) for r in records)
        things = [a for r in records for a in r["annotations"]]
        assert things and {type(a["segmentation"]) for a in things} <= {list, dict}
    finally:
        DatasetCatalog.remove(name), MetadataCatalog.remove(name)


def test_supervision_reads_it(labels):
    supervision = pytest.importorskip("supervision")
    file, images = places(labels)
    found = supervision.DetectionDataset.from_coco(images, file, force_masks=True)
    assert len(found) == 4 and found.classes == ["box"]
    if isinstance(json.load(open(file))["annotations"][0]["segmentation"], dict):  # noqa: SIM115
        masks = masks_of(labels)
        for path, _, detections in found:
            assert np.array_equal(detections.mask.any(0), masks[path.rsplit("/")[-1]])


def test_it_trains_the_next_decoder(labels, tmp_path):
    register_by_name(labels.name)
    opts = "DATASETS.TRAIN", (labels.name,), "DATASETS.EPISODE_MAPPERS", (), "SOLVER.MAX_ITER", 2
    trainer, losses = train(tmp_path / "out", *opts)
    assert sorted(losses) == [0, 1] and all(np.isfinite(v).all() for v in losses.values())
    assert (tmp_path / "out/model_final.pth").is_file()
