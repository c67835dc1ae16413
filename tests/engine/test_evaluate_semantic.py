"""Semantic segmentation of each dataset in miniature, from its files to its figures."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from detectron2.modeling import build_model
from detectron2.utils import comm
from PIL import Image

from segic_d2.config import load_config
from segic_d2.data import build_target_loader, check_data, load_references
from segic_d2.data.damaged import DamagedDataError
from segic_d2.data.datasets.open_vocabulary import register_all_open_vocabulary
from segic_d2.engine import evaluate, evaluate_semantic, label_maps
from segic_d2.engine.context_file import dataset_context
from segic_d2.engine.label_maps import LabelMaps, OwnReferences
from segic_d2.modeling import outputs
from segic_d2.modeling.context import Context
from segic_d2.modeling.text_encoder import save_text_table
from tests.data import paper_data
from tests.miniatures import a847, ade20k, coco_semantic, pc459
from tests.miniatures.pictures import save, scene
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"{n}_sem_seg_{s}" for n in ("a847", "pc459", "coco") for s in ("train", "val")]


def register_below(root):
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    register_all_open_vocabulary(str(root))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All four datasets where Detectron2 looks for its own, prepared as documented."""
    root = tmp_path_factory.mktemp("datasets")
    with paper_data.registered(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(root / "cache"))
        for miniature in (a847, pc459, ade20k, coco_semantic):
            miniature.make(root)
        register_below(root)
        prepare = runpy.run_path(str(ROOT / "datasets/prepare_ade20k.py"))["main"]
        assert prepare([str(root / "ADEChallengeData2016")]) == 0
        assert runpy.run_path(str(ROOT / "datasets/prepare_coco_semantic.py"))["main"](["val"]) == 0
        yield root
    register_below("datasets")


def settings(tmp_path, name, *opts, reference=None):
    """A tiny config of one dataset."""
    reference = reference or f"{name}_sem_seg_train"
    return tiny_config(
        *("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0, "TEST.SEEN", "seen"),
        *("DATASETS.TEST", (f"{name}_sem_seg_val",), "DATASETS.REFERENCE", (reference,)),
        *("TEST.EVALUATORS", ("semantic",), "TEST.BATCH_SIZE", 3, *opts),
        canvas=56,
    )


def built(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def run(cfg, model=None):
    """{mode: figures} and results.json of the config's dataset."""
    (name,) = cfg.DATASETS.TEST
    found = evaluate(cfg, model or built(cfg), name)
    if not comm.is_main_process():
        return None
    modes = {task.split("-")[2]: figures for task, figures in found.items()}
    file = Path(cfg.OUTPUT_DIR) / "inference" / name / "semantic" / "results.json"
    return modes, json.loads(file.read_text()), list(found)


def calls(model):
    """A list that collects how many images each call of the backbone gets."""
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


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
    maps = LabelMaps(model, OwnReferences(context, 1), None, 255)
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
        found = LabelMaps(model, OwnReferences(context, 1), model.threshold, nothing)(
            targets(cfg)[0]
        )
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


def test_references_of_training_images_are_drawn_with_the_seed(root, tmp_path):
    cfg = settings(tmp_path, "a847", "TEST.SHOTS", 2)
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    context = dataset_context(cfg, model, name, tmp_path / "a")
    train = {r["file_name"] for r in DatasetCatalog.get("a847_sem_seg_train")}
    assert all(set(files) <= train and len(set(files)) == 2 for files in context.about["files"])
    again = dataset_context(cfg, model, name, tmp_path / "b")
    assert again.about == context.about and torch.equal(again.prototypes, context.prototypes)
    assert context.ids == [0, 1, 300, 846] and context.names[0] == "wall"
    draws = set()
    for seed in range(6):
        cfg.TEST.SEED = seed
        draws.add(str(dataset_context(cfg, model, name, tmp_path / "c").about["files"]))
    assert len(draws) > 1


def test_a_context_of_many_is_that_of_each_class_alone(root, tmp_path):
    """Prototypes and texts are in their places, whatever pictures shared a group."""
    texts = [f"a photo of a {name}" for name in a847.CLASSES]
    vectors = torch.randn(847, 8, generator=torch.Generator().manual_seed(0))
    save_text_table(tmp_path / "texts.safetensors", texts, vectors)
    text = ("TEXT.NAME", "table", "TEXT.TABLE", str(tmp_path / "texts.safetensors"), "TEXT.DIM", 8)
    text = [f"MODEL.SEGIC.{x}" if str(x).startswith("TEXT.") else x for x in text]
    opts = ("TEST.SHOTS", 2, "MODEL.SEGIC.IMAGE_CHUNK", 3, "MODEL.SEGIC.META", True, *text)
    cfg = settings(tmp_path, "a847", *opts)
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    context = dataset_context(cfg, model, name, tmp_path / "context")
    references, names = load_references(cfg, cfg.DATASETS.REFERENCE, name)
    files = [r["file_name"] for r in references]
    assert files == [f for own in context.about["files"] for f in own]
    for row, class_id in enumerate(context.ids):
        own = [r for r in references if r["entity_ids"] == [class_id]]
        alone = model.encode_context(own, {class_id: names[class_id]})
        for key in ("prototypes", "unit_prototypes", "shots", "meta"):
            torch.testing.assert_close(getattr(context, key)[row], getattr(alone, key)[0])
    assert run(cfg, model)[2][0] == "sem_seg-a847-all-2shot-seen-text"


def test_a_context_file_is_kept_and_made_anew_when_it_does_not_fit(root, tmp_path):
    cfg = settings(tmp_path, "a847")
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    sizes, file = calls(model), tmp_path / "context.safetensors"

    def encoded(cfg, model=model):
        sizes.clear()
        dataset_context(cfg, model, name, file)
        return sum(sizes)

    assert encoded(cfg) and not encoded(cfg)
    for key, value in (("SHOTS", 2), ("SEED", 5)):
        setattr(cfg.TEST, key, value)
        assert encoded(cfg) and not encoded(cfg)
    cfg.DATASETS.REFERENCE = ("a847_sem_seg_val",)
    assert encoded(cfg) and not encoded(cfg)
    torch.nn.init.normal_(model.backbone.patch.weight)
    assert encoded(cfg) and not encoded(cfg)
    file.write_bytes(b"torn")
    assert encoded(cfg) and not encoded(cfg)


def test_a_named_context_file_is_never_overwritten(root, tmp_path):
    file = tmp_path / "kept" / "a847.safetensors"
    cfg = settings(tmp_path, "a847", "TEST.CONTEXT_FILE", str(file))
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    first = dataset_context(cfg, model, name, "unused")
    before = file.read_bytes()
    again = dataset_context(cfg, model, name, "unused")
    assert torch.equal(again.prototypes, first.prototypes) and again.about == first.about
    cfg.TEST.SHOTS = 2
    with pytest.raises(ValueError, match=f"TEST.CONTEXT_FILE {file} .* its shots is 1, not 2"):
        dataset_context(cfg, model, name, "unused")
    cfg.TEST.SHOTS = 1
    torch.nn.init.normal_(model.backbone.patch.weight)
    with pytest.raises(ValueError, match="weights: context"):
        dataset_context(cfg, model, name, "unused")
    assert file.read_bytes() == before and [p.name for p in file.parent.iterdir()] == [file.name]


def test_with_a_context_file_the_references_are_not_looked_for(root, tmp_path):
    file = tmp_path / "a847.safetensors"
    cfg = settings(tmp_path, "a847", "TEST.CONTEXT_FILE", str(file), reference="a847_sem_seg_train")
    dataset_context(cfg, built(cfg), cfg.DATASETS.TEST[0], "unused")
    home = a847.make(tmp_path / "elsewhere")
    for kind in ("images", "annotations"):
        (home / f"{kind}_detectron2/training").rename(home / f"{kind}_gone")
    register_below(tmp_path / "elsewhere")
    try:
        check_data(cfg, training=False)
        assert "mIoU_all" in run(cfg)[1]["metrics"]
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"'a847_sem_seg_train' \(DATASETS.REFERENCE\)"):
            check_data(cfg, training=False)
        (home / "classes.txt").unlink()
        with pytest.raises(FileNotFoundError, match=f"no file {home}/classes.txt"):
            check_data(cfg, training=False)
    finally:
        register_below(root)


def test_references_from_itself_must_be_asked_for(root, tmp_path):
    cfg = settings(tmp_path, "a847")
    cfg.DATASETS.REFERENCE, cfg.DATASETS.TRAIN = (), ("a847_sem_seg_val",)
    with pytest.raises(ValueError, match="name it in DATASETS.REFERENCE"):
        run(cfg)


def test_references_may_be_generated_pictures(root, tmp_path):
    """One per class, by its number from 1."""
    home = tmp_path / "sd"
    for class_id in (0, 1, 300, 846):
        image, labels = scene([class_id + 1], class_id, 0, 0)
        files = (
            home / "images_detectron2/validation" / f"{class_id + 1}.jpg",
            home / "annotations_detectron2/validation" / f"{class_id + 1}.tif",
        )
        save(*files, image, labels, np.int32)
    cfg = settings(tmp_path, "a847", reference=f"synthetic:a847_sem_seg_val:{home}")
    check_data(cfg, training=False)
    model = built(cfg)
    sizes = calls(model)
    _, written, _ = run(cfg, model)
    assert sum(sizes) == 4 + 4 and len(written["skipped"]) == 843
    context = Context.load(tmp_path / "inference/a847_sem_seg_val/semantic/context.safetensors")
    assert context.ids == [0, 1, 300, 846]
    assert [Path(f).stem for (f,) in context.about["files"]] == ["1", "2", "301", "847"]


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
    assert one.about == two.about and torch.equal(one.prototypes, two.prototypes)


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
    cfg = settings(tmp_path, "a847", "TEST.SHOTS", 2)
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
