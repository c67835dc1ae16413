"""Tuning a context: its tensors alone are learned, and the better one stays."""

from dataclasses import replace

import pytest
import torch

from segic_d2.engine import tune, tune_context
from segic_d2.engine.tune_data import read_labelled
from segic_d2.predictor import InContextPredictor
from segic_d2.structures.context import CELLS, Context
from tests.engine.test_tune import FUSED, NAMES, PICTURES, discs, picture, same, weights
from tests.modeling.segic.parts import build
from tests.toy_model import MeanColour

TEST = [picture(seed) for seed in range(20, 24)]


class Tuned(MeanColour):
    """A model of another kind, whose integers become floats to be learned."""

    def encode_context(self, references, names=None, task="semantic"):
        context = super().encode_context(references, names, task)
        return replace(context, tensors={"rgb": context.tensors["colours"].to(torch.uint8)})

    def tunable(self, context):
        if "rgb" in context.tensors:
            context = replace(context, tensors={"colours": context.tensors["rgb"]})
        return replace(context, tensors={"colours": context.tensors["colours"].float()})

    def segment(self, features, context, prompts=None):
        return super().segment(features, self.tunable(context))

    def context_losses(self, batched_inputs, context):
        (found,) = super().segment(self.encode_images(batched_inputs), context)
        (x,) = batched_inputs
        truth = found.frame.pad(x["masks"].float())
        truth = torch.nn.functional.adaptive_avg_pool2d(truth, found.logits.shape[-1])
        each = torch.nn.functional.binary_cross_entropy_with_logits(found.logits / 10, truth)
        return {"loss_mask": each}


def off_colour(picture):
    """The same with a mask that is too large, so that its mean colour is of greys, too."""
    (mask,) = picture.masks.values()
    large = torch.nn.functional.max_pool2d(torch.from_numpy(mask)[None].float(), 41, 1, 20)[0] > 0
    return replace(picture, masks={1: large.numpy()})


@pytest.fixture
def scores(monkeypatch):
    """What is measured, in order."""
    given = []
    monkeypatch.setattr(tune_context.HeldOut, "score", lambda self: given.pop(0))
    return given


@pytest.mark.parametrize("opts", [FUSED, (*FUSED[:2], *FUSED[4:])])
def test_a_context_of_regions_is_learned(opts):
    model = build(*opts)
    held = weights(model)
    learned = [p.requires_grad for p in model.parameters()]
    found = [
        tune_context.tune_context(model, PICTURES, NAMES, TEST, steps=20, seed=1) for _ in range(2)
    ]
    context, report = found[0]
    assert report.after > report.before + 1 and report.kept == "after"
    assert (report.learned, report.held_out, report.steps, report.shots) == (8, 4, 20, 8)
    assert found[1][1].after == report.after
    assert same(weights(model), held) and all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == learned and not model.training
    assert context.kind == CELLS and context.fingerprint == model.fingerprint
    settings = {"steps": 20, "batch": 4, "rate": 0.1, "seed": 1, "pictures": 8}
    assert context.about == {"tuned": settings}


def test_fewer_shots_are_learned_where_fewer_are_asked_for():
    model, how = build(*FUSED), {"steps": 1, "seed": 1}
    _, report = tune_context.tune_context(model, PICTURES, NAMES, TEST, shots=3, **how)
    assert report.shots == 3 and report.learned == 8
    with pytest.raises(ValueError, match="shots is 1; it must be 2 at least"):
        tune_context.tune_context(model, PICTURES, NAMES, TEST, shots=1, **how)


def test_what_is_kept_is_what_was_measured(tmp_path):
    """Cells are as precise as the file of references has them, and of length 1."""
    model = build(*FUSED)
    context, report = tune_context.tune_context(model, PICTURES, NAMES, TEST, steps=10)
    plain, _ = tune_context._references(model, PICTURES, NAMES, "semantic")
    assert {k: v.dtype for k, v in context.tensors.items()} == {
        k: v.dtype for k, v in plain.tensors.items()
    }
    cells = context.tensors["cells"]
    lengths = cells.float().norm(dim=-1)[context.tensors["cell_counts"] > 0]
    assert cells.dtype == torch.half and (lengths - 1).abs().max() < 2e-3
    means = context.tensors["unit_prototypes"].norm(dim=-1)
    assert means.max() < 1.001
    for name in ("cell_counts", "cell_shares", "cell_areas"):
        assert torch.equal(context.tensors[name], plain.tensors[name])
    for name in ("cells", "cell_prototypes", "unit_prototypes", "prototypes"):
        assert not torch.equal(context.tensors[name], plain.tensors[name]), name
    context.save(tmp_path / "tuned.safetensors")
    again = Context.load(tmp_path / "tuned.safetensors")
    assert tune.HeldOut(model, TEST, {1: again}).score() == report.after


def test_a_picture_is_no_reference_of_itself(monkeypatch):
    model, seen = Tuned().eval(), []
    losses = Tuned.context_losses

    def spy(self, batched_inputs, context):
        seen.append((batched_inputs[0]["image_id"], context.shots.tolist(), context.ids))
        return losses(self, batched_inputs, context)

    monkeypatch.setattr(Tuned, "context_losses", spy)
    other = [replace(picture(n), masks={2: picture(n).masks[1]}) for n in range(30, 33)]
    pictures, names = [*other, *PICTURES[:3]], {1: "red", 2: "also red"}
    tune_context.tune_context(model, pictures, names, TEST, steps=6)
    assert len(seen) == 24 and {tuple(ids) for *_, ids in seen} == {(1,), (2,)}
    for target, (shots,), (entity,) in seen:
        own = range(3, 6) if entity == 1 else range(3)
        assert shots == [target != row for row in own]


def test_a_model_without_a_frozen_backbone_is_tuned_by_its_pixels():
    pictures = [off_colour(p) for p in PICTURES]
    context, report = tune_context.tune_context(
        Tuned().eval(), pictures, NAMES, TEST, steps=40, rate=0.05
    )
    assert report.kept == "after" and report.after > report.before + 5
    assert list(context.tensors) == ["colours"]
    assert context.tensors["colours"].is_floating_point()


def test_the_better_context_is_kept(scores):
    model = build()
    scores += [50.0, 50.4]
    context, report = tune_context.tune_context(model, PICTURES, NAMES, steps=1)
    plain, _ = tune_context._references(
        model, tune.part(model, PICTURES, NAMES, (), 0)[0], NAMES, "semantic"
    )
    assert report.kept == "before" and not context.about
    assert all(torch.equal(v, plain.tensors[k]) for k, v in context.tensors.items())
    assert repr(report).startswith(
        "mIoU on 2 held-out pictures: before 50.0, after 50.4; no better, so the references stay "
        "as they are\n(1 steps on 6 pictures, 6 of a class in the context, "
    )
    scores += [50.0, 50.5]
    context, report = tune_context.tune_context(model, PICTURES, NAMES, steps=1, task="instance")
    assert report.kept == "after" and context.about["tuned"]["pictures"] == 6
    assert context.task == "instance" and "; the tuned context is kept\n" in repr(report)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_ships_gains_on_the_embedded_shapes(seed):
    """ADVANCED_USAGE.md's figures: 88.7, 88.4 and 88.5 in place of 69.8."""
    model = InContextPredictor.from_pretrained(device="cpu", opts=["INPUT.CANVAS", 224]).model
    pictures, names = read_labelled(["shapes_novel_coco"], 448)
    first = min(names)
    own = [replace(p, masks={first: p.masks[first]}) for p in pictures if first in p.masks]
    _, report = tune_context.tune_context(
        model, own[:8], {first: names[first]}, own[8:20], steps=30, seed=seed
    )
    assert report.after > report.before + 15


@pytest.mark.slow
def test_what_ships_gains_where_the_decoder_alone_had_to_be_tuned():
    """ADVANCED_USAGE.md's figures: 33.0, and 56.1 and 56.5 by the seeds 0 and 1."""
    model = InContextPredictor.from_pretrained(device="cpu").model
    pictures, test = ([discs(n) for n in range(first, first + 10)] for first in (0, 10))
    _, report = tune_context.tune_context(model, pictures, {1: "striped"}, test)
    assert report.after > report.before + 15


def test_what_it_refuses():
    run, model = tune_context.tune_context, build()
    for options, message in (
        ({"steps": 0}, "steps is 0; it must be above 0"),
        ({"pictures": PICTURES[:2]}, "'red' has 2 pictures with a mask; tuning takes 3 at least"),
        ({"pictures": PICTURES[:1], "test": TEST}, "'red' has 1 picture with a mask"),
    ):
        with pytest.raises(ValueError, match=message):
            run(model, **{"pictures": PICTURES, "names": NAMES, **options})
    with pytest.raises(ValueError, match="MeanColour is not tuned by its context"):
        run(MeanColour(), PICTURES, NAMES)


def test_losses_that_are_not_finite_end_it(monkeypatch):
    model = Tuned().train()
    monkeypatch.setattr(
        Tuned, "context_losses", lambda self, _, c: {"x": c.tensors["colours"].sum() * torch.inf}
    )
    with pytest.raises(ValueError, match="rate is 3.0, at which the losses become infinite"):
        tune_context.tune_context(model, PICTURES, NAMES, rate=3.0)
    assert model.training
