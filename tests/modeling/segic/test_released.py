import pytest
import torch

from segic_d2.modeling.layers.correspondence import center_weights
from segic_d2.modeling.segic import released
from segic_d2.modeling.segic.losses import EpisodeCriterion
from segic_d2.modeling.segic.meta_arch import SegIC
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


def test_one_key_chooses_all_rules():
    paper, other = (SegIC(tiny_config("MODEL.SEGIC.RELEASED", value)) for value in (False, True))
    for model, rules in ((paper, released.PAPER), (other, released.RELEASED)):
        head, losses = model.sem_seg_head, model.criterion
        assert head.rules == model.contexts.rules == rules
        assert head.similarity.upsampled == rules.upsampled
        assert losses.reversion.keep_empty == rules.keep_empty
        assert losses.reversion.in_padding == rules.in_padding
        assert losses.criterion.process_mean == rules.process_mean
    assert not paper.input.released and other.input.released
    assert not any(vars(released.PAPER).values()) and all(vars(released.RELEASED).values())
    assert "released" not in paper.fingerprint and other.fingerprint["released"]


def test_an_all_zero_prototype_runs_through_the_model():
    cfg = tiny_config("MODEL.SEGIC.RELEASED", True)
    episode = tiny_episode(0, entities=1)
    episode["references"][0]["masks"] = torch.zeros_like(episode["references"][0]["masks"])
    torch.manual_seed(0)
    model = SegIC(cfg).eval()
    out = model([episode])[0]
    assert out["masks"].shape == (1, 168, 224) and out["scores"].isfinite().all()
    similarity = model.inference([episode], outputs=("propagated_mask",))[0]["propagated_mask"]
    assert not similarity.any()


def test_the_direction_of_a_mean_is_a_unit_vector_or_zero(rng):
    mean = torch.randn(3, 2, 24, generator=rng)
    mean[1, 1] = 0
    unit = released.direction(mean)
    for entity in range(3):
        for shot in range(2):
            expected = torch.nn.functional.normalize(mean[entity, shot], dim=0)
            torch.testing.assert_close(unit[entity, shot], expected)
    assert not unit[1, 1].any()


def test_dice_is_divided_by_the_number_of_masks_twice():
    bce, dice = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.4])
    mask_loss, dice_loss = released.average_losses(bce, dice, 6)
    assert (mask_loss.item(), dice_loss.item()) == pytest.approx((6 / 6, 3 * 0.9 / 36))
    assert [x.item() for x in released.average_losses(bce, dice, 3)] == pytest.approx([2.0, 0.3])


def test_one_process_has_the_same_loss_by_either_rule(rng):
    logits = [torch.randn(2, 8, 8, generator=rng), torch.randn(1, 8, 8, generator=rng)]
    targets = [torch.rand(len(x), 16, 16, generator=rng) > 0.5 for x in logits]
    by = []
    for rule in (False, True):
        criterion = EpisodeCriterion(num_points=64, process_mean=rule)
        by.append(criterion.total(criterion.per_mask(logits, targets, [None, None], [1, 2])))
    for key in ("loss_mask", "loss_dice"):
        torch.testing.assert_close(by[0][key], by[1][key])
