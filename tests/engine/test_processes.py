"""One process with eight episodes and two with four: the same losses and gradients."""

import pytest
import torch
from detectron2.engine import launch
from detectron2.modeling import build_model
from detectron2.utils import comm

from segic_d2.engine.trainer import create_ddp_model
from tests.tiny import tiny_config, tiny_episode

# half of the episodes reversed, crossed, boxed; one entity absent
OPTIONS = (
    *("MODEL.SEGIC.REVERSION.PROB", 0.5, "MODEL.SEGIC.REVERSION.CONTEXT", "join"),
    *("MODEL.SEGIC.BOX_PROMPT_PROB", 0.5, "MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 1.0),
)


def build():
    torch.manual_seed(0)
    return build_model(tiny_config(*OPTIONS)).train()


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


def of_one_process(folder, counts):
    """What each of two processes does; both write what they have."""
    model = build()
    rank = comm.get_rank()
    with torch.no_grad():  # DDP hands the first process's weights and buffers to all
        for tensor in (*model.sem_seg_head.parameters(), *model.sem_seg_head.buffers()):
            tensor.add_(rank)
    model = create_ddp_model(model)
    result = step(model, batch(counts)[rank::2])
    torch.save(result, f"{folder}/{rank}.pth")


@pytest.mark.parametrize("counts", [[2] * 8, [1, 3, 2, 3, 1, 5, 1, 4]])
def test_two_processes_equal_one_with_all_episodes(tmp_path, counts):
    """Equal numbers of masks per process, and 5 in one against 15 in the other."""
    losses, gradients = step(build(), batch(counts))
    assert losses["loss_mask_reversed"] > 0 and len(losses) == 6
    launch(of_one_process, 2, dist_url="auto", args=(str(tmp_path), counts))
    found = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    for key, value in losses.items():
        mean = (found[0][0][key] + found[1][0][key]) / 2
        torch.testing.assert_close(mean, value, atol=1e-4, rtol=0)
    for other in (found[0][1], found[1][1]):  # DDP has averaged them
        other = {name.removeprefix("module."): x for name, x in other.items()}
        for name, gradient in gradients.items():
            torch.testing.assert_close(other[name], gradient, atol=1e-4, rtol=0, msg=name)
        unused = other.keys() - gradients.keys()
        assert not any(other[name].any() for name in unused)


def of_one_episode(folder, numbers):
    episode = batch([1] * 8)[numbers[comm.get_rank()]]
    losses, _ = step(create_ddp_model(build()), [episode])
    torch.save(losses, f"{folder}/{comm.get_rank()}.pth")


def test_a_process_without_reversed_episodes_keeps_in_step(tmp_path):
    """The same names of losses in both, and none waits for the other."""
    drawn = build().reversion.drawn(batch([1] * 8))
    numbers = [drawn.index(True, 2), drawn.index(False)]  # the entity of episode 1 is absent
    launch(of_one_episode, 2, dist_url="auto", args=(str(tmp_path), numbers))
    found = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    assert found[0].keys() == found[1].keys()
    assert found[0]["loss_mask_reversed"] > 0 == found[1]["loss_mask_reversed"]
