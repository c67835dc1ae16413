"""Semantic segmentation of each dataset in miniature, from its files to its figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from PIL import Image

from segic_d2.config.load import load_config
from segic_d2.data import build_target_loader, check_data
from segic_d2.data.health.damaged import DamagedDataError
from segic_d2.engine.evaluations import label_maps
from segic_d2.engine.evaluations import semantic as evaluate_semantic
from segic_d2.engine.evaluations.context_file import dataset_context
from segic_d2.engine.evaluations.label_maps import LabelMaps, OwnReferences
from segic_d2.structures import frame as outputs
from segic_d2.structures.context import Context
from tests.engine.evaluations.semantic_runs import built, calls, register_below, run, settings
from tests.miniatures import a847


@pytest.mark.parametrize(
    "name, reference, occur",
    [
        ("ade20k", None, 4),
        ("coco", "coco_2017_train", 4),  # with background
        ("a847", None, 4),
        ("pc459", None, 4),
    ],
)
def test_each_dataset_runs_from_its_files_to_its_figures(root, tmp_path, name, reference, occur):
    cfg = settings(tmp_path, name, reference=reference)
    model = built(cfg)
    sizes = calls(model)
    modes, written, tasks = run(cfg, model)
    assert tasks == [f"sem_seg-{name}-{mode}-1shot-seen-no_text" for mode in ("all", "present")]
    for mode, figures in modes.items():
        counted = [v for k, v in figures.items() if k.startswith("IoU-") and not np.isnan(v)]
        assert len(counted) == occur and figures["mIoU"] == pytest.approx(np.mean(counted))
        assert written["metrics"][f"mIoU_{mode}"] == figures["mIoU"]
        assert not any("nothing" in key for key in figures)
    assert written["benchmark"] == f"sem_seg-{name}" and written["shots"] == 1
    assert written["images"] == 4 and len(written["skipped"]) == len(MISSING[name])
    assert not written["standard"] and "references" in written["note"]
    # three or four references, each of one picture, then four targets, for both scores at once
    context = Context.load(tmp_path / f"inference/{name}_sem_seg_val/semantic/context.safetensors")
    pictures = {file for files in context.about["files"] for file in files}
    assert sum(sizes) == len(pictures) + 4
    sizes.clear()
    assert run(cfg, model)[1] == written  # the context is read
    assert sum(sizes) == 4


MISSING = {
    "ade20k": [i for i in range(150) if i + 1 not in {1, 2, 40, 150}],
    "coco": [i for i in range(80) if i not in {0, 1, 79}],
    "a847": [i for i in range(847) if i not in {0, 1, 300, 846}],
    "pc459": [i for i in range(459) if i not in {0, 1, 255, 458}],
}


def targets(cfg):
    """The batches that the run sees."""
    (name,) = cfg.DATASETS.TEST
    return list(build_target_loader(cfg, name, mapper="labelled_target"))


def test_all_classes_compete_as_in_the_full_size_scores(root, tmp_path, monkeypatch):
    """The label maps are the arg-max of class-wise scores at the image's own size; with "present"
    of those of a context that was made of the shown classes alone."""
    cfg = settings(tmp_path, "ade20k", "TEST.NO_CLASS", "best")
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    context = dataset_context(cfg, model, name, tmp_path / "context")
    maps = LabelMaps(model, OwnReferences(context, 1), 255, always=True)
    monkeypatch.setattr(label_maps, "ENTITIES", 5)  # some targets alone, some together
    monkeypatch.setattr(outputs, "FULL_SIZE_PIXELS", 1)
    differing = total = 0
    with torch.no_grad():
        for batch in targets(cfg):
            for x, found in zip(batch, maps(batch), strict=True):
                shown = context.take([i for i, c in enumerate(context.ids) if c in x["present"]])
                for mode, own in (("all", context), ("present", shown)):
                    (out,) = model.inference([x], own, ("sem_seg",), num_classes=150)
                    expected = out["sem_seg"].argmax(0)
                    differing += int((found["label_maps"][mode] != expected).sum())
                    total += expected.numel()
                    assert set(expected.unique().tolist()) <= set(own.ids)
    assert differing <= 1e-3 * total  # ties to rounding: a batch is not its images one by one


def test_a_background_takes_what_no_class_does(root, tmp_path):
    """COCO has one; in ADE20K such pixels are nobody's and count as missed."""
    for name, reference, nothing in (("coco", "coco_2017_train", 0), ("ade20k", None, 255)):
        high = ("MODEL.SEGIC.TEST.THRESHOLD", 1e3)
        cfg = settings(tmp_path / name, name, *high, reference=reference)
        model = built(cfg)
        context = dataset_context(cfg, model, cfg.DATASETS.TEST[0], tmp_path / name / "context")
        found = LabelMaps(model, OwnReferences(context, 1), nothing)(targets(cfg)[0])
        for mode in ("all", "present"):
            assert all((x["label_maps"][mode] == nothing).all() for x in found)
        modes, *_ = run(cfg, model)
        for figures in modes.values():
            got = {k: v for k, v in figures.items() if k.startswith("IoU-") and not np.isnan(v)}
            assert all((v > 0) == (k == "IoU-background") for k, v in got.items())
        best = cfg.clone()
        best.TEST.NO_CLASS = "best"
        assert run(best, model)[0]["all"]["pACC"] != modes["all"]["pACC"]
        best.TEST.NO_CLASS = "worst"
        with pytest.raises(ValueError, match="TEST.NO_CLASS is 'worst'"):
            run(best, model)


class Seen(OwnReferences):
    """Remembers which references stood for which target."""

    log = []

    def of(self, file_name):
        context = super().of(file_name)
        rows = {c: row for row, c in enumerate(self.context.ids)}
        for c, shots in zip(context.ids, context.shots, strict=True):
            files = self.context.about["files"][rows[c]]
            self.log.append((file_name, c, [f for f, s in zip(files, shots, strict=False) if s]))
        return context


@pytest.mark.parametrize("shots", [1, 2])
def test_a_target_is_never_its_own_reference(root, tmp_path, monkeypatch, shots):
    """Also among the evaluated images themselves, for classes with exactly two of them."""
    cfg = settings(tmp_path, "a847", "TEST.SHOTS", shots, reference="a847_sem_seg_val")
    monkeypatch.setattr(evaluate_semantic, "OwnReferences", Seen)
    monkeypatch.setattr(label_maps, "OwnReferences", Seen)
    Seen.log.clear()
    _, written, _ = run(cfg)
    images = [r["file_name"] for r in DatasetCatalog.get("a847_sem_seg_val")]
    pairs = list(zip(images, a847.SHOWN, strict=True))
    shown = {c: [f for f, classes in pairs if c in classes] for c in (0, 1, 300, 846)}
    assert {c: len(files) for c, files in shown.items()} == {0: 2, 1: 3, 300: 2, 846: 2}
    asked = {(file, c) for file, c, _ in Seen.log}
    assert asked == {(file, c) for file in images for c in shown}  # none is left out
    for file, c, references in Seen.log:
        others = [f for f in shown[c] if f != file]
        assert references and set(references) <= set(others)
        assert len(references) == min(shots, len(others))
    assert len(written["skipped"]) == 843


def test_a_class_whose_only_reference_is_the_target_is_skipped_there(root, tmp_path):
    """Reported and ignored in that image, not asked for with an empty prompt, not zeroed."""
    name = f"single_{tmp_path.name}"
    records = DatasetCatalog.get("a847_sem_seg_val")[:3]  # (0, 1), (1, 846), (0, 300, 846)
    DatasetCatalog.register(name, lambda: records)
    meta = MetadataCatalog.get("a847_sem_seg_val")
    MetadataCatalog.get(name).set(stuff_classes=meta.stuff_classes, ignore_label=65535)
    try:
        cfg = settings(tmp_path, "a847", reference=name)
        cfg.DATASETS.TEST = (name,)
        modes, written, _ = run(cfg)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    file = records[2]["file_name"]
    own = [x for x in written["skipped"] if file in x]
    assert own == [f"class 300 (thing 300) in {file}: its only reference is this image"]
    for figures in modes.values():
        assert np.isnan(figures["IoU-thing 300"]) and figures["IoU-wall"] >= 0


def test_a_dataset_without_label_maps_is_refused(root, tmp_path):
    cfg = settings(tmp_path, "coco", reference="coco_2017_train")
    cfg.DATASETS.TEST = ("coco_2017_val",)
    with pytest.raises(ValueError, match="TEST.EVALUATORS has 'semantic', which needs label maps"):
        run(cfg)


@pytest.mark.parametrize("config", ["ade20k150", "coco_semantic", "a847", "pc459"])
def test_the_shipped_configs_name_what_is_there(root, config):
    cfg = load_config(f"eval/{config}.yaml")
    assert tuple(cfg.TEST.EVALUATORS) == ("semantic",) and cfg.TEST.SHOTS == 1
    check_data(cfg, training=False)


def in_a_process(root, folder):
    """One of several processes evaluates A-847 with references from its own images."""
    register_below(Path(root))
    run(settings(Path(folder), "a847", "TEST.SHOTS", 2, reference="a847_sem_seg_val"))


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(root, tmp_path, monkeypatch):
    """And share the references between them."""
    monkeypatch.setenv("SEGIC_D2_CACHE", str(root / "cache"))
    place = "inference/a847_sem_seg_val/semantic"
    in_a_process(root, tmp_path / "one")
    url = f"file://{tmp_path}/meeting"
    launch(in_a_process, 2, dist_url=url, args=(str(root), str(tmp_path / "two")))
    one, two = (json.loads((tmp_path / n / place / "results.json").read_text()) for n in NUMBERS)
    assert one == two and one["metrics"]["mIoU_all"] is not None
    one, two = (Context.load(tmp_path / n / place / "context.safetensors") for n in NUMBERS)
    assert one.about == two.about and torch.equal(
        one.tensors["prototypes"], two.tensors["prototypes"]
    )


NUMBERS = "one", "two"


@pytest.fixture
def damaged(root, tmp_path):
    """A-847 with an unknown value, an image cut short, a lost label map and a damaged reference."""
    home = a847.make(tmp_path / "damaged")
    labels = sorted((home / "annotations_detectron2/validation").iterdir())
    images = sorted((home / "images_detectron2/validation").iterdir())
    Image.fromarray(np.full((36, 48), 847, np.uint16)).save(labels[0])
    images[1].write_bytes(images[1].read_bytes()[:300])
    labels[2].unlink()
    training = sorted((home / "images_detectron2/training").iterdir())[1]  # one of two with 846
    training.write_bytes(training.read_bytes()[:300])
    register_below(tmp_path / "damaged")
    yield {"value": labels[0], "short": images[1], "lost": images[2], "reference": training}
    register_below(root)


def test_damage_is_named_before_the_run(damaged, tmp_path):
    cfg = settings(tmp_path, "a847", "TEST.SHOTS", 2, "TEST.VERIFY", "full")
    model = built(cfg)
    sizes = calls(model)
    with pytest.raises(DamagedDataError) as error:
        run(cfg, model)
    message = str(error.value)
    assert "\n" not in message and all(str(file) in message for file in damaged.values())
    assert not sizes and not list(tmp_path.rglob("*.safetensors"))


def test_damage_is_left_out_and_counted(damaged, tmp_path):
    cfg = settings(tmp_path, "a847", "TEST.DAMAGED", "skip")
    for _ in "again", "with the context that was kept":
        modes, written, _ = run(cfg)
        named = " ".join(written["skipped"])
        expected = {k: v for k, v in damaged.items() if k != "reference"}
        assert all(str(file) in named for file in expected.values())
        assert modes["all"]["IoU-building, edifice"] >= 0  # of the fourth image, which is whole
        assert np.isnan(modes["all"]["IoU-wall"])
        context = Context.load(tmp_path / "inference/a847_sem_seg_val/semantic/context.safetensors")
        drawn = {f for files in context.about["files"] for f in files}
        assert str(damaged["reference"]) not in drawn and context.ids == [0, 1, 300, 846]
        left_out = {x["item"] for x in context.about["left_out"]}
        assert left_out <= {str(damaged["reference"])} and all(item in named for item in left_out)
    cfg = settings(tmp_path / "two", "a847", "TEST.DAMAGED", "skip", "TEST.SHOTS", 2)
    assert str(damaged["reference"]) in str(run(cfg)[1]["skipped"])
    again = run(cfg)[1]["skipped"]
    assert str(damaged["reference"]) in str(again)


def test_an_interrupted_evaluation_goes_on(root, tmp_path, monkeypatch):
    """Both scores stand where they stood; the context is not made again."""
    cfg = settings(tmp_path, "ade20k", "TEST.BATCH_SIZE", 1)
    whole = settings(tmp_path / "whole", "ade20k", "TEST.BATCH_SIZE", 1)
    model = built(cfg)
    _, expected, _ = run(whole, model)
    forward, seen = LabelMaps.forward, []

    def broken(self, batch):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.extend(batch)
        return forward(self, batch)

    monkeypatch.setattr(LabelMaps, "forward", broken)
    with pytest.raises(KeyboardInterrupt):
        run(cfg, model)
    monkeypatch.undo()
    sizes = calls(model)
    assert run(cfg, model)[1] == expected
    assert sizes == [1, 1]
