"""Tuning on a few pictures: the better weights stay, whatever happens."""

import numpy as np
import pytest
import torch

from segic_d2.checkpoint import trainable_state_dict
from segic_d2.engine import tune
from segic_d2.engine.tune_data import Labelled
from segic_d2.predictor import InContextPredictor
from tests.modeling.segic.parts import build
from tests.tiny import tiny_config

FUSED = (
    *("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", "MODEL.SEGIC.REGIONS.DECODER", 0.2),
    *("INPUT.MULTIPLE", 14, "INPUT.REFERENCE_ZOOM", 0.7, "INPUT.REFERENCE_WHOLE", True),
)
NAMES = {1: "red"}


def picture(seed):
    """A red and a blue square on grey; the red one is marked."""
    rng = np.random.default_rng(seed)
    image, mask = np.full((84, 112, 3), 120, dtype=np.uint8), np.zeros((84, 112), dtype=bool)
    for left, colour in zip(rng.permutation([8, 64]), ((220, 30, 30), (30, 30, 220)), strict=True):
        top = int(rng.integers(0, 40))
        image[top : top + 40, left : left + 40] = colour
        if colour[0] > 100:
            mask[top : top + 40, left : left + 40] = True
    return Labelled(image, {1: mask}, f"{seed}.png")


PICTURES = [picture(seed) for seed in range(8)]


def weights(model):
    return {k: v.clone() for k, v in trainable_state_dict(model).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def scores(monkeypatch):
    """What is measured, in order; nothing is trained but one weight."""
    given = []
    monkeypatch.setattr(tune.HeldOut, "score", lambda self: given.pop(0))

    def train(model, *_):
        next(p for p in model.parameters() if p.requires_grad).data += 1

    monkeypatch.setattr(tune, "train", train)
    return given


def test_a_random_decoder_learns_from_eight_pictures():
    test = [picture(seed) for seed in range(20, 24)]
    found = [
        tune.fine_tune(build(), PICTURES, NAMES, test, steps=60, rate=3e-3, seed=1)
        for _ in range(2)
    ]
    report = found[0]
    assert report.before < 40 and report.after > 70
    assert (report.kept, report.learned, report.held_out, report.steps) == ("after", 8, 4, 60)
    assert found[1].after == report.after


def discs(seed, size=(224, 288)):
    """Three discs of one size and colour, the striped one of which is marked."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    noise = rng.integers(60, 200, 3) + rng.normal(0, 12, (*size, 3))
    image, colour = noise.clip(0, 255).astype(np.uint8), rng.integers(0, 255, 3)
    radius, striped = int(rng.integers(26, 36)), int(rng.integers(3))
    for n in range(3):
        left, top = 48 + 96 * n + int(rng.integers(-8, 9)), int(rng.integers(40, 185))
        disc = (y - top) ** 2 + (x - left) ** 2 <= radius**2
        image[disc] = colour
        if n == striped:
            mask = disc
            image[disc & ((x + y) // 6 % 2 == 0)] = (colour + 128) % 256
    return Labelled(image, {1: mask}, f"{seed}.png")


@pytest.mark.slow
def test_a_rule_that_the_shipped_decoder_does_not_know_is_learned():
    """It takes all three discs; they are one region, so that the decoder alone tells them apart."""
    model = InContextPredictor.from_pretrained(device="cpu").model
    pictures, test = ([discs(n) for n in range(first, first + 10)] for first in (0, 10))
    report = tune.fine_tune(model, pictures, {1: "striped"}, test)
    assert report.before < 40 and report.after > 90
    assert report.share == 1.0 and report.seconds < 300


def test_the_best_share_is_kept(scores):
    model = build(*FUSED)
    scores += [50.0, 51.0, 60.0, 55.0]  # before; 0.2, as it was; 0.5; 1
    report = tune.fine_tune(model, PICTURES, NAMES)
    assert (report.before, report.after, report.share) == (50.0, 60.0, 0.5)
    assert (report.learned, report.held_out) == (6, 2) and model.sem_seg_head.share == 0.5
    assert repr(report).startswith(
        "mIoU on 2 held-out pictures: before 50.0, after 60.0; the tuned decoder is kept, "
        "decoder's share 0.5\n(100 steps on 6 pictures, "
    )
    scores += [60.0, 59.0, 60.4, 58.0]  # before; 0.5, as it is now; 0.2, hardly better; 1
    held = weights(model)
    report = tune.fine_tune(model, PICTURES, NAMES)
    assert (report.kept, report.after, report.share) == ("before", 60.4, 0.5)
    assert same(weights(model), held) and "no better, so kept as it was" in repr(report)


def test_a_decoder_without_regions_has_no_share(scores):
    model = build().train()
    scores += [50.0, 60.0]
    report = tune.fine_tune(model, PICTURES, NAMES)
    assert report.share is None and "share" not in repr(report) and model.training


def test_what_is_interrupted_changes_nothing(scores):
    model = build(*FUSED)
    before = weights(model)
    scores += [50.0, 60.0]  # then pop fails
    with pytest.raises(IndexError):
        tune.fine_tune(model, PICTURES, NAMES)
    assert same(weights(model), before) and model.sem_seg_head.share == 0.2 and not model.training


def test_what_it_refuses():
    model = build()
    for options, message in (
        ({"steps": 0}, "steps is 0; it must be above 0"),
        ({"rate": -1.0}, "rate is -1.0; it must be above 0"),
        ({"test": PICTURES[:1], "pictures": PICTURES[:1]}, "'red' has 1 picture with a mask"),
    ):
        with pytest.raises(ValueError, match=message):
            tune.fine_tune(model, **{"pictures": PICTURES, "names": NAMES, **options})
    with pytest.raises(ValueError, match="Linear has no frozen backbone"):
        tune.fine_tune(torch.nn.Linear(1, 1), PICTURES, NAMES)


def given(pictures, name="red"):
    return [(p.image, p.masks[1], name) for p in pictures]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_predictor_is_tuned_and_loaded_again(scores, tmp_path, suffix):
    cfg = tiny_config(*FUSED, "MODEL.BACKBONE.WEIGHTS", "random", "MODEL.DEVICE", "cpu")
    torch.manual_seed(0)
    predictor = InContextPredictor(cfg, device="cpu")
    predictor.set_references(given(PICTURES[:2]))
    scores += [50.0, 51.0, 52.0, 60.0]
    report = predictor.fine_tune(given(PICTURES))
    assert (report.share, report.held_out) == (1.0, 2)
    file = tmp_path / f"new/tuned{suffix}"
    predictor.save_weights(file)
    torch.manual_seed(0)
    other = InContextPredictor(cfg, weights=file, device="cpu")
    assert other.model.sem_seg_head.share == 1.0 and not other.model.sem_seg_head.chooses
    other.set_references(given(PICTURES[:2]))
    masks = [p(PICTURES[5].image).masks for p in (predictor, other)]
    assert np.array_equal(*masks) and 0 < masks[0].sum()
    with pytest.raises(ValueError, match=r"weights are written to \.pth or \.safetensors"):
        predictor.save_weights(tmp_path / "x.bin")


def test_what_is_tested_on_has_the_same_names(scores, monkeypatch):
    seen = []
    monkeypatch.setattr(tune, "fine_tune", lambda *args, **options: seen.append((args, options)))
    predictor = InContextPredictor.from_model(build())
    shown = [(p.image, np.where(p.masks[1], 7, 0), {7: "red"}) for p in PICTURES[:2]]
    predictor.fine_tune(given(PICTURES), [*shown, *given(PICTURES[2:4], "blue")], steps=3)
    ((_, learned, names, held), options) = seen[0]
    assert (len(learned), names, options) == (8, {1: "red"}, {"steps": 3})
    assert [list(p.masks) for p in held] == [[1], [1]]
    assert np.array_equal(held[0].masks[1], PICTURES[0].masks[1])
    assert np.array_equal(held[0].image, PICTURES[0].image)
    with pytest.raises(ValueError, match="the pictures to test on show none of red"):
        predictor.fine_tune(given(PICTURES), given(PICTURES, "blue"))


def test_data_that_nothing_has_the_name_of_is_said_in_one_line():
    predictor = InContextPredictor.from_model(build())
    for given_as in (("nothere",), (given(PICTURES), "nothere")):
        with pytest.raises(ValueError, match="^'nothere' is neither a folder nor a registered"):
            predictor.fine_tune(*given_as)
