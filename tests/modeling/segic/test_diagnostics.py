import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from segic_d2.modeling.segic import diagnostics
from segic_d2.modeling.segic.quality import mask_iou
from segic_d2.modeling.segic.queries import Queries
from segic_d2.structures.frame import Frame
from segic_d2.utils import visualizer
from tests.tiny import tiny_config, tiny_episode


def build(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).train()


def test_a_step_reports_the_mean_iou_of_all_masks():
    model = build()
    episodes = [tiny_episode(i, 1 + i, training=True) for i in range(2)]
    with EventStorage() as storage:
        losses = model(episodes)
        (value, _) = storage.latest()["mask_iou"]
    tasks = {"semantic/mask", "semantic/dice"}
    assert set(storage.latest()) == {"mask_iou"} | tasks and not storage._vis_data
    plain = model(episodes)  # without a storage: the same losses, and no complaint
    assert all(torch.equal(losses[k], plain[k]) for k in losses)
    features = model.encode_images([e["image"] for e in episodes])
    ious = []
    for i, e in enumerate(episodes):
        context = model.encode_context(e["references"])
        queries = Queries.from_contexts([context])
        crossing = torch.rand(2, generator=torch.Generator().manual_seed(e["seed"]))[:1] < 0.5
        with torch.no_grad():
            out = model.sem_seg_head(
                features.map[i : i + 1], features.image_sizes[i : i + 1], queries, crossing=crossing
            )
        truth = features.frames[i].pad(e["masks"])
        ious += mask_iou(out.logits, truth, features.image_sizes[i])
    assert value == pytest.approx(np.mean(ious), abs=1e-3)


def test_the_losses_of_each_task_are_reported():
    """Means over the masks of a task, forward and reversed, whatever weight the episodes have."""
    options = ("MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 2.0, "MODEL.SEGIC.REVERSION.PROB", 1.0)
    model = build(*options)
    batch = [
        tiny_episode(i, 1 + i, training=True, task="instance" if i == 1 else "semantic")
        for i in range(3)
    ]

    def reported(episodes):
        with EventStorage() as storage:
            losses = model(episodes)
            return losses, {k: v for k, (v, _) in storage.latest().items() if "/" in k}

    losses, found = reported(batch)
    names = [f"{kind}{way}" for kind in ("mask", "dice", "quality") for way in ("", "_reversed")]
    tasks = "semantic", "instance"
    assert set(found) == {f"{task}/{name}" for task in tasks for name in names}
    masks = {"semantic": 1 + 3, "instance": 2}
    for name in names:
        whole = sum(found[f"{task}/{name}"] * masks[task] for task in tasks) / 6
        weight = 2.0 if "quality" in name else 1.0
        assert losses[f"loss_{name}"].item() == pytest.approx(weight * whole / 2, rel=1e-5)
    _, alone = reported(batch[1:2])
    for key, value in alone.items():
        assert key.startswith("instance/") and value == pytest.approx(found[key], rel=1e-4)
    assert all(torch.equal(losses[k], v) for k, v in model(batch).items())  # without a storage


def test_pictures_come_at_their_period(monkeypatch):
    model, episodes = build("VIS_PERIOD", 3), [tiny_episode(0, training=True)]
    with EventStorage() as storage:
        for storage.iter in range(5):
            model(episodes)
    assert [(name, step) for name, _, step in storage._vis_data] == [("episode", 0), ("episode", 3)]
    picture = storage._vis_data[0][1]
    assert picture.shape[0] == 3 and picture.dtype == np.uint8 and picture.std() > 10
    monkeypatch.setattr(diagnostics, "draw_episode", None)
    monkeypatch.setattr(diagnostics.comm, "is_main_process", lambda: False)
    with EventStorage() as other:  # nobody would empty its storage
        model(episodes)
    assert not other._vis_data
    monkeypatch.setattr(diagnostics.comm, "is_main_process", lambda: True)
    model = build("VIS_PERIOD", 0)
    monkeypatch.setattr(model.sem_seg_head, "propagate", None)
    with EventStorage() as none:
        model(episodes)
    assert not none._vis_data


def test_a_panel_shows_the_whole_episode(monkeypatch):
    shown = []
    monkeypatch.setattr(visualizer, "panel", shown.extend)
    episode = tiny_episode(0, entities=2, size=(84, 112), training=True)
    episode["references"].reverse()  # the colour is the entity's, not the position's
    logits, maps = torch.full((2, 32, 32), -1.0), torch.zeros(2, 8, 8)
    logits[1, :, 16:] = 1
    maps[0, :, :4] = 1
    diagnostics.draw_episode(episode, maps, logits, Frame(112, (84, 112), (168, 224)))
    titles = ["reference"] * 2 + ["target"]
    titles += [f"propagated mask: class{i}" for i in range(2)] + ["prediction", "truth"]
    assert [title for title, _ in shown] == titles
    pictures = [picture.astype(int) for _, picture in shown]
    target = episode["image"].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pictures[2], target)
    assert pictures[0].shape == (98, 70, 3) and pictures[5].shape == (84, 112, 3)
    changed = np.abs(pictures[5] - target).sum(-1) > 0
    assert changed[:, 64:].mean() > 0.9 and changed[:, :48].mean() == 0  # entity 1 alone, right
    truth = np.abs(pictures[6] - target).sum(-1) > 0
    masks = episode["masks"].any(0).numpy()
    assert truth[masks].mean() > 0.9 and truth[~masks].mean() < 0.1
    red, blue = pictures[3][:, :40], pictures[3][:, 72:]
    assert red[..., 0].mean() > blue[..., 0].mean() + 40

    def tint(picture, image, mask):
        return (picture - image)[mask].mean(0)

    first, second = (
        tint(pictures[row], r["image"].permute(1, 2, 0).numpy(), r["masks"][0].numpy() > 0.5)
        for row, r in enumerate(episode["references"])
    )
    own = [
        tint(pictures[6], target, m.numpy() & ~n.numpy())
        for m, n in (episode["masks"], episode["masks"].flip(0))
    ]
    assert np.abs(own[1] - first).max() < 25 and np.abs(own[0] - second).max() < 25
    assert np.abs(first - second).max() > 40


def test_what_came_as_features_is_grey():
    episode = tiny_episode(0, entities=1, size=(84, 112), training=True)
    for view in (episode, *episode["references"]):
        view["image_size"] = tuple(view.pop("image").shape[1:])
    sheet = diagnostics.draw_episode(
        episode, torch.zeros(1, 8, 8), -torch.ones(1, 32, 32), Frame(112, (84, 112), (168, 224))
    )
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert (sheet == 128).all(-1).mean() > 0.2
