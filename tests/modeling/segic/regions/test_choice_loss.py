"""The losses of the choice against their definitions."""

import pytest
import torch

from segic_d2.modeling.segic.regions.choice_loss import choice_losses


def test_numbers_by_hand():
    logits, share = torch.tensor([[20.0, -20.0, 20.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    count = torch.tensor([[10.0, 80.0, 10.0]])
    found = choice_losses(logits, share, count)
    assert float(found["loss_dice"]) == pytest.approx(1 - 20 / 30)
    assert float(found["loss_choice"]) == pytest.approx(8)  # bounded: 20 · 10 / 12
    milder = choice_losses(logits / 20, share, count)["loss_choice"]
    one, other = torch.tensor([1.0, -1.0]).sigmoid().log().neg().tolist()
    assert float(milder) == pytest.approx((10 * one + 80 * one + 10 * other) / 12, rel=1e-5)


def test_padding_weighs_nothing_and_what_is_extra_counts_in_full():
    g = torch.Generator().manual_seed(0)
    logits, share = torch.randn(8, 6, generator=g), torch.rand(8, 6, generator=g)
    count = torch.randint(1, 9, (8, 6), generator=g).float()
    plain = choice_losses(logits, share, count)
    padded = choice_losses(
        *(
            torch.cat([x, y], 1)
            for x, y in (
                (logits, torch.full((8, 2), 9.0)),
                (share, torch.ones(8, 2)),
                (count, torch.zeros(8, 2)),
            )
        )
    )
    for name, value in plain.items():
        torch.testing.assert_close(padded[name], value)
    # two examples of one size, the first with more and more beside the thing
    dice = []
    for extra in (0.0, 10.0, 1000.0):
        count = torch.tensor([[10.0, extra], [10.0, extra]]).repeat(4, 1)
        wrong = torch.tensor([[20.0, 20.0], [20.0, -20.0]]).repeat(4, 1)
        there = torch.tensor([[1.0, 0.0]]).expand(8, -1)
        dice.append(float(choice_losses(wrong, there, count)["loss_dice"]))
    assert dice[0] == pytest.approx(0, abs=1e-5) and dice[2] > 0.9 > 0.25 > dice[1] > 0.15
