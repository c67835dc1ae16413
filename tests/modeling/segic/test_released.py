from dataclasses import replace

import pytest
import torch

from segic_d2.modeling.layers.correspondence import center_weights
from segic_d2.modeling.segic import released
from segic_d2.modeling.segic.context_encoder import pool_references
from segic_d2.modeling.segic.losses import EpisodeCriterion
from segic_d2.modeling.segic.meta_arch import SegIC
from segic_d2.structures.view import InputSpec
from tests.tiny import tiny_config, tiny_episode


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_binary_masks_are_thresholded_before_they_are_pooled():
    """Half-covered pixels count as nothing, or as a part of the sample of the four centres."""
    mask = torch.zeros(1, 28, 28)
    mask[0, 6:8, 6:8] = torch.tensor([[1.0, 1.0], [0.3, 0.3]])
    assert center_weights(mask, 2)[0, 0, 0] == 1  # 0.65 of the sample
    assert center_weights(released.binarize(mask), 2).sum() == 0  # 0.5 of it


def test_a_vanished_mask_is_no_shot_or_a_zero_prototype(rng):
    maps = torch.randn(2, 5, 2, 2, generator=rng)
    masks = torch.zeros(2, 1, 28, 28)
    masks[0, 0, :14, :14] = 1  # reference 0 shows one cell, reference 1 nothing
    references = [
        {"image": torch.zeros(3, 28, 28), "masks": m, "entity_ids": torch.tensor([4])}
        for m in masks
    ]
    spec = InputSpec(28, (0, 0, 0), (1, 1, 1), mask_pooling="center")
    prototypes, _, shots, _ = pool_references(maps, references, {4: "cat"}, spec)
    assert shots.tolist() == [[True]]
    torch.testing.assert_close(prototypes[0, 0], maps[0, :, 0, 0])
    zero = replace(spec, empty_mask="zero")
    prototypes, units, shots, _ = pool_references(maps, references, {4: "cat"}, zero)
    assert shots.tolist() == [[True, True]] and not prototypes[0, 1].any() and not units[0, 1].any()
    with pytest.raises(ValueError, match="entity 4 \\('cat'\\)"):
        pool_references(maps[1:], references[1:], {4: "cat"}, spec)


def test_an_all_zero_prototype_runs_through_the_model():
    cfg = tiny_config("MODEL.SEGIC.EMPTY_MASK", "zero")
    episode = tiny_episode(0, entities=1)
    episode["references"][0]["masks"] = torch.zeros_like(episode["references"][0]["masks"])
    torch.manual_seed(0)
    model = SegIC(cfg).eval()
    out = model([episode])[0]
    assert out["masks"].shape == (1, 168, 224) and out["scores"].isfinite().all()
    similarity = model.inference([episode], outputs=("propagated_mask",))[0]["propagated_mask"]
    assert not similarity.any()


def test_dice_is_divided_by_the_number_of_masks_twice():
    bce, dice = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.4])
    mask_loss, dice_loss = released.average_losses(bce, dice, 6)
    assert (mask_loss.item(), dice_loss.item()) == pytest.approx((6 / 6, 3 * 0.9 / 36))
    assert [x.item() for x in released.average_losses(bce, dice, 3)] == pytest.approx([2.0, 0.3])


def test_one_process_has_the_same_loss_by_either_rule(rng):
    logits = [torch.randn(2, 8, 8, generator=rng), torch.randn(1, 8, 8, generator=rng)]
    targets = [torch.rand(len(x), 16, 16, generator=rng) > 0.5 for x in logits]
    by = {
        rule: EpisodeCriterion(num_points=64, average_over=rule)(
            logits, targets, [None, None], [1, 2]
        )
        for rule in ("world", "process")
    }
    for key in ("loss_mask", "loss_dice"):
        torch.testing.assert_close(by["world"][key], by["process"][key])


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="MODEL.SEGIC.EMPTY_MASK is 'skip'"):
        SegIC(tiny_config("MODEL.SEGIC.EMPTY_MASK", "skip"))
