"""How doubtful the answer for a picture is."""

import math

import numpy as np
import pytest
import torch

from segic_d2.predictor import doubt as module
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.modeling.segic.parts import build, encoded


def doubt(found, least):
    return module.doubt(found, least).value


FRAME = Frame(32, (32, 20), (75, 47))  # 8 × 5 cells of an 8 × 8 map


def segmentation(scores, seed=0, logits=None, **changes):
    count, g = len(scores), torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 8, 8, generator=g) if logits is None else logits
    ids = [3 * i + 1 for i in range(count)]
    scores = torch.tensor(scores, dtype=torch.float32)
    return Segmentation(logits, scores, ids, [None] * count, FRAME, 0.1, **changes)


def slow(found, least):
    """The same entity by entity and cell by cell."""
    scores = dict(zip(found.ids, found.compete().scores.tolist(), strict=True))
    shown = found.compete(least)
    doubts = []
    for i, score in scores.items():
        cells = []
        if i in shown.ids:
            own = shown.logits[shown.ids.index(i)].detach()
            height, width = (x * len(own) // found.frame.canvas for x in found.frame.content)
            for y in range(height):
                for x in range(width):  # the rest is padding
                    logit = float(own[y, x]) - found.threshold
                    if logit > 0:
                        cells.append(2 / (1 + math.exp(-logit)) - 1)
        level = least if least > 0 else 1
        doubts.append(1 - score * sum(cells) / len(cells) if cells else min(1, score / level))
    return sum(doubts) / len(doubts)


def test_it_equals_a_plain_loop():
    seen = set()
    for seed in range(6):
        scores = torch.rand(5, generator=torch.Generator().manual_seed(seed)).tolist()
        found = segmentation(scores, seed)
        for least in (0.0, 0.1, 0.3):
            value = doubt(found, least)
            assert value == pytest.approx(slow(found, least), abs=1e-6) and 0 <= value <= 1
            seen.add(round(value, 6))
            shown = found.for_people(np.zeros((75, 47, 3), np.uint8), "a.jpg")
            assert doubt(shown, least) == pytest.approx(value, abs=1e-6)
    assert len(seen) == 18


def block(*cells):
    """Logits (8, 8) of one entity: those given in the first row, −6 elsewhere."""
    logits = torch.full((8, 8), -6.0)
    logits[0, : len(cells)] = torch.tensor(cells)
    return logits


def test_by_hand():
    sure, soft = block(20.0, 20.0), block(0.1 + math.log(3), 0.1 + math.log(3))  # p 1 and ¾
    one = segmentation([0.8], logits=sure[None])
    assert doubt(one, 0.15) == pytest.approx(0.2)
    assert doubt(segmentation([0.8], logits=soft[None]), 0.15) == pytest.approx(0.6)
    # just left out is more doubtful than far from the level
    for score, expected in ((0.14, 14 / 15), (0.03, 0.2)):
        found = segmentation([score], logits=sure[None])
        assert doubt(found, 0.15) == pytest.approx(expected, abs=1e-5)
    # without a pixel: left out by every level
    empty = block()[None]
    assert doubt(segmentation([0.3], logits=empty), 0.15) == 1
    assert doubt(segmentation([0.3], logits=empty), 0.0) == pytest.approx(0.3)
    assert doubt(segmentation([]), 0.15) == 0


def test_the_most_doubtful_entity_is_named():
    logits = torch.stack([block(20.0), block()])
    found = segmentation([0.8, 0.14], logits=logits)
    value, most, why = module.doubt(found, 0.15)
    assert most == pytest.approx(0.14 / 0.15, abs=1e-5) and why == "entity 4 0.14, left out"
    assert value == pytest.approx((0.2 + most) / 2, abs=1e-5)
    found.names = ["cat", "dog"]
    assert module.doubt(found, 1e9).why == "cat 0.80, left out"


def test_what_lies_in_the_padding_is_nowhere():
    logits = torch.full((1, 8, 8), -6.0)
    logits[0, :, 5:] = 6.0
    assert doubt(segmentation([0.06], logits=logits), 0.0) == pytest.approx(0.06)


def test_rivals_for_the_same_pixels_are_doubtful():
    """Two kinds that mark the same thing share the odds of their scores."""
    logits = torch.stack([block(20.0, 20.0), block(20.0, 20.0)])
    alone = doubt(segmentation([0.8, 0.0], logits=logits), 0.15)
    both = doubt(segmentation([0.8, 0.8], logits=logits), 0.15)
    assert alone == pytest.approx(0.1, abs=1e-3) and both > 0.5


def test_scores_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match=r"a\.jpg: the model's scores are not finite"):
        doubt(segmentation([0.5, math.nan], file_name="a.jpg"), 0.15)


def test_of_a_model():
    model = build("MODEL.SEGIC.TEST.ABSENT", 0.15)
    features, context = encoded(model, entities=3)
    (found,) = model.segment(features, context)
    assert doubt(found, model.absent) == pytest.approx(slow(found, model.absent), abs=1e-6)
