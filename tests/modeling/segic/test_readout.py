"""From mask logits to masks and scores."""

import pytest
import torch

from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic.mask_head import HeadOutput
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.readout import NOWHERE, Readout, mask_scores
from segic_d2.modeling.segic.refinement import Refinement
from segic_d2.predictor import InContextPredictor
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from tests.modeling.segic.parts import build as model
from tests.modeling.segic.parts import features, random_contexts
from tests.tiny import tiny_episode


def test_score_is_the_mean_probability_inside_the_mask():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits[2] = -1
    got = mask_scores(logits, Frame(32, (16, 32), (100, 200)))
    for n in range(3):
        inside = [x.sigmoid() for row in logits[n, :4] for x in row if x > 0]
        expected = sum(inside) / len(inside) if inside else torch.tensor(0.0)
        torch.testing.assert_close(got[n], expected)


def output(*counts):
    """A random ``HeadOutput`` of so many entities for each target."""
    g, m = torch.Generator().manual_seed(0), sum(counts)
    logits, maps = torch.randn(m, 32, 32, generator=g), torch.rand(m, 8, 8, generator=g)
    quality, similarity = torch.randn(m, generator=g), torch.rand(m, generator=g) - 0.2
    return HeadOutput(logits, quality, similarity, maps)


@pytest.mark.parametrize("score", ["mask", "quality", "quality_similarity"])
def test_every_target_has_its_own_entities_and_frame(score):
    """Against one entity at a time."""
    out, contexts = output(3, 0, 2), random_contexts(3, 0, 2)
    contexts[2].ids, contexts[2].names = [7, 5], ["seven", None]
    frames = [Frame(112, size, (9, 9)) for size in ((84, 112), (112, 112), (112, 50))]
    least = 0.2 if score == "quality_similarity" else 0.55
    readout = Readout(threshold=0.5, score=score, min_score=least)
    similarity = model().sem_seg_head.similarity
    found = readout(out, Features(features(3), frames), contexts, similarity)
    assert [len(x) for x in found] == [3, 0, 2]
    assert found[2].ids == [7, 5] and found[2].names == ["seven", None]
    assert [x.frame for x in found] == frames and {x.threshold for x in found} == {0.5}
    entities = [(x, i, f) for x, f in zip(found, frames, strict=True) for i in range(len(x))]
    lost = 0
    for m, (one, i, frame) in enumerate(entities):
        expected = {
            "mask": mask_scores(out.logits[m : m + 1], frame, 0.5)[0],
            "quality": out.quality[m].sigmoid(),
            "quality_similarity": out.quality[m].sigmoid() * out.similarity[m].clamp(0, 1),
        }[score]
        torch.testing.assert_close(one.scores[i], expected, atol=2e-6, rtol=1e-5)
        below = bool(expected < least)
        lost += below
        logits = torch.full((32, 32), NOWHERE) if below else out.logits[m]
        assert torch.equal(one.logits[i], logits)
        assert torch.equal(one.similarity[i], out.maps[m])
    assert score == "mask" or 0 < lost < 5


def test_scores_are_those_of_refined_logits():
    out, contexts = output(2), random_contexts(2)
    shown = Features(features(1), [Frame(112, (84, 112), (84, 112))], [torch.zeros(3, 84, 112)])
    similarity = model().sem_seg_head.similarity
    assert isinstance(similarity, Similarity)
    readout = Readout(refinement=Refinement(radius=2, walk=0.5))
    (found,) = readout(out, shown, contexts, similarity)
    refined = readout.refined(out.logits, shown, 0, similarity)
    assert torch.equal(found.logits, refined) and not torch.equal(refined, out.logits)
    assert torch.equal(found.scores, mask_scores(refined, shown.frames[0]))


def test_scores_are_the_mean_probability_or_the_quality():
    episode = tiny_episode(2, 3)
    plain, quality = model(), model("MODEL.SEGIC.TEST.SCORE", "quality")
    (a,), (b,) = plain([episode]), quality([episode])
    assert torch.equal(a["masks"], b["masks"])
    shown = plain.encode_images([episode])
    context = plain.encode_context(episode["references"])
    with torch.no_grad():
        (found,), (estimated,) = (m.segment(shown, context) for m in (plain, quality))
        queries = Queries.from_contexts([context])
        out = plain.sem_seg_head(shown.map, shown.image_sizes, queries, crossing=True)
    assert torch.equal(found.logits, out.logits) and torch.equal(estimated.logits, out.logits)
    assert found.frame == Frame(112, (84, 112), (168, 224))
    torch.testing.assert_close(a["scores"], mask_scores(out.logits, found.frame))
    torch.testing.assert_close(b["scores"], out.quality.sigmoid())
    for one, result in ((found, a), (estimated, b)):
        assert torch.equal(one.masks, result["masks"])
        assert torch.equal(one.scores, result["scores"])


def test_the_quality_times_the_highest_similarity():
    """Of the cells in the picture, which is 84 px of a canvas of 112 px high: 6 of 8 rows; what is
    shown looks like the padding."""
    episode = tiny_episode(2, 3)
    for reference in episode["references"]:
        reference["image"][:] = torch.tensor([124, 116, 104])[:, None, None]
    quality = model("MODEL.SEGIC.TEST.SCORE", "quality")
    both = model("MODEL.SEGIC.TEST.SCORE", "quality_similarity")
    (a,), (b,) = quality([episode]), both([episode])
    shown = both.encode_images([episode["image"]])
    context = both.encode_context(episode["references"])
    with torch.no_grad():
        (maps,) = both.propagated_mask(shown, context)
    highest = maps[:, :6].flatten(1).amax(1)
    assert (highest + 0.2 < maps.flatten(1).amax(1)).all()
    torch.testing.assert_close(
        b["scores"], a["scores"] * highest.clamp(min=0), atol=2e-6, rtol=1e-5
    )
    assert torch.equal(a["masks"], b["masks"])
    batch = both([episode, tiny_episode(3, 2)])
    torch.testing.assert_close(batch[0]["scores"], b["scores"])
    out = HeadOutput(*torch.tensor([[0.0], [3.0], [0.9], [0.0]]))
    unlike = both.readout.instance_quality(out, torch.tensor([-0.2]))
    assert unlike.sigmoid().item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("rule", ["mask", "quality", "quality_similarity"])
def test_an_entity_below_the_lowest_score_is_not_found(rule):
    """In masks, instances, label maps and for people; its score is kept."""
    episode, kinds = tiny_episode(2, 3), ("masks", "instances", "sem_seg")
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
    result = predictor(episode["image"].permute(1, 2, 0).numpy(), independent=True)
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


def test_small_things_of_regions_get_a_finer_filter():
    """A window as wide as others' would smooth them away."""
    frame = Frame(112, (112, 112), (112, 112))
    picture = 255 * torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(0))
    features = Features(torch.zeros(1, 1, 8, 8), [frame], [picture])
    logits = torch.full((2, 32, 32), -6.0)
    logits[:, 10:18, 10:18] = 6.0
    small = torch.tensor([False, True])
    readout = Readout(refinement=Refinement(4))
    chosen, maps = [((logits, torch.ones(2)), small)], [torch.zeros(2, 8, 8)]
    (found,) = readout.of_regions(chosen, maps, features, random_contexts(2))
    for row, radius in ((0, 4), (1, 2)):
        expected = Refinement(radius)(logits, features, 0, None, 0.0)[row]
        assert torch.equal(found.logits[row], expected)
    assert not torch.equal(found.logits[0], found.logits[1])
