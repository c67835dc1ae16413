"""Random walk and guided filter: against loops, on edges, and wherever masks come from."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic import refinement
from segic_d2.modeling.segic.refinement import (
    FLAT,
    POWER,
    STEPS,
    Refinement,
    guided_filter,
    random_walk,
    refine_logits,
    window_mean,
)
from segic_d2.predictor import InContextPredictor
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from tests.modeling.segic.parts import build as model
from tests.tiny import tiny_episode

REFINE, WALK = "MODEL.SEGIC.TEST.REFINE.RADIUS", "MODEL.SEGIC.TEST.REFINE.WALK"


def slow_walk(own, similarity, go_on, power):
    """One cell and one step at a time."""
    chance = list(own)
    for _ in range(STEPS):
        now = []
        for i, row in enumerate(similarity):
            weights = [max(float(s), 0.0) ** power for s in row]
            mean = sum(w * c for w, c in zip(weights, chance, strict=True)) / sum(weights)
            now.append((1 - go_on) * float(own[i]) + go_on * float(mean))
        chance = now
    return torch.tensor(chance)


def random_cells(rows, columns, seed=0):
    g = torch.Generator().manual_seed(seed)
    units = F.normalize(torch.randn(rows * columns, 6, generator=g), dim=1)
    return units @ units.T


@pytest.mark.parametrize("go_on, power, threshold", [(0.5, 2.0, 0.0), (0.8, 8.0, -1.0)])
def test_the_walk_against_a_loop(go_on, power, threshold):
    """Of logits that are constant in each cell of a grid of 4x4, of which 3x4 hold content."""
    g = torch.Generator().manual_seed(1)
    low = torch.randn(2, 4, 4, generator=g)
    logits = low.repeat_interleave(4, 1).repeat_interleave(4, 2)
    similarity = random_cells(3, 4)
    got = random_walk(logits, similarity, (4, 3, 4), go_on, power, threshold)
    for one, start, before in zip(got, low, logits, strict=True):
        own = (start[:3].flatten() - threshold).sigmoid()
        end = slow_walk(own, similarity, go_on, power)
        added = (end.logit() - own.logit()).reshape(1, 1, 3, 4)
        added = F.pad(added, (0, 0, 0, 1), mode="replicate")
        added = F.interpolate(added, (16, 16), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(one, before + added, atol=1e-4, rtol=1e-4)
    padded = logits.clone()
    padded[:, 12:] = 50  # what lies in the padding goes nowhere
    again = random_walk(padded, similarity, (4, 3, 4), go_on, power, threshold)
    assert torch.equal(again[:, :12], got[:, :12])


def test_a_thing_is_filled_and_unlike_cells_keep_what_they_have():
    """Columns 0 and 1 are one thing that was half found, 2 and 3 are each like nothing else."""
    similarity = torch.eye(4)
    similarity[0, 1] = similarity[1, 0] = 1
    logits = torch.tensor([3.0, -1.5, 2.0, -2.0]).expand(1, 4, 4)
    similarity = similarity.repeat_interleave(4, 0).repeat_interleave(4, 1)
    column = torch.arange(16) % 4  # cells row by row
    order = column.argsort(stable=True).argsort()
    got = random_walk(logits, similarity[order][:, order], (4, 4, 4), 0.9, 8.0)
    torch.testing.assert_close(got[0, :, 2:], logits[0, :, 2:])
    assert (got[0, :, 1] > 0).all() and (got[0, :, 0] < 3).all()
    assert (got[0] == got[0, 0]).all()
    assert random_walk(logits[:0], similarity, (4, 4, 4), 0.9, 8.0).shape == (0, 4, 4)


def slow_filter(guide, values, radius, eps):
    """An affine fit of the values to the colours in every window, by ridge regression; then the
    mean of what the fits of all windows that hold a pixel say of it."""
    guide, values = guide.double().numpy(), values.double().numpy()
    height, width = values.shape
    fits = {}
    for y in range(height):
        for x in range(width):
            part = (
                slice(max(y - radius, 0), y + radius + 1),
                slice(max(x - radius, 0), x + radius + 1),
            )
            colours, target = guide[(slice(None), *part)].reshape(3, -1).T, values[part].ravel()
            off, mean = colours - colours.mean(0), target.mean()
            slope = np.linalg.solve(
                off.T @ off / len(off) + eps * np.eye(3), off.T @ (target - mean) / len(off)
            )
            fits[y, x] = slope, mean - slope @ colours.mean(0)
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            near = [
                fits[v, u]
                for v in range(max(y - radius, 0), min(y + radius + 1, height))
                for u in range(max(x - radius, 0), min(x + radius + 1, width))
            ]
            slope = np.mean([n[0] for n in near], 0)
            out[y, x] = slope @ guide[:, y, x] + np.mean([n[1] for n in near])
    return torch.from_numpy(out)


@pytest.mark.parametrize("radius, eps", [(1, 0.005), (2, 0.1), (9, 0.005)])
def test_the_filter_against_a_fit_per_window(radius, eps):
    g = torch.Generator().manual_seed(0)
    guide, maps = torch.rand(3, 9, 7, generator=g), torch.rand(5, 9, 7, generator=g)
    got = guided_filter(guide, maps, radius, eps)
    for one, own in zip(got, maps, strict=True):
        expected = slow_filter(guide, own, radius, eps).float()
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)


def test_means_are_of_what_lies_inside():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    got = window_mean(x, 1)[0, 0]
    assert got[0, 0] == x[0, 0, :2, :2].mean() and got[1, 1] == x[0, 0, :3, :3].mean()
    assert got[2, 3] == x[0, 0, 1:, 2:].mean()
    torch.testing.assert_close(window_mean(x, 5), x.mean().expand(1, 1, 3, 4))


def disc(side, centre, radius):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 < radius**2


def iou(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


def test_masks_take_the_edges_of_the_picture():
    """A disc that was seen through cells of 14 px; where nothing is to be seen it is smoothed."""
    truth = disc(112, (50, 58), 31)
    g = torch.Generator().manual_seed(0)
    picture = torch.full((3, 112, 112), 90.0)
    picture[:, truth] = torch.tensor([170.0, 60.0, 90.0])[:, None]
    picture = (picture + 8 * torch.randn(3, 112, 112, generator=g)).clamp(0, 255)
    cells = F.avg_pool2d(truth[None].float(), 14)
    low = F.interpolate(cells[None], (32, 32), mode="bilinear")[0] * 6 - 3 - 1

    def mask(logits):
        return F.interpolate(logits[None], (112, 112), mode="bilinear")[0, 0] > -1

    refined = refine_logits(low, picture, 112, radius=4, eps=0.005, threshold=-1.0)
    assert iou(mask(low), truth) == pytest.approx(0.941, abs=0.002)
    assert iou(mask(refined), truth) == pytest.approx(0.956, abs=0.002)
    flat = torch.full_like(picture, 128)
    unseen = refine_logits(low, flat, 112, radius=4, eps=0.005, threshold=-1.0)
    smooth = window_mean(window_mean((low + 1).sigmoid()[None], 4), 4)[0]
    torch.testing.assert_close((unseen + 1).sigmoid(), smooth)


def test_padding_counts_for_nothing_and_what_was_sure_stays_sure(monkeypatch):
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 70, 112), generator=g, dtype=torch.uint8)
    logits = 2 * torch.randn(3, 32, 32, generator=g)
    got = refine_logits(logits, picture, 112, radius=2, eps=0.005)
    other = logits.clone()
    other[:, 20:] = 50  # 70 px of 112 are 20 of 32 cells
    again = refine_logits(other, picture, 112, radius=2, eps=0.005)
    assert torch.equal(got, again)
    assert torch.equal(got[:, 20:], got[:, 19:20].expand(-1, 12, -1))
    for size in (70, 112):  # no entity at all
        none = refine_logits(logits[:0], picture[:, :, :size], 112, radius=2, eps=0.005)
        assert none.shape == (0, 32, 32)
    monkeypatch.setattr(refinement, "AT_ONCE", 2)
    torch.testing.assert_close(refine_logits(logits, picture, 112, radius=2, eps=0.005), got)

    flat = torch.full((3, 112, 112), 100, dtype=torch.uint8)
    sure = torch.tensor([9.0, 12.0, -9.0, -12.0])[:, None, None].expand(-1, 32, 32)
    torch.testing.assert_close(refine_logits(sure, flat, 112, radius=2, eps=0.005), sure)
    half = refine_logits(sure[:1].half(), flat, 112, radius=2, eps=0.005, threshold=-1.0)
    assert half.dtype == torch.float32 and (half == 9).all()


def test_probabilities_are_relative_to_the_threshold():
    """The same picture and logits, both moved by the threshold: the same mask."""
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 112, 112), generator=g, dtype=torch.uint8)
    logits = torch.randn(2, 32, 32, generator=g)
    zero = refine_logits(logits, picture, 112, radius=3, eps=0.005)
    moved = refine_logits(logits - 1, picture, 112, radius=3, eps=0.005, threshold=-1.0)
    torch.testing.assert_close(moved + 1, zero)
    assert (zero != logits).all()


def test_the_numbers_without_a_key_are_those_of_the_papers():
    """What the keys were set to by default, before they went."""
    assert (STEPS, POWER, FLAT) == (10, 8.0, 0.005)


def test_nothing_to_do_leaves_the_logits_alone():
    logits = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    assert Refinement()(logits, None, 0, None, 0.0) is logits
    assert Refinement(walk=0.5)(logits, None, 0, None, 0.0) is logits  # no walk without cells


def test_every_way_to_masks_is_refined():
    episodes = [tiny_episode(2, 3), tiny_episode(4, 3, size=(112, 70))]
    plain, refining = model(), model(REFINE, 3)
    features = plain.encode_images(episodes)
    contexts = [plain.encode_context(e["references"]) for e in episodes]
    with torch.no_grad():
        rows = list(zip(plain.segment(features, contexts), episodes, strict=True))
        expected = [refine_logits(x.logits, e["image"], 112, radius=3, eps=FLAT) for x, e in rows]
        for got, low in zip(refining.segment(features, contexts), expected, strict=True):
            torch.testing.assert_close(got.logits, low)
        (last,) = refining.segment(features[1:], contexts[1:])
        torch.testing.assert_close(last.logits, expected[1], atol=1e-5, rtol=1e-4)
        (first,) = refining.segment(features[[0]], contexts[:1])
        torch.testing.assert_close(first.logits, expected[0], atol=1e-5, rtol=1e-4)
    for out, low, (one, _) in zip(refining(episodes), expected, rows, strict=True):
        assert (out["masks"] != one.frame.masks(low)).float().mean() < 1e-3
        assert (out["masks"] != one.masks).any()
    predictor = InContextPredictor.from_model(refining)
    predictor.context = contexts[0]
    picture = episodes[0]["image"].permute(1, 2, 0).numpy()
    other = InContextPredictor.from_model(plain)
    other.context = contexts[0]
    unlike, found = (one(picture, independent=True) for one in (other, predictor))
    torch.testing.assert_close(found.logits, expected[0], atol=1e-5, rtol=1e-4)
    assert (found.masks != unlike.masks).any()


def test_the_walk_is_over_cells_as_the_propagated_mask_sees_them():
    opts = "MODEL.SEGIC.SIMILARITY.GROUPS", 3, "MODEL.SEGIC.SIMILARITY.PROPAGATED", 2
    center = "MODEL.SEGIC.SIMILARITY.CENTER", "fixed"
    episode = tiny_episode(2, 3, size=(84, 100))
    plain, walking = model(*opts, *center), model(*opts, *center, WALK, 0.8)
    for network in (plain, walking):
        network.sem_seg_head.similarity.feature_mean += torch.linspace(-0.2, 0.3, 24)
    features = plain.encode_images([episode])
    context = plain.encode_context(episode["references"])
    similarity, cells = plain.sem_seg_head.similarity.within(features.map[0], (84, 100))
    assert cells == (8, 6, 8)  # 100 px are 7.1 cells
    centred = features.map[0] - plain.sem_seg_head.similarity.feature_mean[:, None, None]
    for (y, x), (v, u) in (((0, 0), (5, 7)), ((2, 3), (4, 1))):
        groups = slice(0, 8), slice(8, 16)
        pairs = [(centred[part, y, x], centred[part, v, u]) for part in groups]
        expected = sum(F.cosine_similarity(*pair, dim=0) for pair in pairs) / 2
        torch.testing.assert_close(similarity[8 * y + x, 8 * v + u], expected)
    with torch.no_grad():
        (low,), (walked,) = (m.segment(features, context) for m in (plain, walking))
    expected = random_walk(low.logits, similarity, cells, 0.8, POWER)
    torch.testing.assert_close(walked.logits, expected)
    assert (walked.logits - low.logits).abs().max() > 1e-3
    bare = Features(features.map, features.frames)  # the walk needs no pictures
    with torch.no_grad():
        assert torch.equal(walking.segment(bare, context)[0].logits, walked.logits)


def test_found_instances_are_filtered_and_do_not_walk_to_each_other():
    opts = "MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0
    plain, refining = model(*opts), model(*opts, REFINE, 3)
    episode = tiny_episode(2, 3)
    context = plain.encode_context(episode["references"], task="instance")
    (a,), (b,) = (m.find_instances([episode], context) for m in (plain, refining))
    assert torch.equal(a["instances"].scores, b["instances"].scores)
    assert not torch.equal(a["instances"].pred_masks, b["instances"].pred_masks)
    (c,) = model(*opts, WALK, 0.8).find_instances([episode], context)
    assert torch.equal(a["instances"].pred_masks, c["instances"].pred_masks)


def test_similarity_keeps_its_precision_and_a_cell_without_features_is_like_itself_alone():
    network, episode = model(WALK, 0.8), tiny_episode(2)
    features = network.encode_images([episode])
    features.map[0, :, 2, 3] = 0
    within = network.sem_seg_head.similarity.within
    similarity, cells = within(features.map[0], (84, 112))
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = within(features.map[0], (84, 112))
    assert half.dtype == torch.float32 and torch.equal(half, similarity)
    logits = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    for power in (8.0, 1e9):
        walked = random_walk(logits, similarity, cells, 0.8, power)
        assert walked.isfinite().all() and (power > 8 or (walked != logits).all())
    torch.testing.assert_close(walked, logits)  # nothing is alike to that power


def test_nothing_is_lost_wholly():
    """A spot of 3x3 cells, smaller than the filter's window, in a picture that does not show it."""
    refining = model(REFINE, 4)
    logits = torch.full((2, 32, 32), -6.0)
    logits[0, 10:13, 20:23] = 4
    logits[1, 4:20, 4:20] = 4
    flat = torch.full((3, 112, 112), 100, dtype=torch.uint8)
    frame = Frame(112, (112, 112), (112, 112))
    features = Features(torch.zeros(1, 24, 8, 8), [frame], [flat])
    got = refining.readout.refined(logits, features)
    alone = refine_logits(logits, flat, 112, radius=4, eps=0.005)
    assert (alone[0] < 0).all() and torch.equal(got[0], logits[0])
    assert torch.equal(got[1], alone[1]) and (alone[1] > 0).any()
    assert refining.readout.refined(logits[:0], features).shape == (0, 32, 32)


def test_no_instance_and_no_entity_are_no_errors():
    opts = REFINE, 3, WALK, 0.8, "MODEL.SEGIC.TEST.THRESHOLD", 50.0
    refining, episode = model(*opts), tiny_episode(2, 3)
    context = refining.encode_context(episode["references"])
    (found,) = refining.find_instances([episode], context)
    assert len(found["instances"]) == 0
    features = refining.encode_images([episode, tiny_episode(4)])
    with torch.no_grad():
        some, none = refining.segment(features, [context, context.take([])])
    assert some.logits.shape == (3, 32, 32) and none.logits.shape == (0, 32, 32)


def test_instances_of_a_context_do_not_walk():
    episode = tiny_episode(2, 3)
    plain, walking = model(), model(WALK, 0.8)
    features = plain.encode_images([episode])
    same = {}
    with torch.no_grad():
        for task in ("semantic", "instance"):
            context = plain.encode_context(episode["references"], task=task)
            (a,), (b,) = (m.segment(features, context) for m in (plain, walking))
            same[task] = torch.equal(a.logits, b.logits)
    assert same == {"semantic": False, "instance": True}


def test_features_without_their_pictures_are_named():
    refining, episode = model(REFINE, 4), tiny_episode(2)
    features = refining.encode_images([episode])
    context = refining.encode_context(episode["references"])
    stored = refining.encode_images([{"features": features.map[0], "image_size": (84, 112)}])
    for bare in (Features(features.map, features.frames), stored):
        with pytest.raises(ValueError, match=r"REFINE.RADIUS is 4, which needs the pictures"):
            refining.segment(bare, context)


def test_losses_do_not_depend_on_it():
    episode = tiny_episode(2, training=True)
    losses = []
    for radius, walk in ((0, 0.0), (4, 0.8)):
        network = model(REFINE, radius, WALK, walk).train()
        torch.manual_seed(1)
        losses.append(network([episode]))
    assert losses[0] == losses[1]
