"""The schedule in samples becomes the same schedule in iterations for every batch size."""

import numpy as np
import pytest
import torch
from detectron2.solver import build_lr_scheduler

from segic_d2.config.load import get_config_file, load_config
from segic_d2.engine.schedule import settle_schedule

PAPER, OFFICIAL = "segic_dinov2_L.yaml", "official/segic_dinov2_L.yaml"
KEYS = ("MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD")
SHORT = {"MAX_SAMPLES": 480, "STEPS_SAMPLES": "(160,320)", "WARMUP_SAMPLES": 96}


def settled(file="Base-SegIC.yaml", world_size=1, **solver):
    opts = [x for key, value in solver.items() for x in (f"SOLVER.{key}", value)]
    return settle_schedule(load_config(file, opts), world_size)


def iterations(cfg):
    return tuple(cfg.SOLVER[key] for key in KEYS)


def rates(cfg):
    """The learning rate of each iteration, by Detectron2's own scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


@pytest.mark.parametrize(
    "file, batch, expected",
    [
        (PAPER, 32, (60_000, (50_000,), 0, 5_000)),
        (PAPER, 8, (240_000, (200_000,), 0, 20_000)),
        (PAPER, 64, (30_000, (25_000,), 0, 2_500)),
        (OFFICIAL, 32, (30_000, (25_000,), 0, 2_500)),
        ("segic_shapes_S.yaml", 8, (640, (200_000,), 60, 1_000)),
    ],
)
def test_shipped_schedules(file, batch, expected):
    assert iterations(settled(file, IMS_PER_BATCH=batch)) == expected


def test_without_samples_detectron2s_keys_stand():
    own = ["SOLVER.MAX_ITER", 77, "SOLVER.STEPS", (50,), "SOLVER.WARMUP_ITERS", 19]
    cfg = load_config(opts=own)
    assert settle_schedule(cfg, 4) == cfg
    assert iterations(settle_schedule(load_config(), 1)) == (40_000, (30_000,), 1_000, 5_000)


def test_a_broken_step_is_a_whole_one_and_settling_twice_changes_nothing():
    cfg = settled(IMS_PER_BATCH=7, MAX_SAMPLES=100, STEPS_SAMPLES="(70,71)", CHECKPOINT_SAMPLES=1)
    assert iterations(cfg) == (15, (10, 11), 0, 1)
    assert settle_schedule(cfg, 1) == cfg


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
def test_the_rate_depends_on_the_samples_seen_not_on_the_batch(name):
    def by_samples(batch):
        return rates(settled(LR_SCHEDULER_NAME=name, IMS_PER_BATCH=batch, **SHORT))

    fine = by_samples(1)
    assert len(fine) == 480 and fine[0] < 1e-6 and fine[95] < fine.max() == fine[96]
    if name == "WarmupMultiStepLR":
        np.testing.assert_allclose(fine[[159, 160, 319, 320]], [1e-4, 1e-5, 1e-5, 1e-6])
    else:
        np.testing.assert_allclose(fine[240], 1e-4 / 2)
    for batch in (8, 16, 32):
        np.testing.assert_allclose(by_samples(batch), fine[::batch], rtol=1e-6)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 16])
def test_reference_world_size_scales_batch_and_rate_but_not_the_samples(world_size):
    """Detectron2 scales its iterations; the samples are divided by the scaled batch, once."""
    cfg = settled(PAPER, world_size, REFERENCE_WORLD_SIZE=8)
    batch = 4 * world_size
    assert cfg.SOLVER.IMS_PER_BATCH == batch
    assert cfg.SOLVER.BASE_LR == pytest.approx(1e-4 * world_size / 8)
    assert iterations(cfg) == (
        1_920_000 // batch,
        (-(-1_600_000 // batch),),
        0,
        -(-160_000 // batch),
    )
    assert settle_schedule(cfg, world_size) == cfg


def test_reference_world_size_without_samples_is_detectron2s():
    keys = {"MAX_ITER": 6_000, "STEPS": "(5000,)", "CHECKPOINT_PERIOD": 500}
    cfg = settled(PAPER, 16, REFERENCE_WORLD_SIZE=8, **keys)
    assert iterations(cfg) == (3_000, (2_500,), 0, 250)


def test_the_command_line_may_count_either_way():
    assert iterations(settled(MAX_ITER=10))[0] == 10
    assert iterations(settled(STEPS="(7,)", MAX_ITER=10))[:2] == (10, (7,))
    assert iterations(settled(STEPS="()"))[1] == ()
    cfg = load_config("Base-SegIC.yaml", ["SOLVER.MAX_ITER", 10])
    cfg.SOLVER.MAX_SAMPLES = 0
    assert iterations(settle_schedule(cfg, 1))[0] == 10


def test_a_config_file_may_count_either_way_but_not_both(tmp_path):
    file = tmp_path / "own.yaml"
    base = get_config_file("Base-SegIC.yaml")
    file.write_text(f"_BASE_: {base}\nSOLVER:\n  MAX_ITER: 500\n")
    with pytest.raises(ValueError, match="MAX_SAMPLES is 1920000 and SOLVER.MAX_ITER is 500"):
        settled(str(file))
    assert iterations(settled(str(file), MAX_SAMPLES=64))[0] == 2
    file.write_text(f"_BASE_: {base}\nSOLVER:\n  MAX_ITER: 500\n  MAX_SAMPLES: 0\n")
    assert iterations(settled(str(file)))[0] == 500


@pytest.mark.parametrize(
    "solver, message",
    [
        ({"MAX_SAMPLES": -1}, "SOLVER.MAX_SAMPLES is -1; it must be at least 0"),
        ({"STEPS_SAMPLES": "(20,10)"}, "SOLVER.STEPS_SAMPLES is .20, 10.; .* ascending"),
        ({"STEPS_SAMPLES": "(0,)"}, "SOLVER.STEPS_SAMPLES is .0,.; .* above 0"),
        ({"STEPS_SAMPLES": "(0.5,)"}, "SOLVER.STEPS_SAMPLES is .0.5,."),
        ({"STEPS_SAMPLES": "(33,34)"}, "fall into the same iteration .* 32 samples: .2, 2."),
        ({"MAX_SAMPLES": 64, "MAX_ITER": 3}, "MAX_SAMPLES is 64 and SOLVER.MAX_ITER is 3"),
    ],
)
def test_what_makes_no_schedule_is_named(solver, message):
    with pytest.raises(ValueError, match=message):
        settled(**solver)


def test_a_short_run_warms_up_in_a_quarter_of_it(caplog):
    """40 steps with a warm-up of 60 had a rate of 5e-7 at most."""
    with caplog.at_level("INFO", "segic_d2"):
        cfg = settled("segic_shapes_S.yaml", MAX_SAMPLES=320)
    assert iterations(cfg) == (40, (200_000,), 10, 1_000)
    assert "SOLVER.WARMUP_ITERS 60 is 10, a quarter of MAX_ITER 40" in caplog.text
    found = rates(cfg)
    assert found.argmax() == 10 and found.max() > 0.8 * cfg.SOLVER.BASE_LR
    assert settle_schedule(cfg) == cfg
    given = load_config("segic_shapes_S.yaml", ["SOLVER.MAX_ITER", 40])
    assert rates(settle_schedule(given)) == pytest.approx(found)
