"""Reversion against a slow reference: the reversed episodes as pixels, one by one."""

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling import save_text_table
from segic_d2.modeling.segic.reversion import DRAW, IMAGE, Reversion, derived_seed
from tests.tiny import blob, tiny_config, tiny_episode

ON = ("MODEL.SEGIC.REVERSION.PROB", 1.0)


def build(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).train()


def rich_episode(seed, task="semantic"):
    """Three entities with 2, 3 and 1 shots; references show one, two or three of them."""
    g = torch.Generator().manual_seed(seed)
    episode = tiny_episode(seed, entities=3, training=True, task=task)
    references = []
    for ids, size in (((0, 1), (98, 70)), ((1,), (112, 84)), ((2, 1, 0), (84, 112))):
        image = torch.randint(0, 256, (3, *size), generator=g, dtype=torch.uint8)
        masks = torch.stack([blob(*size, g) for _ in ids]) * 0.9
        references.append({"image": image, "masks": masks, "entity_ids": torch.tensor(ids)})
    return {**episode, "references": references}


@pytest.fixture(scope="module")
def batch():
    return [rich_episode(0), tiny_episode(1, 2, 2, training=True), rich_episode(2, "instance")]


def recorded(model, episodes):
    """Losses of a step and the masks that it predicted, bool (N, h, w) per episode."""
    kept = []
    reverse = model.criterion.reversion.reverse

    def record(episodes, drawn, logits, *rest):
        kept.extend(logits)
        return reverse(episodes, drawn, logits, *rest)

    model.criterion.reversion.reverse = record
    losses = model(episodes)
    del model.criterion.reversion.reverse
    masks = []
    for low, episode in zip(kept, episodes, strict=True):
        size = (model.input.canvas, model.input.canvas)
        full = torch.nn.functional.interpolate(low[None], size=size, mode="bilinear")[0]
        masks.append(full[:, : episode["image"].shape[1], : episode["image"].shape[2]] > 0)
    return losses, masks


def turned(episode, masks, context):
    """The reversed episodes of an episode, pixels and all; skips what was not predicted."""
    rows = {e["id"]: row for row, e in enumerate(episode["entities"])}
    for j, reference in enumerate(episode["references"]):
        ids = [int(i) for i in reference["entity_ids"] if masks[rows[int(i)]].any()]
        if not ids:
            continue
        asked = [k for k, i in enumerate(reference["entity_ids"]) if int(i) in ids]
        shots = [{"image": episode["image"], "masks": masks[[rows[i] for i in ids]].float()}]
        shots[0]["entity_ids"] = ids
        for k, other in enumerate(episode["references"]):
            for row, i in enumerate(other["entity_ids"]):
                if context == "join" and k != j and int(i) in ids:
                    one = {"masks": other["masks"][row : row + 1], "entity_ids": [int(i)]}
                    shots.append({"image": other["image"], **one})
        yield {
            "image": reference["image"],
            "masks": reference["masks"][asked] >= 0.5,
            "entities": [{"id": i, "name": None} for i in ids],
            "references": shots,
            "task": episode["task"],
            "seed": derived_seed(episode["seed"], IMAGE + j),
        }


@pytest.mark.parametrize("context", ["only", "join"])
def test_reversion_equals_its_episodes_one_by_one(batch, context):
    """With several shots and entities: losses and gradients of a loop that encodes all again."""
    draws = ("MODEL.SEGIC.BOX_PROMPT_PROB", 0.5, "MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 1.0)
    plain, model = build(*draws), build(*draws, *ON, "MODEL.SEGIC.REVERSION.CONTEXT", context)
    losses, masks = recorded(model, batch)
    assert sum(m.flatten(1).any(1).sum() for m in masks) >= 6
    sum(losses.values()).backward()
    expected = {k: v / 2 for k, v in plain(batch).items()}
    found = [t for e, m in zip(batch, masks, strict=True) for t in turned(e, m, context)]
    shown = sum(len(r["entity_ids"]) for e in batch for r in e["references"])
    for episode in found:
        for key, value in plain([episode]).items():
            share = len(episode["masks"]) / shown / 2
            key = f"{key}_reversed"
            expected[key] = expected.get(key, 0) + share * value
    assert set(losses) == set(expected) and len(losses) == 6
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, atol=1e-5, rtol=1e-4)
    sum(expected.values()).backward()
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-3, msg=name)


def reversed_of(model, episodes, logits=None):
    """``Reversed`` of a batch, all drawn."""
    found = []
    reverse = model.criterion.reversion.reverse

    def record(episodes, drawn, own, *rest):
        found.extend(reverse(episodes, drawn, own if logits is None else logits, *rest))
        return found

    model.criterion.reversion.reverse = record
    losses = model(episodes)
    del model.criterion.reversion.reverse
    return found, losses


def context_of(model, one, features):
    """The context that a ``Reversed`` is segmented with; features of the images of the step."""
    names = {e["id"]: e["name"] for e in one.episode["entities"]}
    maps = features.map[one.sources]
    return model.contexts.from_masks(maps, one.shots, names, one.episode["task"])


def blobs(episode, empty=()):
    """Logits (N, 32, 32) that find something of every entity but the empty ones."""
    logits = torch.full((len(episode["entities"]), 32, 32), -5.0)
    logits[:, 4:12, 4:12] = 5.0
    logits[list(empty)] = -5.0
    return logits


def test_contexts_of_several_shots():
    """ "only": one shot each. "join": the other references too, never the one being segmented."""
    episode = rich_episode(0)
    for context, shots in (
        ("only", [[(0, [0, 1])], [(0, [1])], [(0, [2, 1, 0])]]),
        (
            "join",
            [
                [(0, [0, 1]), (2, [1]), (3, [1, 0])],
                [(0, [1]), (1, [1]), (3, [1])],
                [(0, [2, 1, 0]), (1, [0, 1]), (2, [1])],
            ],
        ),
    ):
        model = build(*ON, "MODEL.SEGIC.REVERSION.CONTEXT", context)
        found, _ = reversed_of(model, [episode], [blobs(episode)])
        assert [t.image for t in found] == [1, 2, 3]  # the target is image 0 of the step
        got = [
            [(row, shot.ids) for row, shot in zip(t.sources, t.shots, strict=True)] for t in found
        ]
        assert got == shots
        for t, reference in zip(found, episode["references"], strict=True):
            assert torch.equal(t.episode["masks"], reference["masks"] >= 0.5)
    # as many shots as in the forward direction: entity 0 has 2, entity 1 has 3, entity 2 has 1
    features = model.encode_images([episode["image"], *(r["image"] for r in episode["references"])])
    context = context_of(model, found[2], features)
    assert context.ids == [2, 1, 0] and context.shots.sum(1).tolist() == [1, 3, 2]


def test_entities_without_prediction_or_truth_are_skipped():
    episode = rich_episode(0)
    model = build(*ON)
    found, some = reversed_of(model, [episode], [blobs(episode, empty=[1])])
    assert [[e["id"] for e in t.episode["entities"]] for t in found] == [[0], [2, 0]]
    absent = {**episode, "masks": episode["masks"].clone()}
    absent["masks"][0] = False
    found, _ = reversed_of(model, [absent], [blobs(episode, empty=[1])])
    assert [[e["id"] for e in t.episode["entities"]] for t in found] == [[2]]
    found, none = reversed_of(model, [episode], [blobs(episode, empty=[0, 1, 2])])
    assert found == [] and none.keys() == some.keys()
    assert none["loss_mask_reversed"] == 0 == none["loss_dice_reversed"]
    sum(none.values()).backward()


def test_released_reversion_keeps_the_empty_with_zero_prototypes():
    episode = rich_episode(0)
    model = build(*ON, "MODEL.SEGIC.RELEASED", True)
    logits = [blobs(episode, empty=[0, 1, 2])]
    found, losses = reversed_of(model, [episode], logits)
    assert [len(t.episode["entities"]) for t in found] == [2, 1, 3]
    assert losses["loss_mask_reversed"] > 0 and all(x.isfinite() for x in losses.values())
    context = context_of(model, found[0], model.encode_images([episode["image"]]))
    assert not context.tensors["prototypes"].any() and context.shots.all()


def test_predictions_in_the_padding_count_only_as_released():
    episode = tiny_episode(0, 1, size=(56, 112), training=True)
    logits = torch.full((1, 32, 32), -5.0)
    logits[:, 20:] = 5.0  # below the image's 56 px
    for padding, count in ((False, 0), (True, 1)):
        model = build(*ON)
        model.criterion.reversion.in_padding = padding
        assert len(reversed_of(model, [episode], [logits])[0]) == count


def test_ignored_pixels_and_repeated_entities_of_a_reference():
    episode = tiny_episode(0, 1, training=True)
    (reference,) = episode["references"]
    parts = torch.zeros(2, 98, 70)
    parts[0, :20], parts[1, 50:60] = 1, 1
    ignore = torch.zeros(98, 70, dtype=torch.bool)
    ignore[30:40] = True
    reference |= {"masks": parts, "entity_ids": torch.tensor([0, 0]), "ignore": ignore}
    model = build(*ON)
    (one,), losses = reversed_of(model, [episode], [blobs(episode)])
    assert torch.equal(one.episode["masks"], parts.amax(0, keepdim=True) > 0)
    assert one.episode["ignore"] is ignore
    reference["ignore"] = None
    assert model([episode])["loss_mask_reversed"] != losses["loss_mask_reversed"]


def test_the_backbone_sees_every_image_once(batch, monkeypatch):
    model = build(*ON, "MODEL.SEGIC.REVERSION.CONTEXT", "join")
    seen = []
    forward = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x: seen.append(len(x)) or forward(x))
    decoded = []
    model.sem_seg_head.register_forward_pre_hook(lambda head, args: decoded.append(len(args[2])))
    losses = model(batch)
    sum(losses.values()).backward()
    assert sum(seen) == sum(1 + len(e["references"]) for e in batch)
    assert len(decoded) == 2 and decoded[0] == sum(len(e["entities"]) for e in batch)


def test_an_episode_is_reversed_by_its_own_seed():
    episodes = [tiny_episode(i, 1, training=True) for i in range(200)]
    drawn = Reversion(prob=0.3).drawn(episodes)
    assert 40 < sum(drawn) < 80
    assert drawn[50:60] == Reversion(prob=0.3).drawn(episodes[50:60])
    assert all(Reversion(prob=1.0).drawn(episodes)) and not any(Reversion(prob=0).drawn(episodes))
    more = Reversion(prob=0.6).drawn(episodes)
    assert all(b for a, b in zip(drawn, more, strict=True) if a)


def test_the_weight_of_an_episode_does_not_depend_on_the_others():
    """Half the episodes reversed: the loss is the sum of what each contributes alone."""
    episodes = [tiny_episode(i, 1 + i % 2, 1 + i % 3, training=True) for i in range(6)]
    model = build("MODEL.SEGIC.REVERSION.PROB", 0.5)
    drawn = model.criterion.reversion.drawn(episodes)
    assert 0 < sum(drawn) < 6
    whole = model(episodes)
    masks = [len(e["entities"]) for e in episodes]
    shown = [len(e["references"]) for e in episodes]
    alone = [model([e]) for e in episodes]
    for key, counts in (("loss_mask", masks), ("loss_mask_reversed", shown)):
        expected = sum(a[key] * n for a, n in zip(alone, counts, strict=True)) / sum(counts)
        torch.testing.assert_close(whole[key], expected, atol=1e-5, rtol=1e-4)
    for one, chosen in zip(alone, drawn, strict=True):
        assert chosen or one["loss_mask_reversed"] == 0


def test_the_reversed_text_has_its_own_draw(tmp_path):
    texts = ["", "a photo of a class0", "please segment the instances"]
    table = tmp_path / "t.safetensors"
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    save_text_table(table, texts, vectors)
    text = ("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.DIM", 16)
    model = build(*ON, *text, "MODEL.SEGIC.TEXT.TABLE", str(table))
    seen = []
    model.sem_seg_head.register_forward_pre_hook(lambda head, args: seen.append(args[2].meta[0]))
    episode = tiny_episode(0, 1, training=True)
    rows = {None: 0, "class0": 1}
    for names in (("class0", None), (None, "class0"), ("class0",)):
        (entity,) = episode["entities"]
        entity = {"id": 0, "name": names[0]} | dict(zip(["reversed_name"], names[1:], strict=False))
        seen.clear()
        reversed_of(model, [{**episode, "entities": [entity]}], [blobs(episode)])
        assert torch.equal(seen[0], vectors[rows[names[0]]])
        assert torch.equal(seen[1], vectors[rows[names[-1]]])
    seen.clear()
    reversed_of(model, [{**episode, "task": "instance"}], [blobs(episode)])
    assert torch.equal(seen[0], vectors[2]) and torch.equal(seen[1], vectors[2])


def test_derived_seeds_are_distinct_and_valid():
    seeds = {derived_seed(s, n) for s in (0, 1, 2, 2**63 - 1) for n in range(50)}
    assert len(seeds) == 200 and all(0 <= s < 2**63 for s in seeds)
    assert len({s % 2**32 for s in seeds}) == 200 and DRAW != IMAGE  # what the generators read


@pytest.mark.parametrize("key, value", [("CONTEXT", "all"), ("PROB", 1.5), ("PROB", -0.1)])
def test_keys_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.SEGIC.REVERSION.{key} is {value!r}"):
        build(f"MODEL.SEGIC.REVERSION.{key}", value)
