"""The context of a whole dataset: which references it is of, and the file that keeps it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from segic_d2.data import check_data
from segic_d2.engine.evaluations.context_file import dataset_context
from segic_d2.modeling.text.encoder import save_text_table
from segic_d2.structures.context import Context
from tests.data.every_reference import load_references
from tests.engine.evaluations.semantic_runs import built, calls, register_below, run, settings
from tests.miniatures import a847
from tests.miniatures.pictures import save, scene


def test_references_of_training_images_are_drawn_with_the_seed(root, tmp_path):
    cfg = settings(tmp_path, "a847", "TEST.SHOTS", 2)
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    context = dataset_context(cfg, model, name, tmp_path / "a")
    train = {r["file_name"] for r in DatasetCatalog.get("a847_sem_seg_train")}
    assert all(set(files) <= train and len(set(files)) == 2 for files in context.about["files"])
    again = dataset_context(cfg, model, name, tmp_path / "b")
    assert again.about == context.about and torch.equal(
        again.tensors["prototypes"], context.tensors["prototypes"]
    )
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
        for key, values in alone.tensors.items():
            torch.testing.assert_close(context.tensors[key][row], values[0])
        for key in ("shots", "meta"):
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
    assert (
        torch.equal(again.tensors["prototypes"], first.tensors["prototypes"])
        and again.about == first.about
    )
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


def test_a_file_that_another_machine_cannot_use_is_made_anew_by_all(root, tmp_path, monkeypatch):
    """Otherwise one process would wait for what the other does not send."""
    cfg = settings(tmp_path, "a847")
    model, (name,) = built(cfg), cfg.DATASETS.TEST
    file = tmp_path / "context.safetensors"
    dataset_context(cfg, model, name, file)
    sizes = calls(model)

    def gather(own):
        return [own, "its shots is 1, not 2"] if own == "" else [own]

    monkeypatch.setattr(comm, "all_gather", gather)
    dataset_context(cfg, model, name, file)
    assert sum(sizes)
    cfg.TEST.CONTEXT_FILE = str(file)
    with pytest.raises(ValueError, match="context.safetensors does not fit: its shots is 1, not 2"):
        dataset_context(cfg, model, name, file)
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, False])
    with pytest.raises(ValueError, match="context.safetensors is not on all machines: copy it"):
        dataset_context(cfg, model, name, file)
