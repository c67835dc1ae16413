import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog

from segic_d2.evaluation import BestThresholdEvaluator, OneShotEvaluator
from segic_d2.evaluation import pooling as module

NAME = "evaluation_test"
MetadataCatalog.get(NAME).thing_classes = ["cat", "dog", "cow"]


def episodes(count=12, seed=0):
    rng = np.random.default_rng(seed)
    inputs, outputs = [], []
    for i in range(count):
        h, w = rng.integers(5, 12, 2)
        ids = rng.permutation(3)[: 1 + i % 2].tolist()
        shape = (len(ids), h, w)
        truth = torch.from_numpy(rng.random(shape) > 0.6)
        noisy = torch.from_numpy(rng.normal(size=shape)).float() * 0.3 + truth * 0.2
        x = {"episode": i, "entities": [{"id": c} for c in ids], "gt_masks": truth}
        if i % 3 == 0:
            x["gt_ignore"] = torch.from_numpy(rng.random((h, w)) > 0.8)
        inputs.append({**x, "file_name": f"{i}.png"})
        outputs.append({"masks": noisy > 0.1, "propagated_mask": noisy.clamp(-1, 1)})
    return inputs, outputs


def slow_miou(inputs, masks_of):
    """A plain loop over pixels: mIoU and FB-IoU."""
    inter, union, back = {}, {}, [0, 0]
    for n, x in enumerate(inputs):
        for e, entity in enumerate(x["entities"]):
            c, mask = entity["id"], masks_of(n)[e]
            for y in range(mask.shape[0]):
                for z in range(mask.shape[1]):
                    if "gt_ignore" in x and x["gt_ignore"][y, z]:
                        continue
                    p, t = bool(mask[y, z]), bool(x["gt_masks"][e, y, z])
                    inter[c] = inter.get(c, 0) + (p and t)
                    union[c] = union.get(c, 0) + (p or t)
                    back[0] += not (p or t)
                    back[1] += not (p and t)
    miou = 100 * np.mean([inter[c] / max(union[c], 1) for c in inter])
    foreground = sum(inter.values()) / sum(union.values())
    return miou, 100 * (foreground + back[0] / back[1]) / 2


def test_pooled_iou_against_a_plain_loop():
    inputs, outputs = episodes()
    evaluator = OneShotEvaluator(NAME)
    for i in range(0, 12, 5):
        evaluator.process(inputs[i : i + 5], outputs[i : i + 5])
    result = evaluator.evaluate()["one_shot"]
    miou, fb = slow_miou(inputs, lambda n: outputs[n]["masks"])
    assert result["mIoU"] == pytest.approx(miou, abs=1e-9)
    assert result["FB_IoU"] == pytest.approx(fb, abs=1e-9)
    assert result["episodes"] == 12
    assert {k for k in result if k.startswith("IoU-")} == {"IoU-cat", "IoU-dog", "IoU-cow"}


def test_best_threshold_against_every_threshold():
    inputs, outputs = episodes()
    evaluator = BestThresholdEvaluator(NAME)
    evaluator.process(inputs, outputs)
    result = evaluator.evaluate()["propagated_mask"]

    def at(level):
        return slow_miou(inputs, lambda n: outputs[n]["propagated_mask"] >= level)[0]

    assert result["mIoU"] == pytest.approx(at(result["threshold"]), abs=1e-9)
    assert all(at(level) <= result["mIoU"] + 1e-9 for level in np.linspace(-0.6, 0.6, 13))


@pytest.mark.parametrize("cls", [OneShotEvaluator, BestThresholdEvaluator])
def test_processes_add_up_and_no_episode_counts_twice(cls, monkeypatch):
    inputs, outputs = episodes()
    whole = cls(NAME)
    whole.process(inputs, outputs)
    first, second = cls(NAME), cls(NAME)
    first.process(inputs[:7], outputs[:7])
    second.process(inputs[5:], outputs[5:])  # two episodes padded in twice
    monkeypatch.setattr(module.comm, "gather", lambda data: [data, second._counts])
    split = first.evaluate()
    monkeypatch.undo()
    assert split == whole.evaluate()


def test_only_the_main_process_reports(monkeypatch):
    evaluator = OneShotEvaluator(NAME)
    monkeypatch.setattr(module.comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() is None


def test_an_empty_prediction_of_an_empty_truth_is_no_division_by_zero():
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    evaluator = OneShotEvaluator(NAME)
    evaluator.process(
        [{"episode": 0, "entities": [{"id": 0}], "gt_masks": truth}], [{"masks": truth}]
    )
    assert evaluator.evaluate()["one_shot"]["mIoU"] == 0


def test_what_cannot_be_compared_is_an_error():
    (x,), (out,) = (part[:1] for part in episodes(1))
    evaluator = OneShotEvaluator(NAME)
    with pytest.raises(ValueError, match="0.png: output 'masks' has shape None"):
        evaluator.process([x], [{}])
    with pytest.raises(ValueError, match="0.png: output 'masks' has shape .1, 2, 2."):
        evaluator.process([x], [{"masks": torch.ones(1, 2, 2)}])
    with pytest.raises(ValueError, match="0.png: the episode has no gt_masks"):
        evaluator.process([{k: v for k, v in x.items() if k != "gt_masks"}], [out])
    with pytest.raises(ValueError, match="no episode of evaluation_test"):
        evaluator.evaluate()
