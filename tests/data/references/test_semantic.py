from collections import Counter

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data import build_reference_loader, build_target_loader
from segic_d2.data.references.plan import plan_references, same_file
from tests.data import toy
from tests.data.every_reference import load_references


def test_more_shots_keep_the_first(tmp_path):
    name, cfg = toy.coco(tmp_path), toy.config()
    few, more = (plan_references(cfg, [name], name).first(shots) for shots in (1, 3))
    assert {c: picks[:1] for c, picks in more.picks.items()} == few.picks
    assert all(len(set(picks)) == 3 for picks in more.picks.values())


def test_groups_hold_each_picture_once_with_all_that_it_stands_for(tmp_path):
    """The same references as one by one."""
    name = toy.coco(tmp_path, number=3)  # each image shows two of three classes
    cfg = toy.config(test__shots=2, model__segic__image_chunk=2)
    plan = plan_references(cfg, [name], name).first(2)
    groups = list(build_reference_loader(cfg, plan, 2))
    found = [r for group in groups for r in group]
    assert [len(group) for group in groups] == [2, 1]
    assert max(Counter(r["file_name"] for r in found).values()) == 1
    masks = {
        int(i): (r["file_name"], r["image"], mask)
        for r in found
        for i, mask in zip(r["entity_ids"], r["masks"], strict=True)
    }
    single, _ = load_references(cfg, [name])
    assert len(masks) == len(single) == 6
    for number, reference in enumerate(single):  # class by class, shot by shot
        file, image, mask = masks[number]
        assert file == reference["file_name"] and torch.equal(image, reference["image"])
        assert torch.equal(mask, reference["masks"][0])


def test_zoomed_groups_are_cut_about_all_that_they_stand_for(tmp_path):
    name, spans = toy.coco(tmp_path, number=3), []
    for zoom in (0.0, 1.0):
        cfg = toy.config(input__reference_zoom=zoom)
        plan = plan_references(cfg, [name], name).first(2)
        found = [r for group in build_reference_loader(cfg, plan, 2) for r in group]
        shown = [np.argwhere((r["masks"] > 0.5).any(0).numpy()) for r in found]
        spans.append(
            [
                max(np.ptp(x, axis=0) + 1) / max(r["image"].shape[1:])
                for x, r in zip(shown, found, strict=True)
            ]
        )
    assert all(near >= far for far, near in zip(*spans, strict=True))
    assert min(spans[1]) > 0.9 > min(spans[0])


def test_a_file_is_the_same_through_a_linked_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert same_file(tmp_path / "a/x.jpg") == same_file(tmp_path / "b/x.jpg")
    assert same_file(tmp_path / "a/x.jpg") != same_file(tmp_path / "a/y.jpg")


def labelled(tmp_path, labels, size=(6, 4)):
    name = toy.unique("labelled")
    Image.new("RGB", size).save(tmp_path / "x.jpg")
    Image.fromarray(labels).save(tmp_path / "x.png")
    record = {"file_name": str(tmp_path / "x.jpg"), "sem_seg_file_name": str(tmp_path / "x.png")}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(stuff_classes=["background", "a", "b"], ignore_label=255)
    return build_target_loader(toy.config(), name, mapper="labelled_target")


def test_a_labelled_target_says_what_it_shows(tmp_path):
    labels = np.zeros((4, 6), np.uint8)
    labels[0], labels[1] = 2, 255
    ((target,),) = list(labelled(tmp_path, labels))
    assert target["present"] == [2] and target["image"].shape[0] == 3


def test_a_label_map_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="x.png shows the ids .7., .* 3 classes"):
        list(labelled(tmp_path, np.full((4, 6), 7, np.uint8)))
    with pytest.raises(ValueError, match="x.png"):
        list(labelled(tmp_path, np.zeros((5, 6), np.uint8)))
