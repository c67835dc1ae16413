"""Pooled IoU and FB-IoU of a benchmark's classes, against a plain loop and torchmetrics."""

import numpy as np
import pytest
import torch

from segic_d2.evaluation import OneShotEvaluator

CLASSES = {4: "cat", 7: "dog", 760: "bus", 761: "train"}
TASK = "few_shot-test-1shot-unseen-text"


def episodes(count=30, seed=0):
    """Random masks of three of the classes; a class whose prediction and truth are both empty."""
    rng = np.random.default_rng(seed)
    inputs, outputs = [], []
    for i in range(count):
        class_id = (4, 7, 760)[i % 3]
        shape = (1, *rng.integers(5, 40, 2))
        truth, mask = (rng.random(shape) > p for p in (0.7, rng.random()))
        if class_id == 760:
            truth[:], mask[:] = False, False
        x = {"episode": i, "entities": [{"id": class_id}], "gt_masks": torch.from_numpy(truth)}
        if i % 4 == 0:
            x["gt_ignore"] = torch.from_numpy(rng.random(shape[1:]) > 0.8)
        inputs.append({**x, "file_name": f"{i}.png"})
        outputs.append({"masks": torch.from_numpy(mask)})
    return inputs, outputs


def evaluated(inputs, outputs):
    evaluator = OneShotEvaluator("test", TASK, CLASSES)
    for x, out in zip(inputs, outputs, strict=True):
        evaluator.process([x], [out])
    result = evaluator.evaluate()[TASK]
    assert evaluator.without_episode == ["train"]
    return result


def known_pixels(x, out):
    known = ~x["gt_ignore"] if "gt_ignore" in x else torch.ones_like(x["gt_masks"][0])
    return out["masks"][0][known], x["gt_masks"][0][known]


def slow(inputs, outputs):
    """{class: IoU}, FB-IoU by a loop over pixels, each class a pair of sums."""
    foreground, whole = {}, [0, 0, 0, 0]
    for x, out in zip(inputs, outputs, strict=True):
        sums = foreground.setdefault(x["entities"][0]["id"], [0, 0])
        for p, t in zip(*(v.tolist() for v in known_pixels(x, out)), strict=True):
            sums[0] += p and t
            sums[1] += p or t
            whole[0] += p and t
            whole[1] += p or t
            whole[2] += not p and not t
            whole[3] += not p or not t
    iou = {c: i / max(u, 1) for c, (i, u) in foreground.items()}
    return iou, (whole[0] / whole[1] + whole[2] / whole[3]) / 2


def test_against_a_plain_loop():
    inputs, outputs = episodes()
    found, (iou, fb_iou) = evaluated(inputs, outputs), slow(inputs, outputs)
    assert found["mIoU"] == pytest.approx(100 * np.mean(list(iou.values())), abs=1e-9)
    assert found["FB_IoU"] == pytest.approx(100 * fb_iou, abs=1e-9)
    assert found["IoU-cat"] == pytest.approx(100 * iou[4], abs=1e-9)
    assert found["IoU-bus"] == 0 and "IoU-train" not in found  # empty, and without an episode


def test_against_torchmetrics():
    """Its confusion matrices to 1e-9; its own IoU to the precision of float32."""
    metrics = pytest.importorskip("torchmetrics.classification")
    inputs, outputs = episodes(seed=1)
    matrices = {c: metrics.BinaryConfusionMatrix() for c in CLASSES}
    jaccard = metrics.BinaryJaccardIndex()
    for x, out in zip(inputs, outputs, strict=True):
        prediction, truth = (v.int() for v in known_pixels(x, out))
        matrices[x["entities"][0]["id"]].update(prediction, truth)
        if x["entities"][0]["id"] == 4:
            jaccard.update(prediction, truth)
    counts = {c: m.compute().double() for c, m in matrices.items() if c != 761}
    # rows: truth; columns: prediction
    iou = [m[1, 1] / max(m.sum() - m[0, 0], 1) for m in counts.values()]
    pooled = sum(counts.values())
    fb_iou = pooled[1, 1] / (pooled.sum() - pooled[0, 0]) + pooled[0, 0] / (
        pooled.sum() - pooled[1, 1]
    )
    found = evaluated(inputs, outputs)
    assert found["mIoU"] == pytest.approx(100 * float(np.mean(iou)), abs=1e-9)
    assert found["FB_IoU"] == pytest.approx(50 * float(fb_iou), abs=1e-9)
    assert found["IoU-cat"] == pytest.approx(100 * float(jaccard.compute()), rel=1e-6)


def test_an_episode_that_comes_twice_counts_once():
    inputs, outputs = episodes()
    assert evaluated(inputs + inputs[3:9], outputs + outputs[3:9]) == evaluated(inputs, outputs)
