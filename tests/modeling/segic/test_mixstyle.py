"""MixStyle: the decoder sees a target in the look of another picture of its episode."""

import torch
from detectron2.modeling import build_model

from segic_d2.modeling.segic.training import first_references, mix_styles
from tests.tiny import tiny_config, tiny_episode


def features(seed, batch=3):
    g = torch.Generator().manual_seed(seed)
    scale, offset = (torch.rand(batch, 5, 1, 1, generator=g) * 3 for _ in range(2))
    return torch.randn(batch, 5, 4, 4, generator=g) * scale + offset


def test_statistics_lie_between_those_of_both_pictures():
    own, other = features(0), features(1)
    found = mix_styles(own, other, [7, 8, 9], 0.5)
    for row in range(3):
        shares = []
        for channel in range(5):
            a, b, c = (x[row, channel] for x in (own, other, found))
            share = float((c.mean() - b.mean()) / (a.mean() - b.mean()))
            expected = share * a.std() + (1 - share) * b.std()
            torch.testing.assert_close(c.std(), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                (c - c.mean()) / c.std(), (a - a.mean()) / a.std(), atol=1e-4, rtol=1e-4
            )
            shares.append(share)
        assert max(shares) - min(shares) < 1e-3 and 0 <= shares[0] <= 1
    alone = mix_styles(own[1:2], other[1:2], [8], 0.5)
    torch.testing.assert_close(alone, found[1:2])  # whatever else is in the batch
    assert not torch.allclose(mix_styles(own, other, [1, 2, 3], 0.5), found)


def test_its_own_style_changes_nothing_and_one_value_has_no_deviation():
    own = features(0)
    torch.testing.assert_close(mix_styles(own, own, [7, 8, 9], 0.5), own, atol=1e-5, rtol=1e-5)
    flat = own[:, :, :1, :1].expand(-1, -1, 4, 4)
    mixed = mix_styles(flat, features(1), [1, 2, 3], 0.5)
    assert mixed.isfinite().all() and mixed.std((2, 3)).max() < 1e-5


def test_rows_of_the_first_references():
    episodes = [{"references": [0] * n} for n in (2, 1, 3)]
    assert first_references(episodes) == [3, 5, 6]


def test_it_reaches_the_decoder_in_training_alone():
    """Each episode's target takes the look of its own first reference, reversed ones as well."""

    def model(*opts):
        torch.manual_seed(0)
        return build_model(tiny_config("MODEL.SEGIC.REVERSION.PROB", 1.0, *opts))

    plain, mixing = model(), model("MODEL.SEGIC.MIXSTYLE", 0.5)
    seen = []
    mixing.sem_seg_head.neck.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    episodes = [tiny_episode(s, 1, 1 + s, training=True) for s in range(2)]
    losses = mixing(episodes)
    assert losses.keys() == plain(episodes).keys()
    assert all(losses[k] != v for k, v in plain(episodes).items() if v != 0)
    references = [r for e in episodes for r in e["references"]]
    maps = mixing.encode_images([*episodes, *references]).map
    forward, turned = seen[:2]
    expected = mix_styles(maps[:2], maps[[2, 3]], [0, 1], 0.5)
    torch.testing.assert_close(forward, expected)
    # turned round, a reference takes the look of the target
    mean, own, target = (x.mean((2, 3)) for x in (turned, maps[2:], maps[[0, 1, 1]]))
    share = ((mean - target) * (own - target)).sum(1) / (own - target).square().sum(1)
    torch.testing.assert_close(mean, target + share[:, None] * (own - target), atol=1e-5, rtol=1e-4)
    assert (share >= 0).all() and (share < 0.99).any()
    for each in (plain, mixing):
        each.eval()
    with torch.no_grad():
        same = [m([tiny_episode(5)])[0]["scores"] for m in (plain, mixing)]
    assert torch.equal(*same)
