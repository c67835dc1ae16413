import numpy as np
import pytest
import torch

from segic_d2.evaluation import PCKEvaluator
from segic_d2.evaluation import pck as module
from segic_d2.evaluation.pck import correct_points


def pairs(count=9, seed=0):
    rng = np.random.default_rng(seed)
    inputs, outputs = [], []
    for i in range(count):
        k = int(rng.integers(1, 12))
        truth = rng.uniform(0, 200, (k, 2))
        x0, y0 = rng.uniform(0, 50, 2)
        w, h = rng.uniform(50, 200, 2)
        inputs.append(
            {
                "pair": i,
                "category": ["cat", "bus", "tvmonitor"][i % 3],
                "file_name": f"{i}.jpg",
                "target_keypoints": torch.from_numpy(truth),
                "box": torch.tensor([x0, y0, x0 + w, y0 + h], dtype=torch.float64),
            }
        )
        outputs.append({"keypoints": torch.from_numpy(truth + rng.normal(0, 15, (k, 2)))})
    return inputs, outputs


def slow_pck(inputs, outputs, alpha):
    """(mean over pairs, share of all points), point by point."""
    shares, right, points = [], 0, 0
    for x, out in zip(inputs, outputs, strict=True):
        x0, y0, x1, y1 = x["box"].tolist()
        good = 0
        for (a, b), (c, d) in zip(
            out["keypoints"].tolist(), x["target_keypoints"].tolist(), strict=True
        ):
            good += ((a - c) ** 2 + (b - d) ** 2) ** 0.5 <= alpha * max(x1 - x0, y1 - y0)
        shares.append(good / len(out["keypoints"]))
        right, points = right + good, points + len(out["keypoints"])
    return 100 * sum(shares) / len(shares), 100 * right / points


def test_pck_against_a_plain_loop():
    inputs, outputs = pairs()
    evaluator = PCKEvaluator()
    evaluator.process(inputs[:4], outputs[:4])
    evaluator.process(inputs[4:], outputs[4:])
    result = evaluator.evaluate()["pck"]
    assert result["pairs"] == 9 and result["points"] == sum(len(o["keypoints"]) for o in outputs)
    for alpha in (0.05, 0.1, 0.15):
        image, point = slow_pck(inputs, outputs, alpha)
        assert result[f"PCK@{alpha}_image"] == pytest.approx(image, abs=1e-9)
        assert result[f"PCK@{alpha}_point"] == pytest.approx(point, abs=1e-9)
        image, point = slow_pck(inputs[1::3], outputs[1::3], alpha)
        assert result[f"PCK@{alpha}_image-bus"] == pytest.approx(image, abs=1e-9)
        assert result[f"PCK@{alpha}_point-bus"] == pytest.approx(point, abs=1e-9)
    printed = [k for k in result if "-" not in k]  # Detectron2's table leaves the others out
    assert len(printed) == 8 and len(result) == 8 + 3 * 6
    assert result["PCK@0.05_image"] < result["PCK@0.15_image"]
    assert result["PCK@0.1_image"] != result["PCK@0.1_point"]


def test_the_longer_side_of_the_box_and_a_point_at_the_limit_counts():
    truth = np.array([[50.0, 50.0]] * 3)
    found = truth + [[10, 0], [0, 10.001], [6, 8]]
    right = correct_points(found, truth, [20, 40, 60, 140], alphas=(0.1, 0.2))
    assert right.tolist() == [[True, True], [False, True], [True, True]]


def test_processes_add_up_and_no_pair_counts_twice(monkeypatch):
    inputs, outputs = pairs()
    whole, first, second = PCKEvaluator(), PCKEvaluator(), PCKEvaluator()
    whole.process(inputs, outputs)
    first.process(inputs[:6], outputs[:6])
    second.process(inputs[4:], outputs[4:])  # two pairs padded in twice
    monkeypatch.setattr(module.comm, "gather", lambda data: [data, second._pairs])
    split = first.evaluate()
    monkeypatch.undo()
    assert split == whole.evaluate()


def test_an_interrupted_evaluation_goes_on():
    inputs, outputs = pairs()
    whole, before, after = PCKEvaluator(), PCKEvaluator(), PCKEvaluator()
    whole.process(inputs, outputs)
    before.process(inputs[:5], outputs[:5])
    after.load_state_dict(before.state_dict())
    after.process(inputs[5:], outputs[5:])
    assert after.evaluate() == whole.evaluate()


def test_what_cannot_be_counted_is_an_error(monkeypatch):
    inputs, outputs = pairs(1)
    evaluator = PCKEvaluator()
    with pytest.raises(ValueError, match="0.jpg: 1 points were found"):
        evaluator.process(inputs, [{"keypoints": torch.zeros(1, 2)}])
    with pytest.raises(ValueError, match="no pair was evaluated"):
        evaluator.evaluate()
    monkeypatch.setattr(module.comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() is None
