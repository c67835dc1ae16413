"""Counts what a training step holds in memory, tensor by tensor on a CPU; a GPU is measured.

The backbone is counted without computing anything, as if on the "meta" device. The rest of the step
runs with two and four entities per image; other numbers lie on the straight line through them.
"""

import torch
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_backbone, build_model

from live_memory import FusedAttention, LiveMemory, tensor_bytes
from machine import markdown
from segic_d2.engine import EpisodeTrainer
from segic_d2.utils.devices import peak_memory, reset_peak_memory

COUNTED = 2, 4  # entities per image of the steps from which others are extrapolated


class Stub(Backbone):
    """Stands for a frozen backbone in a step; it gives features of its shape at no cost."""

    def __init__(self, name, shape):
        super().__init__()
        self.name, self.shape = name, shape
        self.pixel_mean, self.pixel_std = [0.0] * 3, [1.0] * 3

    def forward(self, images):
        side = images.shape[-1] // self.shape.stride
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(len(images), self.shape.channels, side, side, generator=generator)
        return {self.name: features.to(images.device)}

    def output_shape(self):
        return {self.name: self.shape}


@BACKBONE_REGISTRY.register()
def build_benchmark_stub(cfg, input_shape):
    return Stub(*cfg.BENCHMARK_STUB)


def memory(cfg, entities):
    """GB (10⁹ bytes) that a step holds: parameters, and the peak of all other tensors."""
    with torch.device("meta"):
        backbone = build_backbone(cfg).eval()
        count = min(cfg.MODEL.SEGIC.IMAGE_CHUNK, 2 * cfg.SOLVER.IMS_PER_BATCH)
        images = torch.zeros(count, 3, cfg.INPUT.CANVAS, cfg.INPUT.CANVAS)
        with torch.no_grad(), FusedAttention(), LiveMemory() as live:
            backbone(images)
    fixed = {
        "backbone_parameters": tensor_bytes(backbone.parameters()) / 1e9,
        "backbone_activations": (live.peak + tensor_bytes([images])) / 1e9,
    }
    name = cfg.MODEL.SEGIC.IN_FEATURE
    stub = cfg.clone()
    if cfg.MODEL.DEVICE == "cpu":
        stub.MODEL.BACKBONE.NAME = "build_benchmark_stub"
        stub.BENCHMARK_STUB = (name, backbone.output_shape()[name])
    model = build_model(stub).train()
    optimizer = EpisodeTrainer.build_optimizer(cfg, model)
    trained = [p for p in model.parameters() if p.requires_grad]
    fixed["trained_parameters"] = 4 * tensor_bytes(trained) / 1e9  # gradient, Adam's two moments
    if cfg.MODEL.DEVICE == "cpu":
        counted = {n: counted_step(model, cfg, n) for n in {*COUNTED, *entities} if n <= COUNTED[1]}
        (few, low), (many, high) = ((n, counted[n]) for n in COUNTED)
        line = {n: low + (n - few) * (high - low) / (many - few) for n in entities}
        held = {**line, **counted}
    else:
        held = {n: measured_step(model, optimizer, cfg, n) for n in entities}
    rows = []
    for n in entities:
        row = {"entities": n, **fixed, "step_activations": held[n]}
        parameters = fixed["backbone_parameters"] + fixed["trained_parameters"]
        if cfg.MODEL.DEVICE == "cpu":
            row["total"] = parameters + max(held[n], fixed["backbone_activations"])
        else:
            row["total"] = held[n]
            row["step_activations"] = held[n] - parameters
        rows.append(row)
    return rows


def counted_step(model, cfg, entities):
    """Count the GB alive at once in forward and backward of a step, besides the parameters."""
    with LiveMemory() as live:
        one_step(model, synthetic_episodes(cfg, entities), cfg)
    for p in model.parameters():
        p.grad = None  # a step begins without
    return live.peak / 1e9


def measured_step(model, optimizer, cfg, entities):
    """Measure the most GB that the second of two steps allocates on the GPU."""
    episodes = synthetic_episodes(cfg, entities)
    for _ in range(2):
        reset_peak_memory(cfg.MODEL.DEVICE)
        optimizer.zero_grad()
        one_step(model, episodes, cfg)
        optimizer.step()
    return peak_memory(cfg.MODEL.DEVICE) / 1e9


def one_step(model, episodes, cfg):
    with torch.autocast(model.device.type, torch.bfloat16, cfg.SOLVER.AMP.ENABLED):
        loss = sum(model(episodes).values())
    loss.backward()


def synthetic_episodes(cfg, entities):
    """Make targets and references that fill the canvas. Both show every entity."""
    side, generator = cfg.INPUT.CANVAS, torch.Generator().manual_seed(0)
    episodes = []
    for seed in range(cfg.SOLVER.IMS_PER_BATCH):
        views = []
        for _ in range(2):
            masks = torch.zeros(entities, side, side)
            for mask in masks:
                y, x = torch.randint(0, side // 2, (2,), generator=generator)
                mask[y : y + side // 3, x : x + side // 3] = 1
            image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
            views.append({"image": image, "masks": masks})
        target, reference = views
        target["masks"] = target["masks"] > 0.5
        reference["entity_ids"] = list(range(entities))
        named = [{"id": i, "name": None, "category": i} for i in range(entities)]
        rest = {"task": "instance", "seed": seed, "height": side, "width": side, "image_id": seed}
        episodes.append({**target, **rest, "entities": named, "references": [reference]})
    return episodes


def memory_table(rows):
    names = [k for k in rows[0] if k != "entities"]
    lines = [["entities per image", *(f"{n.replace('_', ' ')} (GB)" for n in names)]]
    lines += [[str(r["entities"]), *(f"{r[n]:.2f}" for n in names)] for r in rows]
    return markdown(lines)
