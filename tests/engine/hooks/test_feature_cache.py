"""Training and evaluation with the feature cache: filled once, the same losses ever after."""

import shutil
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segic_d2.config.load import load_config
from segic_d2.engine import EpisodeTrainer
from tests.engine.test_training import ROOT, options, train_here

CACHED = {
    "INPUT__VIEWS_POOL": 2,
    "SOLVER__IMS_PER_BATCH": 2,
    "DATASETS__TRAIN": ("shapes_small_coco", "shapes_small_coco"),
    "DATASETS__TEST": (),
    "DATASETS__SINGLE_IMAGE_CLASSES": "skip",
    "SOLVER__STEPS": (2,),
}


@pytest.fixture(autouse=True)
def small():
    """Some images of the embedded data set, so that a few iterations are several epochs."""
    names = {}
    for name, original in (("coco", "shapes_train_coco"), ("sem_seg", "shapes_novel_sem_seg")):
        records = DatasetCatalog.get(original)[:8]
        names[f"shapes_small_{name}"] = original, records
    for name, (original, records) in names.items():
        DatasetCatalog.register(name, lambda records=records: records)
        known = MetadataCatalog.get(original).as_dict()
        kept = ("thing_classes", "stuff_classes", "ignore_label")
        MetadataCatalog.get(name).set(**{k: known[k] for k in kept if k in known})
    yield
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def calls(monkeypatch):
    """The images that the backbone sees, of every model that is built."""
    seen, build = [], EpisodeTrainer.build_model.__func__

    def build_model(cls, cfg):
        model = build(cls, cfg)
        forward = model.backbone.forward
        model.backbone.forward = lambda x: seen.append(len(x)) or forward(x)
        return model

    monkeypatch.setattr(EpisodeTrainer, "build_model", classmethod(build_model))
    return seen


def train(output, cache, resume=False, **changes):
    settings = {**CACHED, "INPUT__FEATURE_CACHE__DIR": str(cache), **changes}
    return train_here(output, resume, **settings)


def maps(cache):
    return sorted(Path(cache).glob("*/*/*.safetensors"))


def test_cold_warm_and_killed_runs_have_the_same_losses(tmp_path, calls):
    cold, weights = train(tmp_path / "cold", tmp_path / "cache", SOLVER__MAX_ITER=8)
    assert 0 < sum(calls) == len(maps(tmp_path / "cache")) < 8 * 2 * 2  # each view once
    calls.clear()
    warm, same = train(tmp_path / "warm", tmp_path / "cache", SOLVER__MAX_ITER=8)
    assert not calls  # the backbone has nothing left to do
    assert warm == cold and all(torch.equal(weights[k], same[k]) for k in weights)

    # a run that went on after its last checkpoint, was killed, and lost half of its cache
    lasting = {"SOLVER__CHECKPOINT_PERIOD": 3, "SOLVER__MAX_ITER": 5}
    start, _ = train(tmp_path / "killed", tmp_path / "other", **lasting)
    assert start == {i: cold[i] for i in range(5)}
    (tmp_path / "killed/last_checkpoint").write_text("model_0000002.pth")
    for path in maps(tmp_path / "other")[::2]:
        path.unlink()
    for path in maps(tmp_path / "other")[::3]:
        path.write_bytes(path.read_bytes()[:-9])
    rest, resumed = train(tmp_path / "killed", tmp_path / "other", True, SOLVER__MAX_ITER=8)
    assert rest == {i: cold[i] for i in range(3, 8)}
    assert all(torch.equal(weights[k], resumed[k]) for k in weights)
    # nor does it matter who reads: another number of workers
    shutil.rmtree(tmp_path / "other")
    few, _ = train(
        tmp_path / "few", tmp_path / "other", SOLVER__MAX_ITER=3, DATALOADER__NUM_WORKERS=0
    )
    assert few == {i: cold[i] for i in range(3)}


def test_the_cache_changes_losses_by_rounding_only(tmp_path):
    with_cache, _ = train(tmp_path / "a", tmp_path / "cache", SOLVER__MAX_ITER=3)
    without, _ = train(tmp_path / "b", "", SOLVER__MAX_ITER=3)
    for i in without:
        assert with_cache[i] == pytest.approx(without[i], rel=2e-2)
    assert with_cache != without


@pytest.mark.parametrize("refine", [0, 3])
def test_evaluation_reads_and_fills_the_cache(tmp_path, calls, refine):
    """Also where masks are refined, for which pictures are read beside their features."""
    settings = {"INPUT__FEATURE_CACHE__DIR": str(tmp_path / "cache"), "TEST__EPISODES": 4}
    settings |= {"DATALOADER__NUM_WORKERS": 0, "DATASETS__TEST": ("shapes_small_sem_seg",)}
    settings |= {
        "DATASETS__SINGLE_IMAGE_CLASSES": "skip",
        "DATASETS__REFERENCE": ("shapes_small_sem_seg",),
    }
    settings["MODEL__SEGIC__TEST__REFINE__RADIUS"] = refine
    opts = [*options(tmp_path / "out", **settings), "TEST.EVALUATORS", ("one_shot", "semantic")]
    cfg = load_config(str(ROOT / "configs/Base-SegIC.yaml"), opts)
    torch.manual_seed(0)
    model = EpisodeTrainer.build_model(cfg)
    first = EpisodeTrainer.test(cfg, model)
    assert sum(calls) == len(maps(tmp_path / "cache")) > 0
    calls.clear()
    assert str(EpisodeTrainer.test(cfg, model)) == str(first) and not calls  # NaN equals NaN
    with torch.no_grad():  # other weights: nothing that is stored is theirs
        next(model.backbone.parameters()).mul_(1.01)
    EpisodeTrainer.test(cfg, model)
    assert sum(calls) * 2 == len(maps(tmp_path / "cache"))


def test_a_folder_that_cannot_be_written_ends_training_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="INPUT.FEATURE_CACHE.DIR .*cannot be written"):
        train(tmp_path / "out", tmp_path / "file" / "x", SOLVER__MAX_ITER=1)


def test_training_leaves_the_cache_alone_where_only_its_own_views_are_padded(tmp_path, calls):
    """Evaluation, which does not pad, would find its features there."""
    train(tmp_path / "run", tmp_path / "cache", SOLVER__MAX_ITER=1, INPUT__MULTIPLE=16)
    assert sum(calls) > 0 and not maps(tmp_path / "cache")
