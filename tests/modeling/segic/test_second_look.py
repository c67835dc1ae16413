"""What is seen again, where it is cut, and how both looks are put together."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic import second_look
from segic_d2.modeling.segic.second_look import FIRST, MOST, SHARE, look_again
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.modeling.segic.parts import build, random_contexts
from tests.tiny import tiny_episode

LOOK = "MODEL.SEGIC.TEST.REFINE.SECOND_LOOK"
REGIONS = (
    *("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", "MODEL.SEGIC.REGIONS.DECODER", 0.2),
    *("MODEL.SEGIC.TEST.REFINE.RADIUS", 2, "INPUT.MULTIPLE", 14, "INPUT.REFERENCE_ZOOM", 0.7),
    *("INPUT.REFERENCE_WHOLE", True),
)
SIDE, CANVAS = 32, 112  # of logits, px: 3.5 px each


def target(logits, content=(112, 98), threshold=0.0, scores=None):
    """Features without meaning, and what was found, of one target of ``content`` px."""
    frame = Frame(CANVAS, content, (200, 175))
    picture = torch.arange(3 * content[0] * content[1]).reshape(3, *content) % 256
    names = list(range(len(logits)))
    scores = torch.full((len(logits),), 0.5) if scores is None else scores
    found = Segmentation(logits, scores, names, [None] * len(names), frame, threshold)
    return Features(torch.zeros(1, 24, 8, 8), [frame], [picture]), found


class Looks:
    """Stands for a model: every cut is answered with ``said`` of the place on the first canvas."""

    def __init__(self, said):
        self.said, self.views, self.asked = said, [], []

    def encode(self, views):
        self.views = [x["image"] for x in views]
        frames = [Frame(CANVAS, tuple(x.shape[1:]), tuple(x.shape[1:])) for x in self.views]
        return Features(torch.zeros(len(views), 24, 8, 8), frames, self.views)

    def segment(self, features, contexts):
        self.asked = contexts
        each = zip(features.frames, contexts, strict=True)
        return [
            Segmentation(self.said(i), torch.ones(1), context.ids, [None], frame, -1.0)
            for i, (frame, context) in enumerate(each)
        ]

    def __call__(self, features, contexts, found, below=0.1, least=0.0):
        return look_again(self.encode, self.segment, features, contexts, found, below, least)


def blob(*boxes, count=1):
    """Logits of which 2 stands in boxes (entity, first row, last, first column, last), else −3."""
    logits = torch.full((count, SIDE, SIDE), -3.0)
    for entity, top, bottom, left, right in boxes:
        logits[entity, top : bottom + 1, left : right + 1] = 2.0
    return logits


def test_both_looks_against_a_loop():
    """A cut says 0.05·y − 0.02·x of the canvas's px, which bilinear sampling keeps."""
    box = 10, 13, 6, 11  # rows and columns of the logits: 14×21 px
    features, found = target(blob((0, *box)))
    crop = second_look.zoom_crop(np.pad(np.ones((14, 21), bool), ((35, 63), (21, 56))), SHARE)
    y, x, size = crop.y0, crop.x0, crop.h
    assert crop.h == crop.w == 53  # 21 / 0.4

    def said(_):
        inside = (torch.arange(SIDE) + 0.5) / SIDE * 2  # in units of the cut, which has half
        rows, columns = y + size * inside[:, None], x + size * inside[None]
        return (0.05 * rows - 0.02 * columns - 1.0)[None]  # threshold −1

    looks = Looks(said)
    (got,) = looks(features, random_contexts(1), [found])
    assert [tuple(view.shape) for view in looks.views] == [(3, 56, 56)]
    for row in range(SIDE):
        for column in range(SIDE):
            before = float(found.logits[0, row, column])
            anew = 0.05 * 3.5 * (row + 0.5) - 0.02 * 3.5 * (column + 0.5)
            places = 3.5 * (row + 0.5) - y, 3.5 * (column + 0.5) - x  # in the cut
            inside = all(0 <= px < size for px in places)
            edge = min(*places, *(size - px for px in places)) < 3  # no line goes on there
            wanted = FIRST * before + (1 - FIRST) * anew if inside else before
            told = pytest.approx(wanted, abs=0.1 if edge and inside else 1e-4)
            assert float(got.logits[0, row, column]) == told
    assert found.logits.equal(blob((0, *box)))  # what was found before stays as it was


def test_which_are_seen_again():
    """Small ones alone, the largest part of each, beside what else is there, the surest first."""
    boxes = [(0, 2, 20, 2, 20), (1, 4, 5, 4, 5), (1, 20, 23, 20, 22), (3, 8, 8, 8, 8)]
    scores = torch.tensor([0.9, 0.2, 0.8, 0.7])
    features, found = target(blob(*boxes, count=4), scores=scores)
    contexts, looks = random_contexts(4), Looks(lambda i: torch.full((1, SIDE, SIDE), 3.0 - i))
    (got,) = looks(features, contexts, [found])
    assert [x.ids for x in looks.asked] == [[3, 0], [1, 0]]
    changed = (got.logits != found.logits).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, True]
    assert got.logits[1, :10, :10].equal(found.logits[1, :10, :10])  # about the smaller part
    assert got.logits[3, 8, 8] == FIRST * 2 + (1 - FIRST) * (3 + 1)  # less the threshold, −1
    assert got.logits[1, 21, 21] == FIRST * 2 + (1 - FIRST) * (2 + 1)


@pytest.mark.parametrize("content", [(1, 112), (112, 2), (3, 3), (4, 112), (112, 4)])
def test_pictures_thinner_than_a_cell(content):
    features, found = target(blob((0, 0, 0, 0, 0), count=1), content=content)
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), 3.0))
    (got,) = looks(features, random_contexts(1), [found], below=1.0)
    assert got.logits.shape == found.logits.shape and torch.isfinite(got.logits).all()
    assert bool(looks.views) == (min(content) >= 4)


def test_what_is_not_seen_again():
    """What is long would not be seen larger, what scores too low is left out anyhow."""
    boxes = [(0, 3, 4, 2, 9), (1, 8, 8, 2, 22), (2, 20, 21, 20, 21)]
    features, found = target(blob(*boxes, count=3), scores=torch.tensor([0.5, 0.6, 0.4]))
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), 3.0))
    looks(features, random_contexts(3), [found], least=0.45)
    assert not looks.asked
    boxes[0] = 0, 3, 4, 2, 6  # 17.5 px: a cut of 44
    features, found = target(blob(*boxes, count=3), scores=torch.tensor([0.5, 0.6, 0.4]))
    looks(features, random_contexts(3), [found], least=0.45)
    assert [x.ids[0] for x in looks.asked] == [0]


def test_what_both_looks_lose_stays():
    """A cut in which an entity is left out altogether is bounded, and takes nothing away alone."""
    features, found = target(blob((0, 10, 12, 10, 12)), threshold=-1.0)
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), -1e4))
    (got,) = looks(features, random_contexts(1), [found])
    assert looks.views and got.logits.equal(found.logits)
    found.logits[0, 11, 11] = 9.0
    (got,) = looks(features, random_contexts(1), [found])
    assert float(got.logits[0, 11, 11]) == pytest.approx(FIRST * 9 + (1 - FIRST) * (-6 - 1))
    assert float(got.logits[0, 10, 10]) == pytest.approx(FIRST * 2 + (1 - FIRST) * (-6 - 1))


def test_many_small_ones_are_bounded():
    count = MOST + 3
    scores = torch.arange(count) / count
    boxes = (
        (i, 8 * (i // 4) + 1, 8 * (i // 4) + 2, 7 * (i % 4), 7 * (i % 4)) for i in range(count)
    )
    features, found = target(blob(*boxes, count=count), scores=scores)
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), 3.0))
    (got,) = looks(features, random_contexts(count), [found])
    assert [x.ids for x in looks.asked] == [[i] for i in range(count - 1, 2, -1)]
    changed = (got.logits != found.logits).flatten(1).any(1)
    assert changed.tolist() == [i >= 3 for i in range(count)]


def test_many_cuts_are_seen_in_turn():
    """So that memory does not grow with the targets; each is answered by its own."""
    count, said = MOST + 2, []
    features, found = target(blob((0, 10, 11, 10, 11)))
    many = Features(features.map.expand(count, -1, -1, -1), features.frames * count)
    many.pictures = features.pictures * count
    looks = Looks(lambda i: torch.full((1, SIDE, SIDE), float(len(said) + i)))

    def segment(views, contexts):
        answer = Looks.segment(looks, views, contexts)
        said.extend(contexts)
        return answer

    got = look_again(looks.encode, segment, many, random_contexts(1) * count, [found] * count, 0.1)
    assert len(looks.asked) == 2
    at = [float(x.logits[0, 10, 10]) for x in got]
    assert at == [FIRST * 2 + (1 - FIRST) * min(i + 1, 6) for i in range(count)]


@pytest.mark.parametrize("logits", [blob(), blob((0, 0, 31, 0, 31)), blob(count=0)])
def test_where_nothing_is_small_nothing_is_done(logits):
    features, found = target(logits)
    looks = Looks(None)
    assert looks(features, random_contexts(len(logits)), [found])[0] is found
    features, found = target(blob((0, 5, 6, 5, 6)))
    assert looks(features, random_contexts(1), [found], below=0.0)[0] is found
    assert not looks.views


def test_the_cut_is_of_the_picture():
    """Seen at the size of half a canvas, in whole cells."""
    features, found = target(blob((0, 10, 11, 10, 12)))
    looks = Looks(lambda _: torch.zeros(1, SIDE, SIDE))
    looks(features, random_contexts(1), [found])
    y, x, side = 24, 26, 28  # about 7×11 px, which take 0.4 of it
    cut = features.pictures[0][None, :, y : y + side, x : x + side].float()
    wanted = F.interpolate(cut, (56, 56), mode="bicubic", antialias=True)[0].clamp(0, 255)
    assert looks.views[0].shape == (3, 56, 56)
    assert (looks.views[0] - wanted).abs().mean() < 1e-3


def test_a_model_looks_again_target_by_target():
    """Batches change nothing; frames of videos and parts of classes are not seen again."""
    plain, model = build(*REGIONS), build(*REGIONS, LOOK, 0.5)
    episodes = [tiny_episode(i, 1, size=(70 + 20 * i, 98)) for i in (0, 1, 2)]
    features = model.encode_images(episodes)
    contexts = [model.encode_context(x["references"]) for x in episodes]
    together, before = model.segment(features, contexts), plain.segment(features, contexts)
    changed = 0
    for i, (one, first) in enumerate(zip(together, before, strict=True)):
        (alone,) = model.segment(features[i : i + 1], contexts[i])
        torch.testing.assert_close(one.logits, alone.logits, atol=1e-4, rtol=1e-4)
        assert one.logits.shape == first.logits.shape and one.frame == first.frame
        changed += not torch.equal(one.logits, first.logits)
    assert changed
    frame = model.segment_frame(features[:1], contexts[0])
    torch.testing.assert_close(frame.logits, before[0].logits)
    parts = [x.segment_instances(features[:1], contexts[0])[0] for x in (model, plain)]
    torch.testing.assert_close(parts[0].logits, parts[1].logits)


def test_it_needs_the_pictures():
    """Also where nothing is small: whoever has none learns it at the first target."""
    features, found = target(blob())
    features.pictures = None
    with pytest.raises(ValueError, match=r"REFINE.SECOND_LOOK needs the pictures of the targets"):
        Looks(None)(features, random_contexts(1), [found])
