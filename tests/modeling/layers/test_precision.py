"""What stays in float32 under autocast, bit for bit."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from segic_d2.modeling.layers.correspondence import propagated_mask
from segic_d2.modeling.layers.precision import without_autocast
from segic_d2.modeling.layers.prompt_encoder import FourierEncoding
from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic.context_encoder import ContextEncoder
from segic_d2.modeling.segic.losses import EpisodeCriterion
from segic_d2.structures.view import InputSpec
from tests.tiny import tiny_config, tiny_episode


def under_autocast(function):
    with torch.autocast("cpu", torch.bfloat16):
        result = function()
        assert torch.is_autocast_enabled("cpu")
    return result


def test_autocast_is_off_inside_and_back_on_after_errors():
    a = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    @without_autocast
    def square(x):
        """Its own name and text."""
        return x @ x

    @without_autocast
    def broken():
        raise RuntimeError

    assert under_autocast(lambda: a @ a).dtype == torch.bfloat16
    assert torch.equal(under_autocast(lambda: square(a)), a @ a) and square.__name__ == "square"

    def fails():
        with pytest.raises(RuntimeError):
            broken()
        return a @ a

    assert under_autocast(fails).dtype == torch.bfloat16


def test_pooling_cosines_positions_and_losses_are_exact():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 24, 8, 8, generator=g)
    references = tiny_episode(0, 2)["references"]
    vectors, index = torch.randn(3, 24, generator=g), torch.tensor([0, 0, 1])
    torch.manual_seed(0)
    encoding = FourierEncoding(32)
    logits = [torch.randn(2, 32, 32, generator=g, requires_grad=True)]
    targets = [torch.rand(2, 112, 112, generator=g) > 0.5]
    criterion = EpisodeCriterion(num_points=256)
    similarity = Similarity(112, ShapeSpec(channels=24, stride=14), background=True)
    encoder = ContextEncoder(InputSpec(112, (0, 0, 0), (1, 1, 1)), similarity)

    def pooled():
        context = encoder.from_references(maps, references, {0: None, 1: None})
        assert len(context.tensors) == 3
        return context.shots, *context.tensors.values()

    def losses():
        terms = criterion.per_mask(logits, targets, [None], [1])
        return tuple(terms[0].values())

    for function in (
        pooled,
        lambda: (propagated_mask(maps, vectors, index),),
        lambda: (propagated_mask(maps, vectors, index, upsample_to=28),),
        lambda: (encoding.grid(8, 8),),
        lambda: (similarity.within(maps[0], (84, 112))[0],),
        losses,
    ):
        plain, half = function(), under_autocast(function)
        for a, b in zip(plain, half, strict=True):
            assert a.dtype == b.dtype and torch.equal(a, b)


def test_the_rest_of_the_model_does_run_in_half_precision():
    torch.manual_seed(0)
    model = build_model(tiny_config()).train()
    seen = {}
    head = model.sem_seg_head
    parts = {"backbone": model.backbone.patch, "neck": head.neck[0]}
    parts["decoder"] = head.mask_decoder.output_upscaling[0]
    for name, module in parts.items():
        module.register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.dtype}))
    losses = under_autocast(lambda: model([tiny_episode(0, training=True)]))
    assert seen == dict.fromkeys(parts, torch.bfloat16)
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_remembered_features_do_not_mix_precisions():
    """Evaluation in full precision between training steps in half never sees the latter's maps."""
    torch.manual_seed(0)
    model = build_model(tiny_config("MODEL.SEGIC.FEATURE_MEMORY", 10)).eval()
    image = [tiny_episode(0)["image"]]
    full = model.encode_images(image).map
    half = under_autocast(lambda: model.encode_images(image).map)
    assert not torch.equal(half, full)
    assert torch.equal(model.encode_images(image).map, full)
    assert torch.equal(under_autocast(lambda: model.encode_images(image).map), half)
