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

    def __call__(self, features, contexts, found, below=0.1):
        return look_again(self.encode, self.segment, features, contexts, found, below)


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
    """Small ones alone, the largest part of each, by their own context, the surest first."""
    boxes = [(0, 2, 20, 2, 20), (1, 4, 5, 4, 5), (1, 20, 23, 20, 22), (3, 8, 8, 8, 8)]
    scores = torch.tensor([0.9, 0.2, 0.8, 0.7])
    features, found = target(blob(*boxes, count=4), scores=scores)
    contexts, looks = random_contexts(4), Looks(lambda i: torch.full((1, SIDE, SIDE), 3.0 - i))
    (got,) = looks(features, contexts, [found])
    assert [x.ids for x in looks.asked] == [[3], [1]]
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
    assert bool(looks.views) == (max(content) > 10 and min(content) >= 4)


def test_what_a_cut_says_is_bounded():
    """A cut in which the entity is left out altogether does not outweigh the first look."""
    features, found = target(blob((0, 10, 12, 10, 12)), threshold=-1.0)
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), -1e4))
    (got,) = looks(features, random_contexts(1), [found])
    assert float(got.logits[0, 11, 11]) == pytest.approx(FIRST * 2 + (1 - FIRST) * (-6 - 1))


def test_many_small_ones_are_bounded():
    count = MOST + 3
    scores = torch.arange(count) / count
    features, found = target(
        blob(*((i, 5, 6, 2 * i, 2 * i + 1) for i in range(count)), count=count), scores=scores
    )
    looks = Looks(lambda _: torch.full((1, SIDE, SIDE), 3.0))
    looks(features, random_contexts(count), [found])
    assert [x.ids for x in looks.asked] == [[i] for i in range(count - 1, 2, -1)]


@pytest.mark.parametrize("logits", [blob(), blob((0, 0, 31, 0, 31)), blob(count=0)])
def test_where_nothing_is_small_nothing_is_done(logits):
    features, found = target(logits)
    given, looks = [found], Looks(None)
    features.pictures = None
    assert looks(features, random_contexts(len(logits)), given) is given and not looks.views
    features, found = target(blob((0, 5, 6, 5, 6)))
    assert looks(features, random_contexts(1), given, below=0.0) is given


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
    """Batches change nothing; prompts and frames of videos are not seen again."""
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


def test_it_needs_the_pictures():
    features, found = target(blob((0, 10, 12, 10, 12)))
    features.pictures = None
    with pytest.raises(ValueError, match=r"REFINE.SECOND_LOOK needs the pictures of the targets"):
        Looks(None)(features, random_contexts(1), [found])
