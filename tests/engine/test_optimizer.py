"""What the optimizer does to which tensor."""

import pytest
import torch
from detectron2.modeling import build_model
from torch.optim import AdamW

from segic_d2.config.load import load_config
from segic_d2.engine import EpisodeTrainer
from tests.tiny import tiny_config, tiny_episode

SOLVER = ("SOLVER.BASE_LR", 1e-4, "SOLVER.WEIGHT_DECAY", 1e-4, "SOLVER.WEIGHT_DECAY_NORM", 1e-4)


def build(*opts):
    torch.manual_seed(0)
    cfg = tiny_config(*SOLVER, *opts)
    model = build_model(cfg)
    return model, EpisodeTrainer.build_optimizer(cfg, model)


def groups_by_name(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: g for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("config", ["segic_dinov2_L.yaml", "official/segic_dinov2_L.yaml"])
def test_the_configs_give_the_papers_optimizer(config):
    """AdamW, one rate and one decay for every trainable tensor: norms, biases, embeddings too."""
    solver = load_config(config).SOLVER
    keys = ("OPTIMIZER", "BASE_LR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS")
    assert [solver[key] for key in keys] == ["ADAMW", 1e-4, 1e-4, 1e-4, None]
    assert solver.BIAS_LR_FACTOR == 1.0 and not solver.CLIP_GRADIENTS.ENABLED
    model, optimizer = build()
    assert type(optimizer) is AdamW
    (group,) = optimizer.param_groups
    facts = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad")}
    assert facts == {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-4,
        "amsgrad": False,
    }
    found = set(groups_by_name(model, optimizer))
    assert found == {name for name, p in model.named_parameters() if p.requires_grad}
    head = "sem_seg_head."
    assert {
        head + "neck.1.bias",
        head + "mask_decoder.transformer.layers.0.norm1.weight",
        head + "mask_decoder.mask_tokens.weight",
        head + "prompt_encoder.not_a_point_embed.weight",
    } <= found
    assert not [name for name in found if name.startswith("backbone.")]


def test_every_tensor_decays():
    """Without a gradient AdamW multiplies by 1 − rate · decay, norms and embeddings alike."""
    model, optimizer = build("SOLVER.BASE_LR", 0.5, "SOLVER.WEIGHT_DECAY", 0.5)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    frozen = [p.clone() for p in model.backbone.parameters()]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.5
    optimizer.step()
    for name, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.detach(), before[name] * 0.75, msg=name)
    assert all(torch.equal(a, b) for a, b in zip(frozen, model.backbone.parameters(), strict=True))


def test_detectron2s_keys_for_norms_and_biases_are_obeyed():
    keys = ("SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.01)
    model, optimizer = build(*keys, "SOLVER.BIAS_LR_FACTOR", 2.0)
    groups = groups_by_name(model, optimizer)
    layer = "sem_seg_head.mask_decoder.transformer.layers.0."
    assert groups[layer + "norm1.weight"]["weight_decay"] == 0.0
    assert groups[layer + "mlp.lin1.weight"]["weight_decay"] == 1e-4
    bias = groups[layer + "mlp.lin1.bias"]
    assert (bias["weight_decay"], bias["lr"]) == (0.01, 2e-4)


@pytest.mark.parametrize("name, kind", [("ADAMW", "norm"), ("ADAMW", "value"), ("SGD", "value")])
def test_gradients_can_be_clipped(name, kind):
    """Each tensor on its own, as Detectron2 does; tensors without a gradient are left alone."""
    clip = ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01)
    model, optimizer = build("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.OPTIMIZER", name, *clip)

    def largest():
        sizes = [p.grad.norm() if kind == "norm" else p.grad.abs().max() for p in clipped]
        return float(max(sizes))

    model.every_gradient = False  # as the trainer has it
    sum(model.train()([tiny_episode(0, training=True)]).values()).backward()
    clipped = [p for p in model.parameters() if p.grad is not None]
    assert largest() > 0.02
    assert len(clipped) < sum(p.requires_grad for p in model.parameters())
    small = min(clipped, key=lambda p: p.grad.norm())
    unchanged = small.grad.clone()
    optimizer.step()
    assert largest() == pytest.approx(0.01, rel=1e-3)
    assert unchanged.norm() < 0.01 and torch.equal(small.grad, unchanged)
