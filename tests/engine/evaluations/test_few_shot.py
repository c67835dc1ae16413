"""The evaluation few_shot on miniatures: names, scores, files, processes, backbone calls."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.modeling import build_model
from detectron2.utils import comm

from segic_d2.data import build_few_shot_loader
from segic_d2.data.benchmarks import READER_REGISTRY, FewShotEpisode, list_episodes
from segic_d2.engine import EpisodeTrainer, evaluate
from segic_d2.engine.evaluations.reference_memory import RememberedReferences
from tests.miniatures import coco20i, fss1000, pascal5i
from tests.tiny import tiny_config

FOLDS = tuple(f"coco20i_fold{fold}" for fold in range(4))
OWN = "unseen-no_text-own_episodes"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    for miniature in (coco20i, pascal5i, fss1000):
        miniature.make(root)
    return root


@pytest.fixture(autouse=True)
def place(datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))


def config(output, *names, episodes=12, **opts):
    flat = [x for k, v in opts.items() for x in (k.upper().replace("__", "."), v)]
    return tiny_config(
        *("OUTPUT_DIR", str(output), "DATASETS.TEST", names, "TEST.EVALUATORS", ("few_shot",)),
        *("TEST.FIRST_EPISODES", episodes, "DATALOADER.NUM_WORKERS", 0, *flat),
    )


def model_of(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def read(output, name):
    return json.loads((output / "inference" / name / "few_shot" / "results.json").read_text())


def plain_scores(cfg, name, shots):
    """mIoU and FB-IoU of a fold, episode by episode, by the model's own way with references."""
    benchmark, _, fold = name.partition("_fold")
    episodes = list_episodes(benchmark, int(fold), shots)
    episodes = replace(episodes, episodes=episodes.episodes[: cfg.TEST.FIRST_EPISODES])
    reader = READER_REGISTRY.get(benchmark)(episodes, None)
    model, classes, whole = model_of(cfg), {}, np.zeros(4, np.int64)
    for (x,) in build_few_shot_loader(cfg, episodes, reader):
        ((mask,),) = (out["masks"].numpy() for out in model.inference([x]))
        truth = x["gt_masks"][0].numpy()
        known = ~x["gt_ignore"].numpy() if "gt_ignore" in x else np.ones_like(truth)
        counts = [(mask & truth)[known], (mask | truth)[known]]
        counts += [~counts[1], ~counts[0]]
        counts = np.array([c.sum() for c in counts])
        class_id = x["entities"][0]["id"]
        classes[class_id] = classes.get(class_id, 0) + counts
        whole += counts
    iou = [c[0] / max(c[1], 1) for c in classes.values()]
    return 100 * np.mean(iou), 50 * (whole[0] / whole[1] + whole[2] / whole[3])


@pytest.mark.parametrize(
    "name, shots, size",
    [
        ("coco20i_fold1", 1, "original"),
        ("coco20i_fold0", 5, "network"),
        ("pascal5i_fold2", 2, "original"),
    ],
)
def test_scores_are_those_of_a_plain_loop(tmp_path, name, shots, size):
    cfg = config(tmp_path, name, test__shots=shots, test__mask_size=size, test__batch_size=5)
    result = evaluate(cfg, model_of(cfg), name)
    ((task, metrics),) = result.items()
    assert task == f"few_shot-{name}-{shots}shot-{OWN}"
    alone = config(tmp_path, name, test__shots=shots, test__mask_size=size)
    miou, fb_iou = plain_scores(alone, name, shots)
    assert 0 < miou < 100 and metrics["episodes"] == 12
    assert metrics["mIoU"] == pytest.approx(miou, abs=1e-9)
    assert metrics["FB_IoU"] == pytest.approx(fb_iou, abs=1e-9)
    found = read(tmp_path, name)
    assert found["metrics"]["mIoU"] == metrics["mIoU"] and found["episodes"] == 12
    assert (found["shots"], found["mask_size"], found["standard"]) == (shots, size, False)
    assert "only the first 12 of 1000 episodes" in found["note"]


def test_chosen_regions_have_the_scores_of_a_plain_loop(tmp_path):
    opts = {"model__sem_seg_head__name": "RegionMatchingHead", "input__multiple": 14}
    opts |= {"input__reference_whole": True, "input__reference_zoom": 0.7}
    opts |= {"model__segic__regions__debias": 3, "model__segic__regions__threshold": 0.2}
    cfg = config(tmp_path, "coco20i_fold1", episodes=4, **opts)
    ((_, metrics),) = evaluate(cfg, model_of(cfg), "coco20i_fold1").items()
    miou, fb_iou = plain_scores(cfg, "coco20i_fold1", 1)
    assert 0 < miou < 100 and metrics["mIoU"] == pytest.approx(miou, abs=1e-9)
    assert metrics["FB_IoU"] == pytest.approx(fb_iou, abs=1e-9)


def test_the_mean_over_folds_needs_all_of_them(tmp_path, caplog):
    cfg = config(tmp_path, *FOLDS, "fss1000_test", episodes=4)
    with caplog.at_level("INFO"):
        results = EpisodeTrainer.test(cfg, model_of(cfg))
    assert list(results) == [*FOLDS, "fss1000_test", "coco20i_mean"]
    folds = [results[n][f"few_shot-{n}-1shot-{OWN}"] for n in FOLDS]
    mean = results["coco20i_mean"][f"few_shot-coco20i_mean-1shot-{OWN}"]
    for key in ("mIoU", "FB_IoU"):
        assert mean[key] == pytest.approx(np.mean([fold[key] for fold in folds]), abs=1e-9)
    assert [mean[f"mIoU_fold{i}"] for i in range(4)] == [fold["mIoU"] for fold in folds]
    written = read(tmp_path, "coco20i_mean")
    assert written["fold"] == "mean" and written["episodes"] == 16
    assert written["metrics"] == dict(mean) and "few_shot-coco20i_mean-1shot" in caplog.text
    assert read(tmp_path, "fss1000_test")["fold"] == 0
    cfg = config(tmp_path / "three", *FOLDS[:3], episodes=2)
    assert list(EpisodeTrainer.test(cfg, model_of(cfg))) == list(FOLDS[:3])


def in_a_process(output):
    torch.set_num_threads(1)
    for batch in (1, 4):
        opts = {"test__shots": 3, "test__batch_size": batch}
        cfg = config(output / str(batch), "coco20i_fold3", episodes=17, **opts)
        evaluate(cfg, model_of(cfg), "coco20i_fold3")


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(tmp_path):
    launch(in_a_process, 2, dist_url="auto", args=(tmp_path / "two",))
    threads = torch.get_num_threads()
    in_a_process(tmp_path / "one")
    torch.set_num_threads(threads)
    for batch in "14":
        one, two = (read(tmp_path / name / batch, "coco20i_fold3") for name in ("one", "two"))
        assert one == two and one["episodes"] == 17


def random_in_a_process(output):
    torch.set_num_threads(1)
    cfg = config(output, "coco20i_fold3", episodes=9, test__batch_size=2)
    torch.manual_seed(comm.get_rank())  # as Detectron2 seeds the processes
    EpisodeTrainer.test(cfg, build_model(cfg))


@pytest.mark.slow
def test_weights_that_no_file_gave_are_the_same_in_all_processes(tmp_path):
    launch(random_in_a_process, 2, dist_url="auto", args=(tmp_path / "two",))
    threads = torch.get_num_threads()
    random_in_a_process(tmp_path / "one")
    torch.set_num_threads(threads)
    one, two = (read(tmp_path / name, "coco20i_fold3") for name in ("one", "two"))
    assert one == two and one["episodes"] == 9


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_whole_batches(monkeypatch, world):
    from segic_d2.data import build

    monkeypatch.setattr(build.comm, "get_world_size", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(build.comm, "get_rank", lambda rank=rank: rank)
        parts.append(list(build._whole_batches(14, 4)))
    batches = [part[i : i + 4] for part in parts for i in range(0, len(part), 4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13]]


def counted(model):
    seen, forward = [], model.backbone.forward
    model.backbone.forward = lambda x: seen.append(len(x)) or forward(x)
    return seen


def test_each_reference_is_encoded_once(tmp_path):
    cfg = config(tmp_path, "fss1000_test", episodes=0, test__shots=5)
    model = model_of(cfg)
    seen = counted(model)
    evaluate(cfg, model, "fss1000_test")
    episodes = list_episodes("fss1000", 0, 5).episodes
    different = {(name, e.class_id) for e in episodes for name in e.references}
    assert len(episodes) == 30 and len(different) == 29  # of 150 references
    assert sum(seen) == len(episodes) + len(different)


def episodes_of(cfg, references):
    """Episodes of one target with the given references, from the miniature of FSS-1000."""
    found = list_episodes("fss1000")
    plans = [FewShotEpisode(761, "bus/1.jpg", names) for names in references]
    found = replace(found, episodes=plans)
    reader = READER_REGISTRY.get("fss1000")(found, None)
    return [batch[0] for batch in build_few_shot_loader(cfg, found, reader)]


def test_the_least_recently_used_references_leave(tmp_path):
    cfg = config(tmp_path)
    model = model_of(cfg)
    names = ["bus/2.jpg", "bus/3.jpg", "bus/2.jpg", "bus/4.jpg", "bus/2.jpg", "bus/3.jpg"]
    episodes = episodes_of(cfg, [(name,) for name in names])
    (one,) = model.episode_contexts(episodes[:1])
    assert one.bytes == 2 * 4 * one.tensors["prototypes"].numel()
    remembered = RememberedReferences(model, capacity=3 * one.bytes - 1)  # two
    seen, new = counted(model), []
    for x in episodes:
        before = sum(seen)
        remembered([x])
        new.append(sum(seen) - before - 1)  # without the target
    assert new == [1, 1, 0, 1, 0, 1]


def test_remembered_shots_are_the_models_own_context(tmp_path):
    """The same file as two classes' reference, and twice among the shots."""
    cfg = config(tmp_path)
    model = model_of(cfg)
    (x,) = episodes_of(cfg, [("bus/2.jpg", "bus/5.jpg", "bus/2.jpg")])
    remembered = RememberedReferences(model)
    context = remembered._context(x)
    expected = model.encode_context(x["references"], {761: "bus"})
    assert context.ids == [761] and context.names == ["bus"]
    assert torch.equal(context.shots, expected.shots)
    for key, values in expected.tensors.items():
        torch.testing.assert_close(context.tensors[key], values)
    other = {**x["references"][0], "key": ("bus/2.jpg", 1, None), "masks": torch.ones(1, 112, 112)}
    changed = remembered._shot(other, {761: "bus"})
    assert not torch.equal(changed.tensors["prototypes"][:, 0], context.tensors["prototypes"][:, 0])


def test_text_and_skipped_classes_are_stated(tmp_path, monkeypatch):
    from segic_d2.engine.evaluations import few_shot as module

    listed = list_episodes("pascal5i", 0)
    some = replace(listed, skipped=("class 3 (boat) has one image only (a)",), standard=True)
    some = replace(some, note="", classes={**some.classes, 99: "unicorn"})
    monkeypatch.setattr(module, "list_episodes", lambda *args: some)
    cfg = config(tmp_path, "pascal5i_fold0", episodes=0, test__seen="seen")
    cfg.DATASETS.TEST = ("pascal5i_fold0",)
    monkeypatch.setattr(
        module, "first", lambda found, number: replace(found, episodes=found.episodes[:5])
    )
    assert list(evaluate(cfg, model_of(cfg), "pascal5i_fold0")) == [
        "few_shot-pascal5i_fold0-1shot-seen-no_text"
    ]
    found = read(tmp_path, "pascal5i_fold0")
    assert found["skipped"] == ["class 3 (boat) has one image only (a)"]
    assert found["standard"] and "unicorn" in found["without_episode"]
    assert not any("unicorn" in key for key in found["metrics"])  # not zeroed either


def test_what_is_no_fold_is_refused(tmp_path):
    cfg = config(tmp_path, "shapes_novel_coco")
    with pytest.raises(ValueError, match="needs folds of a benchmark.*'shapes_novel_coco' is none"):
        evaluate(cfg, None, "shapes_novel_coco")


@pytest.mark.parametrize("refine", [0, 3])
def test_a_cold_and_a_warm_feature_cache(tmp_path, refine):
    """Also where masks are refined, for which targets are read beside their features."""
    options = {"model__segic__test__refine__radius": refine}
    options |= {"input__feature_cache__dir": str(tmp_path / "cache")}
    cold = config(tmp_path, "fss1000_test", **options)
    model = model_of(cold)
    seen = counted(model)
    first = evaluate(cold, model, "fss1000_test")
    number = sum(seen)
    assert evaluate(cold, model, "fss1000_test") == first
    assert 0 < number == sum(seen)
