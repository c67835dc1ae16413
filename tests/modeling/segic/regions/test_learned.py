"""The learned choice: nothing at first, then which regions but not how much."""

import pytest
import torch
from safetensors.torch import load_file

from segic_d2.checkpoint.checkpointer import SegICCheckpointer, save_weights
from segic_d2.modeling.segic.regions.choice_loss import choice_losses
from segic_d2.modeling.segic.regions.learned import LearnedChoice, Regions, hold_size
from tests.modeling.segic.parts import build
from tests.modeling.segic.regions.test_evidence import FINE, evidence
from tests.modeling.segic.regions.test_matcher import R, context_of, region_model
from tests.tiny import tiny_episode


def random_choice(seed=0, **options):
    torch.manual_seed(seed)
    found = LearnedChoice(16, **options)
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return found.eval()


@pytest.mark.parametrize("options", [{}, {"depth": 2, "by_cells": True}])
def test_a_new_network_changes_no_mask(options):
    model, episode = region_model(), tiny_episode(0, 2, shots=2)
    features, context = model.encode_images([episode]), context_of(model, episode)
    plain = model.segment(features, context)[0].logits
    model.sem_seg_head.matcher.learned = LearnedChoice(16, **options).eval()
    assert torch.equal(model.segment(features, context)[0].logits, plain)
    model.sem_seg_head.matcher.learned = random_choice(**options)
    assert not torch.equal(model.segment(features, context)[0].logits, plain)


def test_what_is_added_is_pinned():
    *_, found, _ = evidence(2)
    added = random_choice()(found)
    for region in range(4):  # one number for a region
        own = added[:, FINE == region]
        torch.testing.assert_close(own, own[:, :1].expand_as(own))
    firsts = [added[0, FINE == region][0].item() for region in range(4)]
    assert firsts == pytest.approx([-0.0158, 0.1204, -0.0504, 0.032], abs=2e-3)


@pytest.mark.parametrize("depth", [0, 2])
def test_the_order_of_regions_and_padding_do_not_matter(depth):
    g = torch.Generator().manual_seed(1)
    network = random_choice(depth=depth)
    tokens = torch.randn(1, 5, len(network.mean), generator=g)
    alike, level = torch.rand(1, 5, 5, generator=g), torch.randn(1, 5, generator=g)
    count = torch.tensor([[3.0, 1, 4, 2, 9]])
    plain = network.added(Regions(tokens, alike, count, level))
    order = torch.tensor([4, 2, 0, 1, 3])
    turned = Regions(
        tokens[:, order], alike[:, order][:, :, order], count[:, order], level[:, order]
    )
    torch.testing.assert_close(network.added(turned), plain[:, order])
    padded = Regions(
        *(
            torch.nn.functional.pad(x, pad)
            for x, pad in (
                (tokens, (0, 0, 0, 2)),
                (alike, (0, 2, 0, 2)),
                (count, (0, 2)),
                (level, (0, 2)),
            )
        )
    )
    torch.testing.assert_close(network.added(padded)[:, :5], plain)


def test_the_expected_size_stays_to_first_order():
    g = torch.Generator().manual_seed(2)
    level, count = torch.randn(3, 9, generator=g), torch.rand(3, 9, generator=g) + 0.1
    added = 1e-3 * torch.randn(3, 9, generator=g)
    before, after = ((count * x.sigmoid()).sum(1) for x in (level, level + added))
    held = (count * (level + hold_size(added, level, count)).sigmoid()).sum(1)
    assert ((held - before).abs() < 0.02 * (after - before).abs()).all()
    assert torch.equal(hold_size(torch.zeros(3, 9), level, count), torch.zeros(3, 9))


def test_gradients_reach_all_of_it_and_it_learns_a_choice():
    g = torch.Generator().manual_seed(3)
    torch.manual_seed(0)
    network = LearnedChoice(16, 1)
    tokens, count = torch.randn(8, 6, len(network.mean), generator=g), torch.full((8, 6), 4.0)
    level, alike = torch.zeros(8, 6), torch.rand(8, 6, 6, generator=g)
    share = (tokens[..., 0] > tokens[..., 0].median(1, keepdim=True).values).float()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        logits = level + network.added(Regions(tokens, alike, count, level))
        loss = sum(choice_losses(logits, share, count).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert ((logits > 0) == (share > 0)).float().mean() > 0.9


def test_it_comes_from_a_file_of_its_own(tmp_path):
    file, network = tmp_path / "choice.safetensors", random_choice(depth=1, by_cells=True)
    network.save(file)
    again = LearnedChoice.from_file(file)
    state = again.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in network.state_dict().items())
    assert not any(p.requires_grad for p in again.parameters())
    model = region_model(f"{R}LEARNED", str(file))
    assert model.sem_seg_head.matcher.learned is not None
    with pytest.raises(FileNotFoundError, match="REGIONS.LEARNED .*none: no such file"):
        build(
            "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", f"{R}LEARNED", str(tmp_path / "none")
        )
    file.write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no learned choice"):
        LearnedChoice.from_file(file)


def test_checkpoints_do_not_hold_it(tmp_path, caplog):
    file, weights = tmp_path / "choice.safetensors", tmp_path / "model.safetensors"
    random_choice().save(file)
    plain, model = region_model(), region_model(f"{R}LEARNED", str(file), seed=1)
    save_weights(model, weights)
    assert not any("learned" in name for name in load_file(weights))
    save_weights(plain, weights)
    before = {k: v.clone() for k, v in model.sem_seg_head.matcher.learned.state_dict().items()}
    caplog.clear()
    with caplog.at_level("WARNING"):
        SegICCheckpointer(model).load(str(weights))
    assert not caplog.records
    after = model.sem_seg_head.matcher.learned.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())
