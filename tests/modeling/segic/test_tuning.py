"""A context's gradients come from the masks that are found with it."""

from dataclasses import replace

import pytest
import torch

from tests.engine.test_tune import FUSED
from tests.modeling.segic.parts import build
from tests.tiny import tiny_episode

ALONE = (*FUSED[:2], *FUSED[4:])  # regions without a decoder
DECODER = {"prototypes", "unit_prototypes"}
CELLS = {"cells", "cell_prototypes"}


def given(*opts):
    """A model, a training target, and a context that can be learned."""
    model = build(*opts)
    episode = tiny_episode(3, training=True)
    references = [
        {**x, "whole": {"image": x["image"], "masks": x["masks"]}} for x in episode["references"]
    ]
    return model, episode, model.tunable(model.encode_context(references, {0: "a", 1: "b"}))


def learned(context):
    tensors = {k: v.requires_grad_() for k, v in context.tensors.items() if v.is_floating_point()}
    return replace(context, tensors={**context.tensors, **tensors})


@pytest.mark.parametrize(
    ("opts", "expected"), [((), DECODER), (ALONE, CELLS), (FUSED, DECODER | CELLS)]
)
def test_gradients_reach_what_the_last_word_depends_on(opts, expected):
    model, episode, context = given(*opts)
    context = learned(context)
    losses = model.context_losses([episode, episode], context)
    assert set(losses) == {"loss_mask", "loss_dice"}
    sum(losses.values()).backward()
    found = {k for k, v in context.tensors.items() if v.grad is not None and v.grad.any()}
    assert found == expected
    assert all(v.grad is None or v.grad.isfinite().all() for v in context.tensors.values())


@pytest.mark.parametrize("opts", [(), ALONE, FUSED])
def test_what_is_compared_is_what_is_found(opts):
    model, episode, context = given(*opts)
    with torch.no_grad():
        features = model.encode_images([episode])
        (logits,) = model._found(features, [context])
        (found,) = model.segment(features, context)
    assert torch.allclose(logits, found.logits, atol=1e-5)


def test_a_step_goes_down():
    model, episode, context = given(*FUSED)
    context = learned(context)
    first = sum(model.context_losses([episode], context).values())
    first.backward()
    moved = {
        k: v if v.grad is None else v.detach() - 1e-3 * v.grad for k, v in context.tensors.items()
    }
    second = sum(model.context_losses([episode], replace(context, tensors=moved)).values())
    assert second < first


def test_vectors_are_what_they_must_be():
    model, _, context = given(*FUSED)
    tensors = {k: 3 * v for k, v in context.tensors.items()}
    found = model.tunable(replace(context, tensors=tensors)).tensors
    shown = context.tensors["cell_counts"] > 0
    assert torch.allclose(found["cells"].norm(dim=-1), shown.float(), atol=1e-6)
    assert found["cells"].dtype == torch.float32
    for name in ("unit_prototypes", "cell_prototypes"):
        assert torch.allclose(
            found[name].norm(dim=-1), tensors[name].norm(dim=-1).clamp(max=1), atol=1e-6
        )
        again = model.tunable(context).tensors[name]
        assert torch.allclose(again, context.tensors[name], atol=1e-6)
    assert torch.equal(found["prototypes"], tensors["prototypes"])
    assert torch.equal(found["cell_shares"], tensors["cell_shares"])
