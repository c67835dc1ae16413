"""What a run writes beside its losses."""

import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segic_d2.engine.hooks.throughput import Throughput
from tests.engine.short_runs import train


def step(storage, iteration, **scalars):
    storage.iter = iteration
    storage.put_scalars(**scalars)
    hook = Throughput(batch=12)
    hook.trainer = SimpleNamespace(storage=storage, iter=iteration)
    hook.after_step()
    return {k: v for k, (v, when) in storage.latest().items() if when == iteration}


def test_samples_per_second_and_share_of_waiting():
    with EventStorage() as storage:
        assert step(storage, 0, data_time=0.1) == {"data_time": 0.1}  # not timed yet
        found = step(storage, 1, time=0.5, data_time=0.1)
        assert found["samples_per_second"] == 24 and found["data_share"] == pytest.approx(0.2)
        assert step(storage, 2, time=0.5, data_time=0.7)["data_share"] == 1
        assert ("gpu_memory_mb" in found) == torch.cuda.is_available()
        assert "samples_per_second" not in step(storage, 3, data_time=0.1)


def test_a_run_writes_scalars_and_pictures_that_do_not_change_it(tmp_path):
    _, plain = train(tmp_path / "plain", "SOLVER.MAX_ITER", 5)
    _, drawn = train(tmp_path / "drawn", "SOLVER.MAX_ITER", 5, "VIS_PERIOD", 2)
    assert plain == drawn
    for name, steps in (("plain", None), ("drawn", [0, 2, 4])):
        lines = (tmp_path / name / "metrics.json").read_text().splitlines()
        written = {k: v for line in lines for k, v in json.loads(line).items()}
        assert {"loss_mask", "loss_dice", "total_loss", "data_time"} <= set(written)
        assert 0 <= written["mask_iou"] <= 1 and 0 <= written["data_share"] <= 1
        assert written["samples_per_second"] > 0
        events = EventAccumulator(str(tmp_path / name)).Reload()
        assert events.Tags()["images"] == (["episode"] if steps else [])
        if steps:
            assert [e.step for e in events.Images("episode")] == steps
