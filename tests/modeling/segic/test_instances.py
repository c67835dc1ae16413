"""Peaks, prompts and mask NMS, beside slow obvious references."""

from dataclasses import replace

import pytest
import torch

from segic_d2.modeling.segic import instances as module
from segic_d2.modeling.segic.instances import (
    Peaks,
    best_instances,
    decode_instances,
    find_peaks,
    mask_nms,
    prompt_queries,
    strongest,
)
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.regions.instances import part_objects
from tests.modeling.segic import parts
from tests.tiny import tiny_episode


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_peaks(score, valid, canvas, count, min_distance, least):
    """One map, cell by cell: [(x, y, value)] in pixels of the canvas."""
    side, step = len(score), canvas / len(score)
    cells = [(y, x) for y in range(side) for x in range(side) if valid[y, x]]
    maxima = []
    for y, x in cells:
        around = [score[b, a] for b, a in cells if max(abs(a - x), abs(b - y)) <= 1]
        if score[y, x] >= max(around) and score[y, x] >= least:
            maxima.append((float(score[y, x]), (x + 0.5) * step - 0.5, (y + 0.5) * step - 0.5))
    taken = []
    for value, x, y in sorted(maxima, reverse=True):
        if len(taken) < count and all(
            (x - a) ** 2 + (y - b) ** 2 >= min_distance**2 for a, b, _ in taken
        ):
            taken.append((x, y, value))
    return taken


@pytest.mark.parametrize("count, distance, least", [(3, 14, 0.0), (20, 30, 0.3), (20, 0, 0.8)])
@pytest.mark.parametrize("at_once", [2**22, 1])
def test_peaks_against_a_plain_loop(count, distance, least, at_once, monkeypatch):
    monkeypatch.setattr(module, "PEAK_POSITIONS", at_once)
    maps = torch.rand(4, 8, 8, generator=seeded())
    valid = torch.ones(4, 8, 8, dtype=torch.bool)
    valid[1, 5:] = False
    valid[2, :, 6:] = False
    maps[1, 6, 6] = maps[2, 0, 7] = 5  # high, but in the padding
    peaks = find_peaks(maps, valid, 112, count=count, min_distance=distance, min_similarity=least)
    expected = [
        (m, *p)
        for m in range(4)
        for p in slow_peaks(maps[m], valid[m], 112, count, distance, least)
    ]
    got = list(
        zip(peaks.entity.tolist(), *peaks.xy.T.tolist(), peaks.similarity.tolist(), strict=True)
    )
    assert len(got) == len(expected) > 4
    assert torch.tensor(got) == pytest.approx(torch.tensor(expected), abs=1e-5)


def test_two_objects_are_two_peaks_and_a_flat_map_is_not_one_peak_per_cell():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")

    def bump(cy, cx):
        return torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 4)

    maps = torch.stack([bump(3, 3) + 0.9 * bump(11, 12), torch.full((16, 16), 0.5)])
    peaks = find_peaks(
        maps, torch.ones_like(maps).bool(), 224, count=10, min_distance=28, min_similarity=0.1
    )
    cells = ((peaks.xy + 0.5) / 14).floor()
    assert cells[peaks.entity == 0].tolist() == [[3, 3], [12, 11]]
    assert torch.pdist(peaks.xy[peaks.entity == 1]).min() >= 28
    none = find_peaks(
        maps, torch.ones_like(maps).bool(), 224, count=10, min_distance=28, min_similarity=2
    )
    assert len(none) == 0 and none.xy.shape == (0, 2)


def test_the_strongest_prompts_of_each_target_stay():
    similarity = torch.rand(30, generator=seeded(1))
    entity = torch.arange(10).repeat_interleave(3)
    image_index = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    peaks = Peaks(entity, torch.zeros(30, 2), similarity)
    kept = strongest(peaks, image_index, 4)
    expected = []
    for image in (0, 1):
        rows = [p for p in range(30) if image_index[entity[p]] == image]
        expected += sorted(sorted(rows, key=lambda p: -similarity[p])[:4])
    assert kept.similarity.tolist() == similarity[expected].tolist()
    assert len(strongest(peaks, image_index, 0)) == len(strongest(peaks, image_index, 30)) == 30


def slow_nms(masks, scores, classes, iou):
    """Mask by mask, pixel sets."""
    sets = [set(m.flatten().nonzero()[:, 0].tolist()) for m in masks]
    kept = []
    for i in sorted(range(len(masks)), key=lambda i: (-scores[i].item(), i)):
        over = (
            len(sets[i] & sets[k]) / max(1, len(sets[i] | sets[k]))
            for k in kept
            if classes[k] == classes[i]
        )
        if all(o <= iou for o in over):
            kept.append(i)
    return kept


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rows", [128, 7])
def test_mask_nms_against_a_plain_loop(iou, rows, monkeypatch):
    monkeypatch.setattr(module, "NMS_ROWS", rows)
    g = seeded(2)
    masks = torch.zeros(60, 12, 12, dtype=torch.bool)
    for m in masks:  # overlapping rectangles, chains of them
        y, x, h, w = torch.randint(1, 8, (4,), generator=g).tolist()
        m[y : y + h, x : x + w] = True
    masks[10] = masks[11]
    scores = (torch.rand(60, generator=g) * 10).round() / 10  # with ties
    classes = torch.randint(0, 3, (60,), generator=g)
    kept = mask_nms(masks, scores, classes, iou).tolist()
    assert kept == slow_nms(masks, scores, classes, iou)
    assert (len(kept) < 60) == (iou < 1)


def test_a_chain_is_resolved_greedily():
    """b overlaps a and c; a drops b, so that c stays though b would have dropped it."""
    masks = torch.zeros(3, 1, 12, dtype=torch.bool)
    for i in range(3):
        masks[i, 0, 2 * i : 2 * i + 6] = True
    scores, same = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long)
    assert mask_nms(masks, scores, same, 0.3).tolist() == [0, 2]
    assert mask_nms(masks, scores, torch.tensor([0, 1, 0]), 0.3).tolist() == [0, 1, 2]
    assert mask_nms(masks[:0], scores[:0], same[:0], 0.3).tolist() == []


def test_empty_masks_and_padding_are_no_instances():
    logits = torch.full((4, 8, 8), -1.0)
    logits[0, 1:3, 1:3] = 1
    logits[1, 6:, :] = 1  # in the padding only
    logits[2, 1:3, 1:3] = logits[2, 6:, :] = 1  # as 0, where the image is
    logits[3, 4, 4] = 1
    scores, classes = torch.tensor([0.5, 0.9, 0.6, 0.4]), torch.zeros(4, dtype=torch.long)
    kept = best_instances(logits, scores, classes, (6, 8), iou=0.5)
    assert kept.tolist() == [2, 3]
    assert best_instances(logits, scores, classes, (6, 8), limit=1).tolist() == [2]


OPTIONS = ("MODEL.SEGIC.INSTANCES.MIN_SIMILARITY", -1.0, "MODEL.SEGIC.INSTANCES.PER_CLASS", 4)


def build(*opts):
    return parts.build(*OPTIONS, *opts)


def setting(model, entities=3):
    episode = tiny_episode(1, entities)
    context = model.encode_context(episode["references"], task="instance")
    return episode, context


def test_one_batched_decode_equals_prompts_one_by_one(monkeypatch):
    model = build()
    head, options = model.sem_seg_head, model.instances
    episode, context = setting(model)
    features = model.encode_images([episode])
    queries = Queries.from_contexts([context])
    calls = []
    forward = type(head).forward
    monkeypatch.setattr(
        type(head), "forward", lambda *a, **k: calls.append(len(a[3])) or forward(*a, **k)
    )
    with torch.no_grad():
        args = head, features.map, features.image_sizes, queries, options
        peaks, out = decode_instances(*args)
        assert calls == [len(peaks)] and len(set(peaks.entity.tolist())) == 3
        _, chunked = decode_instances(*args, chunk=2)
        torch.testing.assert_close(chunked.logits, out.logits, atol=1e-4, rtol=0)
        for p in range(len(peaks)):
            alone = model.encode_context([episode["references"][peaks.entity[p]]], task="instance")
            one = head(
                features.map,
                features.image_sizes,
                Queries.from_contexts([alone]),
                crossing=torch.zeros(1, dtype=torch.bool),
                points=peaks.xy[p][None, None],
            )
            torch.testing.assert_close(one.logits[0], out.logits[p], atol=1e-4, rtol=0)
            torch.testing.assert_close(one.quality[0], out.quality[p], atol=1e-4, rtol=0)
    # the best peak of a class is the point that the class alone is prompted with
    with torch.no_grad():
        whole = head(
            features.map,
            features.image_sizes,
            queries,
            crossing=torch.zeros(1, dtype=torch.bool),
        )
    first = [peaks.entity.tolist().index(e) for e in range(3)]
    torch.testing.assert_close(out.logits[first], whole.logits, atol=1e-4, rtol=0)


def test_found_instances_are_what_detectron2_expects():
    model = build("MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0)
    episode, context = setting(model)
    targets = [episode, tiny_episode(2)]
    together = model.find_instances(targets, context)
    for x, out in zip(targets, together, strict=True):
        found = out["instances"]
        (alone,) = model.find_instances([x], context)
        assert found.image_size == (168, 224) and found.pred_masks.shape[1:] == (168, 224)
        assert found.pred_masks.flatten(1).any(1).all() and len(found) > 3
        assert (found.scores.diff() <= 0).all()
        assert set(found.pred_classes.tolist()) <= {0, 1, 2}
        assert len(found) == len(alone["instances"])
        assert len(model.find_instances([x], context, limit=2)[0]["instances"]) == 2
    assert not together[0]["instances"].scores.requires_grad


@torch.no_grad()
def test_parts_of_the_class_where_objects_were_never_learnt():
    """No peak is asked, and the class is read as a whole, by a context of any task."""
    model = build("MODEL.SEGIC.INSTANCES.PARTS", True)
    episode, context = setting(model)
    features = model.encode_images([episode])
    (whole,) = model.segment(features, replace(context, task="semantic"))
    expected = part_objects(whole, 7)
    for task in ("semantic", "instance"):
        (found,) = model.segment_instances(features, replace(context, task=task), limit=7)
        assert torch.equal(found.logits, expected.logits) and found.ids == expected.ids
        assert torch.equal(found.scores, expected.scores) and len(found) == 7


def test_duplicates_go_and_the_score_follows_its_key():
    kept = {}
    for iou in (1.0, 0.2):
        model = build("MODEL.SEGIC.INSTANCES.NMS_IOU", iou)
        episode, context = setting(model)
        kept[iou] = len(model.find_instances([episode], context)[0]["instances"])
    assert kept[0.2] < kept[1.0]
    quality = build("MODEL.SEGIC.TEST.SCORE", "quality", "MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0)
    episode, context = setting(quality)
    features = quality.encode_images([episode])
    with torch.no_grad():
        peaks, out = decode_instances(
            quality.sem_seg_head,
            features.map,
            features.image_sizes,
            Queries.from_contexts([context]),
            quality.instances,
        )
    scores = quality.find_instances([episode], context)[0]["instances"].scores
    known = out.quality.sigmoid()
    assert all((known - s).abs().min() < 1e-5 for s in scores)
    both = build(
        *("MODEL.SEGIC.TEST.SCORE", "quality_similarity", "MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0)
    )
    scores = both.find_instances([episode], context)[0]["instances"].scores
    known = out.quality.sigmoid() * peaks.similarity.clamp(0, 1)  # at each prompt's own peak
    assert (peaks.similarity < out.similarity - 1e-3).any()
    assert all((known - s).abs().min() < 1e-5 for s in scores)
    torch.testing.assert_close(scores[0], known.max(), atol=1e-5, rtol=1e-4)
    strict = build("MODEL.SEGIC.TEST.MIN_SCORE", 1.0)
    assert len(strict.find_instances([episode], context)[0]["instances"]) == 0


def test_one_prompt_per_peak_has_its_entitys_background():
    opts = ("MODEL.SEGIC.BACKGROUND", True, "MODEL.SEGIC.SIMILARITY.GROUPS", 2)
    model = parts.build(*opts, "MODEL.SEGIC.INSTANCES.PER_CLASS", 3)
    features, context = parts.encoded(model)
    target = {**tiny_episode(0), "height": 84, "width": 112}
    maps = model.propagated_mask(features, context)[0]
    peaks = find_peaks(maps, torch.ones_like(maps) > 0, 112, count=3, min_distance=14)
    assert len(peaks) > 2
    prompts = prompt_queries(Queries.from_contexts([context]), peaks, 1)
    assert prompts.counts == [len(peaks)] and prompts.vectors.shape == (len(peaks), 2, 24)
    for v, name in enumerate(("unit_prototypes", "background")):
        assert torch.equal(prompts.vectors[:, v], context.tensors[name][peaks.entity, 0])
    (found,) = model.find_instances([target], context)
    assert found["instances"].pred_masks.shape[1:] == (84, 112)


def test_peaks_of_a_class_are_two_cells_apart():
    """What only the distance and no option says: 28 px on the canvas."""
    model = build()
    features, context = parts.encoded(model)
    with torch.no_grad():
        args = features.map, features.image_sizes, Queries.from_contexts([context])
        peaks, _ = decode_instances(model.sem_seg_head, *args, model.instances)
    for entity in range(2):
        own = peaks.xy[peaks.entity == entity]
        assert len(own) > 1 and torch.pdist(own).min() >= module.APART * 14 == 28


def test_found_instances_keep_ids_and_names_of_their_entities():
    model = build("MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0)
    episode = tiny_episode(1, 2)
    names = {1: "one", 0: "zero"}
    context = model.encode_context(episode["references"], names, task="instance")
    (found,) = module.find_instances(
        model.sem_seg_head,
        model.readout,
        model.encode_images([episode]),
        context,
        model.instances,
    )
    assert len(found) > 2 and {*found.ids} == {0, 1} and found.classes.tolist() == found.ids
    assert found.names == [names[i] for i in found.ids]
    instances = found.instances()
    assert torch.equal(instances.pred_classes, found.classes)
    assert torch.equal(instances.pred_masks, found.masks)


def test_no_peak_is_no_instance_and_no_error():
    model = build("MODEL.SEGIC.INSTANCES.MIN_SIMILARITY", 1.0)
    episode, context = setting(model)
    (out,) = model.find_instances([episode], context)
    assert len(out["instances"]) == 0


@pytest.mark.parametrize("key, value", [("PER_CLASS", 0), ("PER_IMAGE", -1), ("NMS_IOU", 1.5)])
def test_options_that_cannot_be_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.SEGIC.INSTANCES.{key} is {value}"):
        build(f"MODEL.SEGIC.INSTANCES.{key}", value)


def test_without_points_there_are_no_prompts():
    model = build("MODEL.SEGIC.POINT", False)
    episode, context = setting(model)
    with pytest.raises(ValueError, match="MODEL.SEGIC.POINT is False"):
        model.find_instances([episode], context)
