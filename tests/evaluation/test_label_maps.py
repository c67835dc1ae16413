"""Label maps through the stock evaluator: hand-made maps, and what each label convention means."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.evaluation import LabelMapEvaluator, build_sem_seg_evaluator

MODE = "all"


@pytest.fixture
def dataset(tmp_path):
    """A function that registers label maps for the test and returns their file names."""
    names = []

    def register(maps, classes, ignored, dtype=np.uint8, **metadata):
        name = f"maps_{tmp_path.name}_{len(names)}"
        suffix = "tif" if dtype == np.uint16 else "png"
        files = [tmp_path / f"{i}.{suffix}" for i in range(len(maps))]
        for file, labels in zip(files, maps, strict=True):
            Image.fromarray(np.asarray(labels).astype(dtype)).save(file)
        records = [{"file_name": f"{f.stem}.jpg", "sem_seg_file_name": str(f)} for f in files]
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(stuff_classes=classes, ignore_label=ignored, **metadata)
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def score(name, predictions, **options):
    evaluator = LabelMapEvaluator(name, MODE, "task", **options)
    evaluator.reset()
    for i, labels in enumerate(predictions):
        output = {"label_maps": {MODE: torch.as_tensor(np.asarray(labels), dtype=torch.int32)}}
        evaluator.process([{"file_name": f"{i}.jpg"}], [output])
    return evaluator.evaluate()["task"]


@pytest.mark.filterwarnings("ignore")
def test_label_maps_score_as_the_scores_that_they_are_the_arg_max_of(dataset):
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 255], (4, 9, 11))
    name = dataset(truth, ["a", "b", "c", "d"], 255)
    scores = torch.from_numpy(rng.normal(size=(4, 4, 9, 11)))
    stock = build_sem_seg_evaluator(name)
    stock.reset()
    for i, one in enumerate(scores):
        stock.process([{"file_name": f"{i}.jpg"}], [{"sem_seg": one}])
    expected = {k: v for k, v in stock.evaluate()["sem_seg"].items() if "B" not in k}
    got = score(name, [one.argmax(0) for one in scores])
    assert list(got) == list(expected)
    assert got == pytest.approx(expected, abs=1e-9)


def slow_iou(truth, predictions, ignored, classes):
    """{class: IoU in per cent} by a loop over pixels; classes that do not occur are left out."""
    found = {}
    pairs = [
        (int(t), int(p))
        for a, b in zip(truth, predictions, strict=True)
        for t, p in zip(np.ravel(a), np.ravel(b), strict=True)
        if t != ignored
    ]
    for c in range(classes):
        both = sum(t == c and p == c for t, p in pairs)
        if any(t == c for t, _ in pairs):
            found[c] = 100 * both / sum(t == c or p == c for t, p in pairs)
    return found


@pytest.mark.parametrize("ignored, dtype", [(255, np.uint8), (65535, np.uint16)])
def test_what_was_given_to_no_class_is_a_miss(dataset, ignored, dtype):
    """Stock, predictions of the ignored label would take pixels out of the count."""
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 1, 2, ignored], (3, 7, 8))
    predictions = rng.choice([0, 1, 2, ignored], (3, 7, 8))
    name = dataset(truth, ["a", "b", "c", "never"], ignored, dtype)
    expected = slow_iou(truth, predictions, ignored, 4)
    got = score(name, predictions)
    assert set(expected) == {0, 1, 2}
    for c, value in expected.items():
        assert got[f"IoU-{'abc'[c]}"] == pytest.approx(value, abs=1e-9)
    assert got["mIoU"] == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    assert np.isnan(got["IoU-never"]) and not any("nothing" in key for key in got)
    known = truth != ignored
    assert got["pACC"] == pytest.approx(100 * (truth == predictions)[known].mean(), abs=1e-9)


def test_predictions_of_no_class_are_written_under_the_ignored_label(dataset):
    """Also where a dataset has ids of its own."""
    ids = {"stuff_dataset_id_to_contiguous_id": {7: 0, 9: 1}}
    name = dataset([[[0, 1]]], ["a", "b"], 255, **ids)
    evaluator = LabelMapEvaluator(name, MODE, "task")
    evaluator.reset()
    labels = torch.tensor([[1, 255]])
    evaluator.process([{"file_name": "0.jpg"}], [{"label_maps": {MODE: labels}}])
    assert [p["category_id"] for p in evaluator._predictions] == [9, 255]


def test_classes_that_could_not_be_asked_for_are_left_out_not_zeroed(dataset):
    truth = [[[0, 1, 2, 2]], [[0, 1, 2, 1]]]
    guess = [[[0, 1, 0, 0]], [[0, 255, 2, 255]]]
    name = dataset(truth, ["a", "b", "c"], 255)
    plain = score(name, guess)
    assert plain["IoU-a"] == pytest.approx(50) and plain["IoU-c"] == pytest.approx(100 / 3)
    got = score(name, guess, left_out={"0.jpg": [2]})  # of c, the second image alone counts
    assert got["IoU-a"] == got["IoU-c"] == 100 and got["IoU-b"] == pytest.approx(100 / 3)
    got = score(name, guess, never=[1], left_out={"0.jpg": [2]})
    assert np.isnan(got["IoU-b"]) and got["mIoU"] == 100


def test_background_is_a_class_like_others_and_its_absence_a_false_positive(dataset):
    name = dataset([[[0, 0, 1, 1]]], ["background", "a"], 255, background_label=0)
    got = score(name, [[[0, 1, 1, 1]]])
    assert got["IoU-background"] == pytest.approx(50)
    assert got["IoU-a"] == pytest.approx(200 / 3)


def test_255_is_ignored_in_pascal_vocs_maps(dataset):
    """Boundaries are 255 and count neither way, whatever is predicted there."""
    name = dataset([[[0, 255, 255, 1]]], ["background", "aeroplane"], 255)
    assert score(name, [[[0, 0, 1, 1]]])["mIoU"] == 100


def test_255_is_a_class_in_16_bit_maps(dataset):
    classes = [f"class {i}" for i in range(300)]
    name = dataset([[[255, 255, 65535, 0]]], classes, 65535, np.uint16)
    got = score(name, [[[255, 0, 0, 0]]])
    assert got["IoU-class 255"] == pytest.approx(50) and got["IoU-class 0"] == pytest.approx(50)


@pytest.mark.filterwarnings("ignore")
def test_maps_of_three_equal_channels_score_as_those_of_one(dataset):
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 1, 2, 255], (3, 9, 11))
    predictions = rng.choice([0, 1, 2], (3, 9, 11))
    plain = dataset(truth, ["a", "b", "c"], 255)
    expected = score(plain, predictions)
    grey = dataset(np.repeat(truth[..., None], 3, -1), ["a", "b", "c"], 255)
    assert score(grey, predictions) == expected
    stock = build_sem_seg_evaluator(grey)
    stock.reset()
    for i, labels in enumerate(predictions):
        scores = torch.from_numpy(labels == np.arange(3)[:, None, None]).double()
        stock.process([{"file_name": f"{i}.jpg"}], [{"sem_seg": scores}])
    assert stock.evaluate()["sem_seg"]["mIoU"] == pytest.approx(expected["mIoU"])
