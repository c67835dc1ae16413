"""LVIS-92i, PASCAL-Part and PACO-Part end to end on miniatures; parts are cropped to an object."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from PIL import Image

from segic_d2.config.load import load_config
from segic_d2.data import build_few_shot_loader
from segic_d2.data.benchmarks import READER_REGISTRY, dataset_name, list_episodes
from segic_d2.data.health.check import check_data
from segic_d2.engine import evaluate, mean_over_folds
from segic_d2.structures.picture import Picture
from segic_d2.structures.soft_masks import soft_resize
from tests.data.benchmarks.test_pascal_part import prepare
from tests.miniatures import lvis92i, paco_part, pascal_part
from tests.tiny import tiny_config
from tests.views import plain_augmentations

FOLDS = {"lvis92i": 10, "pascal_part": 4, "paco_part": 4}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    for miniature in (lvis92i, paco_part, pascal_part):
        miniature.make(root / miniature.__name__.rpartition(".")[2])
    assert prepare(root / "pascal_part/VOCdevkit/VOC2010") == 0
    return root


@pytest.fixture(params=FOLDS)
def benchmark(request, datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets / request.param))
    return request.param


def config(output, *names, **opts):
    flat = [x for k, v in opts.items() for x in (k.upper().replace("__", "."), v)]
    return tiny_config(
        *("OUTPUT_DIR", str(output), "DATASETS.TEST", names, "TEST.EVALUATORS", ("few_shot",)),
        *("TEST.FIRST_EPISODES", 9, "DATALOADER.NUM_WORKERS", 0, *flat),
    )


def test_configs_name_every_fold(benchmark):
    cfg = load_config(f"eval/{benchmark}.yaml")
    names = [dataset_name(benchmark, fold) for fold in range(FOLDS[benchmark])]
    assert list(cfg.DATASETS.TEST) == names and set(names) <= set(DatasetCatalog.list())
    assert cfg.TEST.EVALUATORS == ("few_shot",) and cfg.TEST.SHOTS == 1
    check_data(cfg, training=False)


def test_missing_files_are_named_before_the_run(benchmark, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = config(tmp_path, dataset_name(benchmark, 0))
    with pytest.raises(FileNotFoundError, match=f"{benchmark}_fold0.*no folder {tmp_path}"):
        check_data(cfg, training=False)


def test_a_fold_is_evaluated_end_to_end(benchmark, tmp_path):
    name = dataset_name(benchmark, 2)
    cfg = config(tmp_path, name)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    found = evaluate(cfg, model, name)
    task = f"few_shot-{name}-1shot-unseen-no_text-own_episodes"
    assert list(found) == [task + "-own_masks" * (benchmark == "pascal_part")]
    (scores,) = found.values()

    episodes = list_episodes(benchmark, 2)
    reader = READER_REGISTRY.get(benchmark)(episodes)
    counts, number = {}, 0
    for (x,) in build_few_shot_loader(cfg, episodes, reader):  # the obvious pooling
        ((mask,),) = (out["masks"].numpy() for out in model.inference([x]))
        truth = x["gt_masks"][0].numpy()
        one = np.array([(mask & truth).sum(), (mask | truth).sum()])
        class_id = x["entities"][0]["id"]
        counts[class_id] = counts.get(class_id, 0) + one
        number += 1
        if number == 9:
            break
    expected = 100 * np.mean([i / max(u, 1) for i, u in counts.values()])
    assert scores["mIoU"] == pytest.approx(expected, abs=1e-9) and expected > 0

    file = tmp_path / "inference" / name / "few_shot" / "results.json"
    about = json.loads(file.read_text())
    assert (about["benchmark"], about["fold"], about["shots"]) == (benchmark, 2, 1)
    assert about["standard"] is False and about["note"] and about["episodes"] == number


@pytest.mark.parametrize("benchmark", ["pascal_part", "paco_part"], indirect=True)
def test_pictures_and_truth_are_cropped_to_the_object_before_the_resize(benchmark, tmp_path):
    cfg = config(tmp_path)
    episodes = list_episodes(benchmark, 0)
    reader = READER_REGISTRY.get(benchmark)(episodes)
    plain = plain_augmentations(cfg)
    for number, (x,) in enumerate(build_few_shot_loader(cfg, episodes, reader)):
        plan = episodes.episodes[number]
        names, views = (plan.target, *plan.references), (x, *x["references"])
        for name, index, view in zip(names, plan.objects, views, strict=True):
            sample = reader.read(name, plan.class_id, index)
            x0, y0, x1, y1 = sample.box
            x0, y0, x1, y1 = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))  # outwards
            file = tmp_path / "crop.png"
            Image.open(sample.image).convert("RGB").crop((x0, y0, x1, y1)).save(file)
            picture = Picture(str(file))
            expected = picture.view(picture.draw(plain, 0))["image"]
            assert torch.equal(view["image"], expected) and max(expected.shape[1:]) == 112
            crop = torch.from_numpy(sample.mask[y0:y1, x0:x1])
            if view is x:  # scored at the crop's own size
                assert torch.equal(x["gt_masks"][0], crop)
                assert (x["height"], x["width"]) == tuple(crop.shape)
            else:
                assert torch.equal(view["masks"][0], soft_resize(crop[None], expected.shape[1:])[0])
        if number == 20:
            break
    assert number >= 3


def test_the_mean_over_ten_folds_names_what_was_skipped_once(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets / "lvis92i"))
    names = [dataset_name("lvis92i", fold) for fold in range(10)]
    cfg = config(tmp_path, *names, test__first_episodes=2)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    folds = [next(iter(evaluate(cfg, model, name).values()))["mIoU"] for name in names]
    ((task, metrics),) = mean_over_folds(cfg)["lvis92i_mean"].items()
    assert task == "few_shot-lvis92i_mean-1shot-unseen-no_text-own_episodes"
    assert metrics["mIoU"] == pytest.approx(np.mean(folds), abs=1e-9)
    file = tmp_path / "inference/lvis92i_mean/few_shot/results.json"
    assert len(json.loads(file.read_text())["skipped"]) == 2
