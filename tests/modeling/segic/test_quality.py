import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling.segic.losses import EpisodeCriterion
from segic_d2.modeling.segic.quality import mask_iou, quality_losses
from segic_d2.modeling.segic.readout import mask_scores, quality_of
from segic_d2.predictor import InContextPredictor
from tests.tiny import tiny_config, tiny_episode


def slow_iou(logits, target, size, ignore, threshold):
    """Cell by cell; 112 px and 32 cells: 3.5 px each, so that cells share pixels."""
    shared = union = 0
    for y in range(round(size[0] / 3.5)):
        for x in range(round(size[1] / 3.5)):
            cell = (
                slice(int(3.5 * y), -int(-3.5 * (y + 1) // 1)),
                slice(int(3.5 * x), -int(-3.5 * (x + 1) // 1)),
            )
            if ignore is not None and ignore[cell].float().mean() >= 0.5:
                continue
            t, p = target[cell].float().mean() >= 0.5, logits[y, x] > threshold
            shared, union = shared + bool(t & p), union + bool(t | p)
    return shared / max(union, 1)


def test_iou_against_a_loop_over_cells():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 32, 32, generator=g)
    target = torch.zeros(3, 112, 112, dtype=torch.bool)
    target[0, 10:70, 30:77] = True
    target[1, 60:, :50] = True
    ignore = torch.zeros(112, 112, dtype=torch.bool)
    ignore[20:40, 20:60] = True
    for size in ((112, 112), (84, 63)):
        for mask in (None, ignore):
            for threshold in (0.0, 0.7):
                got = mask_iou(logits, target, size, mask, threshold)
                expected = [slow_iou(logits[i], target[i], size, mask, threshold) for i in range(3)]
                assert got.tolist() == pytest.approx(expected)
                assert got[2] == 0 < got[0]  # the third is absent, something is predicted


def test_iou_of_perfect_and_empty_masks():
    target = torch.zeros(2, 112, 112, dtype=torch.bool)
    target[0, 14:56, 28:70] = True
    low = torch.nn.functional.avg_pool2d(target[:, None].float(), 3, 3)  # any other size
    logits = torch.nn.functional.interpolate(low, (32, 32), mode="bilinear")[:, 0] - 0.5
    assert mask_iou(logits, target, (112, 112)).tolist() == [pytest.approx(1, abs=0.1), 0]
    assert mask_iou(logits - 5, target, (112, 112)).tolist() == [0, 0]


def test_the_best_estimate_is_the_expected_iou():
    """Of an entity that is absent in one of four episodes and found with 0.8 otherwise: 0.6."""
    iou = torch.tensor([0.8, 0.8, 0.8, 0.0])
    quality = torch.linspace(-4, 4, 801)
    losses = torch.stack([quality_losses(q.expand(4), iou).mean() for q in quality])
    assert quality[losses.argmin()].sigmoid().item() == pytest.approx(0.6, abs=0.005)


def criterion_inputs():
    g = torch.Generator().manual_seed(0)
    logits = [torch.randn(n, 32, 32, generator=g, requires_grad=True) for n in (1, 3)]
    targets = [torch.rand(n, 112, 112, generator=g) > 0.6 for n in (1, 3)]
    qualities = [torch.randn(n, generator=g, requires_grad=True) for n in (1, 3)]
    return logits, targets, [None, None], [11, 12], qualities, [(112, 112), (84, 112)]


def test_the_loss_of_the_quality_token():
    logits, targets, ignores, seeds, qualities, sizes = criterion_inputs()
    off = EpisodeCriterion(num_points=100)(logits, targets, ignores, seeds)
    on = EpisodeCriterion(num_points=100, quality_weight=2.0)
    losses = on(logits, targets, ignores, seeds, qualities, sizes)
    assert set(off) == {"loss_mask", "loss_dice"} and losses["loss_mask"] == off["loss_mask"]
    iou = torch.cat([mask_iou(a, t, s) for a, t, s in zip(logits, targets, sizes, strict=True)])
    p = torch.cat(qualities).sigmoid()
    expected = -2 * (iou * p.log() + (1 - iou) * (1 - p).log()).mean()
    torch.testing.assert_close(losses["loss_quality"], expected)
    losses["loss_quality"].backward()
    torch.testing.assert_close(torch.cat([q.grad for q in qualities]), (p - iou).detach() / 2)
    assert all(x.grad is None for x in logits)  # the mask is not trained by its own IoU


def test_weights_and_count_of_a_batch():
    *inputs, qualities, sizes = criterion_inputs()
    criterion = EpisodeCriterion(num_points=100, quality_weight=1.0)
    parts = [criterion(*([x[i]] for x in inputs), [qualities[i]], [sizes[i]]) for i in (0, 1)]
    got = criterion(*inputs, qualities, sizes, weights=[0.5, 2.0], count=8)
    for key in got:
        torch.testing.assert_close(got[key], (0.5 * parts[0][key] + 6 * parts[1][key]) / 8)


def model(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).eval()


def test_scores_are_the_mean_probability_or_the_quality():
    episode = tiny_episode(2, 3)
    plain, quality = model(), model("MODEL.SEGIC.TEST.SCORE", "quality")
    (a,), (b,) = plain([episode]), quality([episode])
    assert torch.equal(a["masks"], b["masks"])
    features = plain.encode_images([episode["image"]])
    context = plain.encode_context(episode["references"])
    with torch.no_grad():
        (logits,), (estimates,) = plain.segment_scored(features, context)
        assert torch.equal(plain.segment(features, context)[0], logits)
    torch.testing.assert_close(a["scores"], mask_scores(logits, 112, (84, 112)))
    torch.testing.assert_close(b["scores"], estimates.sigmoid())
    size = (84, 112, 168)
    got = quality.postprocess(logits, size[:2], 168, 224, estimates)
    assert torch.equal(got["masks"], b["masks"]) and torch.equal(got["scores"], b["scores"])
    with pytest.raises(ValueError, match="TEST.SCORE is 'quality'.*segment_scored"):
        quality.postprocess(logits, size[:2], 168, 224)


def test_the_quality_times_the_highest_similarity():
    """Of the cells in the picture, which is 84 px of a canvas of 112 px high: 6 of 8 rows; what is
    shown looks like the padding."""
    episode = tiny_episode(2, 3)
    for reference in episode["references"]:
        reference["image"][:] = torch.tensor([124, 116, 104])[:, None, None]
    quality = model("MODEL.SEGIC.TEST.SCORE", "quality")
    both = model("MODEL.SEGIC.TEST.SCORE", "quality_similarity")
    (a,), (b,) = quality([episode]), both([episode])
    features = both.encode_images([episode["image"]])
    context = both.encode_context(episode["references"])
    with torch.no_grad():
        (maps,) = both.propagated_mask(features, context)
    highest = maps[:, :6].flatten(1).amax(1)
    assert (highest + 0.2 < maps.flatten(1).amax(1)).all()
    torch.testing.assert_close(
        b["scores"], a["scores"] * highest.clamp(min=0), atol=2e-6, rtol=1e-5
    )
    assert torch.equal(a["masks"], b["masks"])
    batch = both([episode, tiny_episode(3, 2)])
    torch.testing.assert_close(batch[0]["scores"], b["scores"])
    unlike = quality_of("quality_similarity", torch.tensor([3.0]), torch.tensor([-0.2]))
    assert unlike.sigmoid().item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("rule", ["mask", "quality", "quality_similarity"])
def test_an_entity_below_the_lowest_score_is_not_found(rule):
    """In masks, instances, label maps and for people; its score is kept."""
    episode, kinds = tiny_episode(2, 3), ("instances", "sem_seg")
    options = {"outputs": kinds, "num_classes": 4, "background": 3}
    never = model("MODEL.SEGIC.TEST.SCORE", rule)
    with torch.no_grad():  # estimates and masks that differ between the entities
        never.sem_seg_head.mask_decoder.iou_prediction_head.layers[-1].weight.mul_(40)
    (a,) = never.inference([episode], **options)
    assert a["masks"].flatten(1).any(1).all()
    low, middle, high = a["scores"].sort().values.tolist()
    assert low < middle
    strict = model("MODEL.SEGIC.TEST.SCORE", rule, "MODEL.SEGIC.TEST.MIN_SCORE", (low + middle) / 2)
    strict.load_state_dict(never.state_dict())
    (b,) = strict.inference([episode], **options)
    lost = int(a["scores"].argmin())
    kept = [i for i in range(3) if i != lost]
    assert torch.equal(a["scores"], b["scores"])
    assert not b["masks"][lost].any() and torch.equal(b["masks"][kept], a["masks"][kept])
    assert len(b["instances"]) == 2 and lost not in b["instances"].pred_classes
    assert lost not in b["sem_seg"].argmax(0)
    assert torch.equal(strict([episode])[0]["masks"], b["masks"])

    predictor = InContextPredictor.from_model(strict)
    predictor.context = strict.encode_context(episode["references"])
    result = predictor(episode["image"].permute(1, 2, 0).numpy())
    assert not result.masks[lost].any() and result.masks[kept].any((1, 2)).all()
    assert lost not in result.label_map(background=7) and 7 in result.label_map(background=7)
    assert result.scores == pytest.approx(a["scores"].numpy(), abs=1e-5)


def test_half_precision_can_abstain_too():
    episode = tiny_episode(2, 2)
    strict = model("MODEL.SEGIC.TEST.MIN_SCORE", 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        (out,) = strict([episode])
    assert not out["masks"].any() and (out["scores"] > 0).any()


@pytest.mark.parametrize("key, value", [("SCORE", "iou"), ("MIN_SCORE", 1.2), ("MIN_SCORE", -0.1)])
def test_keys_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.SEGIC.TEST.{key} is {value!r}"):
        model(f"MODEL.SEGIC.TEST.{key}", value)
