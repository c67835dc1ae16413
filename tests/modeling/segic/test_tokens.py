"""The decoder's tokens: points, boxes, texts and prototypes."""

import pytest
import torch

from segic_d2.io.prompts import to_marked
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.released import RELEASED
from segic_d2.modeling.segic.tokens import (
    OWN,
    canvas_boxes,
    crossed_points,
    crossed_tokens,
    own_tokens,
    point_tokens,
)
from segic_d2.modeling.segic.training import box_prompts
from segic_d2.structures.features import Features
from segic_d2.structures.frame import Frame
from segic_d2.structures.prompts import BoxPrompt
from tests.modeling.segic.parts import head, random_contexts


def context_tokens(model, queries, crossing, rows=None):
    """Text and visual tokens of some entities, or of all."""
    rows = torch.arange(len(queries)) if rows is None else rows
    return model.context_tokens(queries, crossing, rows, model.project(queries))


@pytest.mark.parametrize("crossing", [[True] * 3, [False] * 3, [True, False, True]])
def test_tokens_of_some_entities_are_theirs_among_all(crossing):
    model, crossing = head(), torch.tensor(crossing)
    q = Queries.from_contexts(random_contexts(3, 1, 2, shots=2))
    tokens, exists = context_tokens(model, q, crossing)
    for rows in torch.arange(6).split(4):
        part = context_tokens(model, q, crossing, rows)
        assert torch.equal(part[0], tokens[rows]) and torch.equal(part[1], exists[rows])


@pytest.mark.parametrize("flag", [True, False])
def test_one_flag_for_all_images_is_that_flag_of_each(flag):
    model, q = head(), Queries.from_contexts(random_contexts(3, 1, 2, shots=2))
    one, each = (context_tokens(model, q, x) for x in (flag, torch.full((3,), flag)))
    assert torch.equal(one[0], each[0]) and torch.equal(one[1], each[1])


def test_a_visual_token_carries_its_type():
    model, (context,) = head(), random_contexts(3)
    q = Queries.from_contexts([context])
    crossed, exists = context_tokens(model, q, torch.tensor([True]))
    own = model.inst_proj(q.prototypes[:, 0])
    for m in range(3):
        for other in range(3):
            kind = model.inst_type_embed.weight[int(m == other)]
            torch.testing.assert_close(crossed[m, 1 + other], own[other] + kind)
    assert exists.all()
    alone, _ = context_tokens(model, q, torch.tensor([False]))
    torch.testing.assert_close(alone[:, 1], own + model.inst_type_embed.weight[OWN])
    released = head(rules=RELEASED)
    alone, _ = context_tokens(released, q, torch.tensor([False]))
    torch.testing.assert_close(alone[:, 1], released.inst_proj(q.prototypes[:, 0]))


def test_released_type_rule_holds_in_a_batch_where_only_one_image_crosses():
    model = head(rules=RELEASED)
    q = Queries.from_contexts(random_contexts(2, 2))
    tokens, exists = context_tokens(model, q, torch.tensor([True, False]))
    own = model.inst_proj(q.prototypes[:, 0])
    torch.testing.assert_close(tokens[2, 1], own[2])
    torch.testing.assert_close(tokens[0, 1], own[0] + model.inst_type_embed.weight[OWN])
    assert exists[:, 1:].tolist() == [[True, True], [True, True], [True, False], [False, True]]


@pytest.mark.parametrize("untyped", [True, False])
@pytest.mark.parametrize("crossing", [[True, True], [True, False], [False, False]])
def test_visual_tokens_against_a_loop(untyped, crossing):
    """Of three and two entities of up to two shots; which tokens there are, and what they say."""
    q = Queries.from_contexts(random_contexts(3, 2, shots=2, seed=3))
    g = torch.Generator().manual_seed(0)
    own, types = torch.randn(5, 2, 32, generator=g), torch.randn(2, 32, generator=g)
    rows, images = torch.tensor([0, 2, 4]), ([0, 1, 2], [3, 4])
    tokens, exists = crossed_tokens(own, q, torch.tensor(crossing), rows, types, untyped)
    for m, row in enumerate(rows.tolist()):
        image = int(row > 2)
        expected = []
        for entity in images[image]:
            if entity != row and not crossing[image]:
                continue
            typed = types[int(entity == row)] * (crossing[image] or not untyped)
            expected += [own[entity, k] + typed for k in range(2) if q.shots[entity, k]]
        torch.testing.assert_close(tokens[m][exists[m]], torch.stack(expected))
    alone, there = own_tokens(own, q, rows, types, untyped)
    assert torch.equal(there, q.shots[rows])
    assert torch.equal(alone, own[rows] if untyped else own[rows] + types[OWN])


def test_points_then_a_box_or_the_padding_point():
    encoder = head().prompt_encoder
    xy = torch.tensor([[[10.0, 20.0], [30.0, 40.0]], [[50.0, 60.0], [0.0, 0.0]]])
    found = torch.tensor([[True, True], [True, False]])
    tokens, exists = point_tokens(encoder, xy, found, None)
    assert tokens.shape == (2, 3, 32) and exists.all()
    assert torch.equal(tokens[:, 2:], encoder.no_point(2))
    nowhere = torch.tensor([[-1]])  # a point that was not found is the padding point
    torch.testing.assert_close(tokens[1:, 1:2], encoder.encode_points(xy[1:, 1:2], nowhere))
    box = torch.tensor([[5.0, 6, 70, 80]])
    boxed, there = point_tokens(encoder, xy, found, torch.cat([box, box * torch.nan]))
    assert boxed.shape == (2, 4, 32) and torch.equal(boxed[:, :2], tokens[:, :2])
    torch.testing.assert_close(boxed[:1, 2:], encoder.encode_boxes(box))
    assert torch.equal(boxed[1:, 2:3], encoder.no_point(1))
    assert there.tolist() == [[True] * 4, [True, True, True, False]]


def test_a_box_at_a_target_is_what_training_says_of_its_mask():
    """Edges from the picture's corner: of a picture that is its own view, the first and the last
    pixels of the mask that the box holds."""
    mask = torch.zeros(1, 112, 112, dtype=torch.bool)
    mask[0, 5:15, 10:22] = True
    (context,) = random_contexts(1)
    features = Features(torch.zeros(1, 4, 8, 8), [Frame(112, (112, 112), (112, 112))], [])
    told = canvas_boxes(features, [context], [{context.ids[0]: BoxPrompt((10, 5, 22, 15))}])
    assert torch.equal(told, box_prompts([mask], torch.tensor([True])))
    marked = to_marked([10, 5, 22, 15], (112, 112))[1]  # a reference's box means the same
    assert torch.equal(torch.from_numpy(marked.open), mask[0])


def test_crossed_points_are_negative_of_the_other_entities_of_the_image():
    model = head()
    encoder, q = model.prompt_encoder, Queries.from_contexts(random_contexts(3, 1))
    g = torch.Generator().manual_seed(0)
    xy, found = torch.rand(4, 2, 2, generator=g) * 100, torch.ones(4, 2, dtype=torch.bool)
    found[1, 1] = False
    rows = torch.tensor([1, 3])
    tokens, exists = crossed_points(encoder, xy, found, q, rows, None)
    assert tokens.shape[:2] == (2, 3 * 2 + 1)  # and the padding point
    kinds = [[0, 0, 1, -1, 0, 0], [1, 1, -1, -1, -1, -1]]
    places = [[0, 0, 1, 1, 2, 2], [3, 3, 3, 3, 3, 3]]
    for row in range(2):
        points = xy[places[row], [0, 1] * 3]
        expected = encoder.encode_points(points[None], torch.tensor([kinds[row]]))[0]
        shown = torch.tensor(kinds[row]) >= 0
        assert torch.equal(exists[row, :6], shown) and exists[row, 6]
        torch.testing.assert_close(tokens[row, :6][shown], expected[shown])
