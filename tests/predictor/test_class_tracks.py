import json

import torch

from segic_d2.predictor.class_tracks import ClassTracks

RED, BLUE = torch.tensor([1.0, 0.1, 0.0]), torch.tensor([0.0, 0.1, 1.0])


def box(x, y=0.4, side=0.1):
    return x, y, x + side, y + side


def test_ids_follow_boxes_whatever_the_order():
    tracks = ClassTracks(lost=2)
    assert tracks.assign([box(0.1), box(0.5)], torch.stack([RED, RED]), [7, 7]) == [1, 2]
    assert tracks.assign([box(0.52), box(0.12)], torch.stack([RED, RED]), [7, 7]) == [2, 1]
    both = torch.stack([RED, RED, RED])
    assert tracks.assign([box(0.8), box(0.13), box(0.55)], both, [7, 7, 7]) == [3, 1, 2]


def test_another_class_is_another_object():
    tracks = ClassTracks(lost=2)
    assert tracks.assign([box(0.1)], RED[None], [7]) == [1]
    assert tracks.assign([box(0.1)], RED[None], [8]) == [2]


def test_two_that_meet_are_told_apart_by_their_looks():
    tracks = ClassTracks(lost=2)
    tracks.assign([box(0.40), box(0.46)], torch.stack([RED, BLUE]), [7, 7])
    found = tracks.assign([box(0.43), box(0.43)], torch.stack([BLUE, RED]), [7, 7])
    assert found == [2, 1]


def test_who_was_hidden_is_known_near_and_by_looks_and_forgotten_in_time():
    tracks = ClassTracks(lost=3)
    tracks.assign([box(0.1)], RED[None], [7])
    nobody = torch.zeros(0, 3)
    assert tracks.assign([], nobody, []) == []
    assert tracks.assign([box(0.25)], BLUE[None], [7]) == [2]  # looks other
    assert tracks.assign([box(0.3)], RED[None], [7]) == [1]
    for _ in range(4):
        tracks.assign([], nobody, [])
    assert not tracks.tracks
    assert tracks.assign([box(0.3)], RED[None], [7]) == [3]


def test_far_away_it_is_another_one_but_not_after_a_cut():
    tracks = ClassTracks(lost=3)
    tracks.assign([box(0.1)], RED[None], [7])
    assert tracks.assign([box(0.8)], RED[None], [7]) == [2]
    cut = ClassTracks(lost=3)
    cut.assign([box(0.1), box(0.8)], torch.stack([RED, BLUE]), [7, 7])
    assert cut.assign([box(0.1), box(0.8)], torch.stack([BLUE, RED]), [7, 7], cut=True) == [2, 1]


def test_they_go_on_from_a_file():
    tracks = ClassTracks(lost=3)
    tracks.assign([box(0.1), box(0.5)], torch.stack([RED, BLUE]), [7, 8])
    tensors, about = tracks.packed()
    back = ClassTracks.unpacked(tensors, json.loads(json.dumps(about)), torch.device("cpu"))
    for one in (tracks, back):
        found = one.assign(
            [box(0.5), box(0.12), box(0.9)], torch.stack([BLUE, RED, RED]), [8, 7, 7]
        )
        assert found == [2, 1, 3]
