"""All of the work on a pretended GPU: the same numbers, no mixture and no needless waiting."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch.optim import SGD

from segic_d2.engine import evaluate
from segic_d2.engine.precision import build_trainer
from segic_d2.modeling.segic import training
from segic_d2.predictor import InContextPredictor
from tests.devices import KIND, MixedDevices, PretendedDevice
from tests.modeling.test_fake_device import Careless
from tests.tiny import tiny_config, tiny_episode

KEY = "MODEL.SEGIC."
STRATEGIES = (
    *(f"{KEY}REVERSION.PROB", 1.0, f"{KEY}REVERSION.CONTEXT", "join", f"{KEY}MIXSTYLE", 0.1),
    *(f"{KEY}CROSS_ENTITY.TRAIN_PROB", 0.5, f"{KEY}BOX_PROMPT_PROB", 0.5, f"{KEY}POINTS.NUM", 2),
    *(f"{KEY}LOSS.QUALITY_WEIGHT", 1.0, f"{KEY}DECODER.CHECKPOINT", True),
    *(f"{KEY}BACKGROUND", True, f"{KEY}SIMILARITY.GROUPS", 2, f"{KEY}SIMILARITY.RELATIVE", True),
    *(f"{KEY}SIMILARITY.CENTER", "fixed", "VIS_PERIOD", 2),
)
RELEASED = (
    *(f"{KEY}RELEASED", True, f"{KEY}BINARIZE_MASKS", True, f"{KEY}MIXSTYLE", 0.1),
    *(f"{KEY}REVERSION.PROB", 1.0, f"{KEY}BOX_PROMPT_PROB", 0.5),
)
REFINED = (f"{KEY}TEST.REFINE.RADIUS", 2, f"{KEY}TEST.REFINE.WALK", 0.5)


def batches():
    """Semantic and instance episodes of up to three entities and two shots."""
    tasks = ("semantic", "instance", "semantic")
    while True:
        yield [tiny_episode(i, i + 1, 2, training=True, task=task) for i, task in enumerate(tasks)]


def two_steps(device, *opts):
    """Losses of the second step, and the trained parameters after it."""
    torch.manual_seed(0)
    cfg = tiny_config(*opts, "MODEL.DEVICE", device)
    model = build_model(cfg).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    trainer = build_trainer(cfg, model, batches(), SGD(weights, lr=0.1))
    with EventStorage() as storage:
        for _ in range(2):
            trainer.run_step()
            storage.step()
        losses = {k: v for k, (v, _) in storage.latest().items() if "loss" in k}
    return losses, [p.detach() for p in weights]


@pytest.mark.parametrize(
    "opts", [STRATEGIES, RELEASED, ()], ids=["strategies", "released", "plain"]
)
def test_training_steps_are_the_same_to_the_bit(opts):
    expected, weights = two_steps("cpu", *opts)
    with PretendedDevice() as device:
        found, moved = two_steps(KIND, *opts)
        assert all(map(device.holds, moved))
    assert found == expected and len(expected) >= 3
    assert all(torch.equal(a, b) for a, b in zip(weights, moved, strict=True))


@pytest.mark.parametrize("dtype, most", [("bf16", 0.02), ("fp16", 0.005)])
def test_mixed_precision_trains_alike(dtype, most):
    """Detectron2's own step, with a GradScaler in fp16, which the CPU alone cannot run."""
    expected, _ = two_steps("cpu", *STRATEGIES)
    half = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", dtype)
    with PretendedDevice():
        found, _ = two_steps(KIND, *STRATEGIES, *half)
    assert found != expected
    assert found == pytest.approx(expected, rel=most)


def picture(seed, size=(60, 90)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def shown():
    masks = np.zeros((2, 60, 90), dtype=bool)
    masks[0, 10:30, 20:50] = masks[1, 30:50, 40:80] = True
    return [
        (picture(i), mask, name) for i, (mask, name) in enumerate(zip(masks, "ab", strict=True))
    ]


def predictor(device, *opts, **options):
    torch.manual_seed(0)
    found = InContextPredictor(tiny_config(*opts), device=device, **options)
    found.set_references(shown())
    return found


@pytest.mark.parametrize("opts", [(), REFINED, RELEASED], ids=["plain", "refined", "released"])
def test_the_predictor_finds_the_same(opts, tmp_path):
    expected = list(predictor("cpu", *opts).predict([picture(7), picture(8)], True))
    with PretendedDevice():
        there = predictor(KIND, *opts)
        there.save_context(tmp_path / "c.safetensors")
        there.load_context(tmp_path / "c.safetensors")
        found = list(there.predict([picture(7), picture(8)], True))
        for a, b in zip(expected, found, strict=True):
            # attention with and without a mask differ by rounding, see shared_decoding.py
            np.testing.assert_allclose(b.scores, a.scores, atol=1e-5)
            assert (a.masks != b.masks).mean() < 1e-3
            np.testing.assert_array_equal(a.propagated, b.propagated)
            assert (a.label_map(0) != b.label_map(0)).mean() < 1e-3


def test_instances_and_evaluation_are_the_same(tmp_path):
    opts = ("TEST.EPISODES", 4, "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path))

    def run(device):
        torch.manual_seed(0)
        cfg = tiny_config(*opts, "MODEL.DEVICE", device)
        model = build_model(cfg).eval()
        results = evaluate(cfg, model, "shapes_novel_coco")
        episode = tiny_episode(0, 2, task="instance")
        context = model.encode_context(episode["references"], task="instance")
        instances = model.find_instances([episode], context)[0]["instances"]
        outputs = model([episode])[0]
        return results, instances.scores.tolist(), outputs["scores"].tolist()

    expected = run("cpu")
    with PretendedDevice():
        found = run(KIND)
    assert found[0] == expected[0] and len(expected[1]) > 1
    assert found[1] == pytest.approx(expected[1], abs=1e-5)
    assert found[2] == pytest.approx(expected[2], abs=1e-5)


# ---- the mistakes that this is for -------------------------------------------------------------


def test_a_tensor_made_on_the_cpu_in_the_head_is_caught():
    def run(device):
        model = build_model(tiny_config("MODEL.DEVICE", device)).eval()
        model.sem_seg_head.__class__ = Careless
        return model([tiny_episode(0)])

    run("cpu")  # nothing shows on a CPU
    with PretendedDevice(), pytest.raises(MixedDevices, match="aten.add"):
        run(KIND)


class CarelessGradient(torch.autograd.Function):
    """The identity, whose backward pass makes a tensor on the CPU."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.ones(gradient.shape)


def careless_styles(features, styles, seeds, alpha):
    """A share for each picture, on the CPU."""
    return features.lerp(styles, torch.rand(len(seeds))[:, None, None, None])


def careless_gradients(features, styles, seeds, alpha):
    return CarelessGradient.apply(features.clone().requires_grad_())


@pytest.mark.parametrize("careless", [careless_styles, careless_gradients])
def test_a_tensor_made_on_the_cpu_in_the_training_step_is_caught(careless, monkeypatch):
    monkeypatch.setattr(training, "mix_styles", careless)
    two_steps("cpu", *STRATEGIES)  # nothing shows on a CPU
    with PretendedDevice(), pytest.raises(MixedDevices):
        two_steps(KIND, *STRATEGIES)


def test_reading_and_moving_are_as_on_a_gpu():
    with PretendedDevice() as device:
        x = torch.zeros(3, device=KIND)
        assert x.device == torch.device(KIND, 0) and x.is_cuda and (x + 1).new_ones(2).is_cuda
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        with pytest.raises(MixedDevices):
            torch.cat([x, torch.zeros(3)])
        with pytest.raises(MixedDevices):
            torch.zeros(3)[x.long()]
        assert (x + torch.tensor(1.0)).is_cuda and x[torch.tensor([0, 1])].is_cuda
        assert device.waits == []
        home = x.cpu()
        assert not home.is_cuda and torch.equal(home, torch.zeros(3)) and home.to(x).is_cuda
        bool(x.any()), x.tolist(), x[x > 0], x.nonzero()
        x.repeat_interleave(torch.ones(3, dtype=torch.long).to(x.device, non_blocking=True))
        torch.linalg.inv(torch.eye(3, device=KIND))
    assert [what for what, _ in device.waits] == [
        *("copy to the CPU", "copy from the CPU", "_local_scalar_dense", "tolist"),
        *("rows chosen by a mask", "nonzero", "repeat_interleave", "linalg_inv"),
    ]
