"""Every strategy at once: what is trained, and whether inference uses anything untrained."""

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling import save_text_table
from segic_d2.modeling.layers.prompt_encoder import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
)
from segic_d2.modeling.segic import mask_head
from segic_d2.modeling.segic.tokens import OWN, crossed_tokens, own_tokens
from tests.tiny import tiny_config, tiny_episode

EVERYTHING = (
    *("MODEL.SEGIC.REVERSION.PROB", 0.7, "MODEL.SEGIC.REVERSION.CONTEXT", "join"),
    *("MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 1.0, "MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB", 0.5),
    *("MODEL.SEGIC.BOX_PROMPT_PROB", 0.5, "MODEL.SEGIC.POINTS.NUM", 2),
    *("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.DIM", 16),
)
OTHER = 0  # row of the type embedding of another entity's token
# what never gets a gradient, by design
UNUSED = {
    # the released layout has four mask tokens, of which one is decoded
    *(f"mask_decoder.output_hypernetworks_mlps.{i}" for i in (1, 2, 3)),
    "prompt_encoder.point_embeddings.0",  # negative points: neither trained nor used
    "prompt_encoder.no_mask_embed",  # stands where MODEL.SEGIC.DENSE is off
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Options of a text table that knows the classes of the episodes."""
    path = tmp_path_factory.mktemp("text") / "t.safetensors"
    texts = ["", *(f"a photo of a class{i}" for i in range(4)), "please segment the instances"]
    save_text_table(path, texts, torch.randn(6, 16, generator=torch.Generator().manual_seed(0)))
    return "MODEL.SEGIC.TEXT.TABLE", str(path)


def build(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts))


def episodes(step):
    """Four episodes, also with absent and nameless entities and instances."""
    found = []
    for i in range(4):
        task = "instance" if i == 3 else "semantic"
        episode = tiny_episode(10 * step + i, 1 + i % 3, 1 + i % 2, training=True, task=task)
        episode["entities"][0]["reversed_name"] = None
        found.append(episode)
    found[2]["masks"][0] = False
    return found


def exempt(name):
    """Whether a tensor is an exception: unused, or the bias of keys.

    A key bias adds the same to all scores of a query, which the softmax does not see.
    """
    name = name.removeprefix("sem_seg_head.")
    return name.endswith("k_proj.bias") or any(name.startswith(f"{x}.") for x in UNUSED)


def test_every_trainable_tensor_is_trained(text):
    model = build(*EVERYTHING, *text).train()
    largest = dict.fromkeys((n for n, p in model.named_parameters() if p.requires_grad), 0.0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    for step in range(4):
        optimizer.zero_grad()
        sum(model(episodes(step)).values()).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all()
                largest[name] = max(largest[name], parameter.grad.abs().max().item())
        optimizer.step()
    still = {name for name, gradient in largest.items() if gradient < 1e-6}
    assert still == {name for name in largest if exempt(name)}
    assert all(n.startswith("sem_seg_head.") for n in largest) and len(largest) > 90


def test_every_strategy_is_seen_in_these_steps(text):
    """The test above would prove little if no episode were reversed, crossed or boxed."""
    model = build(*EVERYTHING, *text).train()
    flags, boxes = [], []

    def watch(head, args, kwargs):
        flags.append(kwargs["crossing"])
        boxes.append(kwargs["boxes"])

    model.sem_seg_head.register_forward_pre_hook(watch, with_kwargs=True)
    losses = [model(episodes(step)) for step in range(4)]
    crossing = torch.cat(flags)
    assert crossing.any() and not crossing.all()
    given = torch.cat([~b.isnan().any(1) for b in boxes if b is not None])
    assert given.any() and not given.all()
    assert all(x["loss_mask_reversed"] > 0 for x in losses)
    assert set(losses[0]) == {
        f"loss_{kind}{way}" for kind in ("mask", "dice", "quality") for way in ("", "_reversed")
    }


class Used:
    """Which rows of the point and type embeddings a model reads, as long as it is the last."""

    def __init__(self, model, monkeypatch):
        self.labels, self.types = set(), set()
        encoder = model.sem_seg_head.prompt_encoder
        encode, crossed, own = (
            type(encoder).encode_points,
            crossed_tokens,
            own_tokens,
        )

        def points(xy, labels):
            self.labels |= set(labels.flatten().tolist())
            return encode(encoder, xy, labels)

        def crossing(tokens, queries, flags, *rest):
            many = max(queries.counts) > 1 and flags.any()
            self.types |= {OWN, OTHER} if many else {OWN}
            return crossed(tokens, queries, flags, *rest)

        def alone(*args):
            self.types.add(OWN)
            return own(*args)

        monkeypatch.setattr(encoder, "encode_points", points)
        monkeypatch.setattr(mask_head, "crossed_tokens", crossing)
        monkeypatch.setattr(mask_head, "own_tokens", alone)


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_inference_uses_no_embedding_that_training_does_not(text, probability, monkeypatch):
    """Points of other entities are never prompts, and others' tokens only where trained with."""
    options = (*EVERYTHING, *text, "MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB", probability)
    model = build(*options)
    trained = Used(model.train(), monkeypatch)
    for step in range(4):
        model(episodes(step))
    tested = Used(model.eval(), monkeypatch)
    model([tiny_episode(i, 3) for i in range(3)])
    assert tested.labels <= trained.labels and tested.types <= trained.types
    assert OWN in tested.types and (OTHER in tested.types) == (probability > 0)
    assert NEGATIVE not in trained.labels and POSITIVE in tested.labels
    assert {BOX_TOP_LEFT, BOX_BOTTOM_RIGHT} <= trained.labels
    assert not {BOX_TOP_LEFT, BOX_BOTTOM_RIGHT} & tested.labels
    assert tested.labels <= {POSITIVE, NOT_A_POINT}


def test_a_crossed_image_is_decoded_alike_in_training_and_inference(text):
    """With crossing certain and no boxes, the decoder of both modes sees the same tokens."""
    certain = ("MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB", 1.0, "MODEL.SEGIC.BOX_PROMPT_PROB", 0.0)
    model = build(*EVERYTHING, *text, *certain, "MODEL.SEGIC.REVERSION.PROB", 0.0)
    seen = []
    tokens, points = model.sem_seg_head.context_tokens, model.sem_seg_head.point_tokens

    def kept(function):
        def call(*args):
            seen.append(function(*args))
            return seen[-1]

        return call

    model.sem_seg_head.context_tokens = kept(tokens)
    model.sem_seg_head.point_tokens = kept(points)
    batch = [tiny_episode(i, 2 + i, training=True) for i in range(2)]
    model.train()(batch)
    training, seen[:] = list(seen), []
    model.sem_seg_head.point_tokens = points  # inference may take the entities in chunks
    model.eval()(batch)
    torch.testing.assert_close(seen[0][0], training[0][0])
    assert torch.equal(seen[0][1], training[0][1])
    assert len(training) == 2 and len(seen) == 1


def test_every_map_of_groups_and_background_is_trained_also_reversed():
    opts = ("MODEL.SEGIC.BACKGROUND", True, "MODEL.SEGIC.SIMILARITY.GROUPS", 3)
    model = build(*opts, "MODEL.SEGIC.REVERSION.PROB", 1.0).train()
    sum(model([tiny_episode(0, shots=2, training=True)]).values()).backward()
    gradient = model.sem_seg_head.prompt_encoder.mask_downscaling[0].weight.grad
    assert (gradient.abs().sum((0, 2, 3)) > 0).all()


def test_the_quality_token_learns_what_is_absent():
    """Overfitted on four targets of one entity, two of which lack it."""
    model = build("MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 1.0, "MODEL.SEGIC.TEST.SCORE", "quality")
    batch = [tiny_episode(i, 1, training=True) for i in range(4)]
    for episode in batch[2:]:
        episode["masks"][:] = False
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.train()(batch).values()).backward()
        optimizer.step()
    scores = torch.cat([out["scores"] for out in model.eval()(batch)])
    assert scores[:2].min() > 0.5 and scores[2:].max() < 0.1
