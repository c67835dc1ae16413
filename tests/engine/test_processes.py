"""One process with eight episodes and two with four: the same losses and gradients."""

import pytest
import torch
from detectron2.engine import launch
from detectron2.modeling import build_model
from detectron2.utils import comm

from segic_d2.engine.trainer import create_ddp_model
from tests.tiny import tiny_config, tiny_episode

pytestmark = pytest.mark.slow

# half of the episodes reversed, crossed, boxed; one entity absent
OPTIONS = (
    *("MODEL.SEGIC.REVERSION.PROB", 0.5, "MODEL.SEGIC.REVERSION.CONTEXT", "join"),
    *("MODEL.SEGIC.BOX_PROMPT_PROB", 0.5, "MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 1.0),
)


def build(*options):
    torch.manual_seed(0)
    return build_model(tiny_config(*OPTIONS, *options)).train()


def batch(counts):
    found = [tiny_episode(i, n, 1 + i % 2, training=True) for i, n in enumerate(counts)]
    found[1]["masks"][0] = False
    return found


def step(model, episodes):
    """Losses and gradients, as plain tensors."""
    losses = model(episodes)
    sum(losses.values()).backward()
    losses = {k: v.detach() for k, v in losses.items()}
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients


CASES = {
    "equal": ([2] * 8, range(0, 8, 2), range(1, 8, 2)),
    "unequal": ([1, 3, 2, 3, 1, 5, 1, 4], range(0, 8, 2), range(1, 8, 2)),  # 5 and 15 masks
    "one_sided": ([1] * 8, [3], [0]),  # an episode that is reversed, and one that is not
}


def in_a_process(folder):
    """What each of two processes does in every case; both write what they have."""
    rank, found = comm.get_rank(), {}
    for case, (counts, *parts) in CASES.items():
        model = build("MODEL.SEGIC.DECODER.CHECKPOINT", True)  # under DDP as well
        with torch.no_grad():  # DDP hands the first process's weights and buffers to all
            for tensor in (*model.sem_seg_head.parameters(), *model.sem_seg_head.buffers()):
                tensor.add_(rank)
        episodes = batch(counts)
        losses, gradients = step(create_ddp_model(model), [episodes[i] for i in parts[rank]])
        found[case] = losses, {n.removeprefix("module."): g for n, g in gradients.items()}
    torch.save(found, f"{folder}/{rank}.pth")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """{case: (losses, gradients)} of each of two processes, over gloo."""
    folder = tmp_path_factory.mktemp("processes")
    launch(in_a_process, 2, dist_url="auto", args=(str(folder),))
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", ["equal", "unequal"])
def test_two_processes_equal_one_with_all_episodes(two, case):
    losses, gradients = step(create_ddp_model(build()), batch(CASES[case][0]))
    assert losses["loss_mask_reversed"] > 0 and len(losses) == 6
    for key, value in losses.items():
        mean = (two[0][case][0][key] + two[1][case][0][key]) / 2
        torch.testing.assert_close(mean, value, atol=1e-4, rtol=0)
    for _, other in (two[0][case], two[1][case]):  # DDP has averaged them
        for name, gradient in gradients.items():
            torch.testing.assert_close(other[name], gradient, atol=1e-4, rtol=0, msg=name)
        assert not any(other[name].any() for name in other.keys() - gradients.keys())


def test_a_process_without_reversed_episodes_keeps_in_step(two):
    """The same names of losses in both, and none waited for the other."""
    counts, (reversed_one,), (other,) = CASES["one_sided"]
    drawn = build().criterion.reversion.drawn(batch(counts))
    assert drawn[reversed_one] and not drawn[other]
    first, second = (found["one_sided"][0] for found in two)
    assert first.keys() == second.keys()
    assert first["loss_mask_reversed"] > 0 == second["loss_mask_reversed"]
