"""Benchmarks by list: damage is named or skipped, and an interruption changes nothing."""

import json
from pathlib import Path

import pytest

from segic_d2.data.benchmarks import READER_REGISTRY, find_fold, list_episodes
from segic_d2.data.health.damaged import DamagedDataError
from segic_d2.data.mappers.few_shot import FewShotMapper
from segic_d2.engine import EpisodeTrainer, evaluate
from tests.engine.evaluations.test_few_shot import FOLDS, config, model_of
from tests.miniatures import coco20i, fss1000, lvis92i, pascal5i

NAME = "coco20i_fold1"
PLACES = [
    (coco20i, NAME),
    (pascal5i, "pascal5i_fold1"),
    (fss1000, "fss1000_test"),
    (lvis92i, "lvis92i_fold1"),
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    coco20i.make(tmp_path / "data")
    return tmp_path / "data"


def damage(root, output):
    """Truncate the target of one episode; (file name in the list, numbers of its episodes)."""
    episodes = list_episodes("coco20i", 1).episodes[:12]
    name = episodes[3].target
    (file,) = (root / "coco").rglob(name.split("/")[-1])
    file.write_bytes(file.read_bytes()[:300])
    return file, [i for i, e in enumerate(episodes) if name in (e.target, *e.references)]


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_named_or_skipped(root, tmp_path, workers):
    file, numbers = damage(root, tmp_path)
    opts = {"dataloader__num_workers": workers, "test__batch_size": 2}
    cfg = config(tmp_path, NAME, test__verify="full", **opts)
    with pytest.raises(DamagedDataError, match=f"cannot read image {file}"):
        evaluate(cfg, model_of(cfg), NAME)
    cfg = config(tmp_path, NAME, test__damaged="skip", **opts)
    ((_, metrics),) = evaluate(cfg, model_of(cfg), NAME).items()
    assert metrics["episodes"] == 12 - len(numbers) and metrics["skipped"] == len(numbers)
    path = tmp_path / "inference" / NAME / "few_shot" / "results.json"
    skipped = [s for s in json.loads(path.read_text())["skipped"] if s.startswith("episode")]
    assert [s.split(":")[0] for s in skipped] == [f"episode {n}" for n in numbers]
    assert all(str(file) in s for s in skipped)


@pytest.mark.parametrize("lost", ["image", "mask"])
@pytest.mark.parametrize("miniature, name", PLACES)
def test_files_are_looked_for_before_the_run(miniature, name, lost, tmp_path, monkeypatch):
    """With TEST.VERIFY "exists" too, and no episode is read for that."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    miniature.make(tmp_path / "data")
    cfg = config(tmp_path, name, test__verify="exists")
    benchmark, fold = find_fold(name)
    episodes = list_episodes(benchmark, fold)
    files = READER_REGISTRY.get(benchmark)(episodes, None).files(episodes.episodes[2].target)
    if lost == "mask" and len(files) == 1:
        pytest.skip("masks are annotations in one file")
    file = Path(files[lost == "mask"].path)
    file.unlink()
    monkeypatch.setattr(FewShotMapper, "__call__", None)
    with pytest.raises(DamagedDataError, match=f"no such file: {file}"):
        evaluate(cfg, model_of(cfg), name)


def test_the_mean_over_folds_lists_what_was_skipped(root, tmp_path):
    file, numbers = damage(root, tmp_path)
    cfg = config(tmp_path, *FOLDS, test__damaged="skip", test__first_episodes=12)
    EpisodeTrainer.test(cfg, model_of(cfg))
    path = tmp_path / "inference" / "coco20i_mean" / "few_shot" / "results.json"
    skipped = json.loads(path.read_text())["skipped"]
    assert sum(str(file) in s for s in skipped) >= len(numbers)


def test_an_interrupted_benchmark_goes_on_exactly(root, tmp_path, monkeypatch):
    cfg = config(tmp_path, NAME, test__batch_size=5, test__save_period=1000.0)
    model = model_of(cfg)
    whole = evaluate(cfg, model, NAME)
    segment, calls = model.inference, []

    def failing(*args, **kwargs):
        calls.append(len(args[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return segment(*args, **kwargs)

    monkeypatch.setattr(model, "inference", failing)
    with pytest.raises(KeyboardInterrupt):
        evaluate(cfg, model, NAME)
    assert evaluate(cfg, model, NAME) == whole and calls == [5, 5, 5, 2]
