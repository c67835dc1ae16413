"""Forward passes with fake tensors on a device "cuda", under torch's own rules for mixed devices.

Fakes have no values, so that this also shows every branch that would make the host wait for a GPU.
"""

import copy
from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model
from torch._subclasses.fake_tensor import FakeTensorMode

from segic_d2.modeling.segic import context_encoder as reference
from segic_d2.modeling.segic.mask_head import InContextMaskHead
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.readout import Readout
from tests.devices import KIND
from tests.tiny import tiny_config

KEY = "MODEL.SEGIC."
CONFIGS = {
    "default": (),
    "points": (f"{KEY}POINTS.NUM", 3, f"{KEY}ENTITY_CHUNK", 1),
    "alone": (f"{KEY}CROSS_ENTITY.ENABLED", False),
    "background": (
        *(
            f"{KEY}BACKGROUND",
            True,
            f"{KEY}SIMILARITY.GROUPS",
            2,
            f"{KEY}SIMILARITY.RELATIVE",
            True,
        ),
        *(f"{KEY}SIMILARITY.CENTER", "fixed"),
    ),
    "released": (*(f"{KEY}RELEASED", True, f"{KEY}BINARIZE_MASKS", True),),
    "refined": (f"{KEY}TEST.REFINE.RADIUS", 2, f"{KEY}TEST.REFINE.WALK", 0.5),
    "scores": (f"{KEY}TEST.SCORE", "quality_similarity", f"{KEY}TEST.MIN_SCORE", 0.1),
    "geometry": (f"{KEY}VISUAL", False, f"{KEY}DENSE", False),
    "ViT": (
        *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.WEIGHTS", ""),
        *("MODEL.TIMM.NAME", "vit_small_patch14_dinov2", "MODEL.TIMM.BLOCKS", (0, 1)),
    ),
    "CNN": (
        *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.BACKBONE.WEIGHTS", ""),
        *("MODEL.TIMM.NAME", "resnet18", "MODEL.TIMM.BLOCKS", (-2,), "INPUT.CANVAS", 64),
    ),
}
SIZES = [(84, 112), (112, 70)]


def on_fake_device(module, mode):
    """A copy of a module whose tensors are fakes on the device "cuda" (``FakeTensorMode``)."""
    module = copy.deepcopy(module)

    def fake(tensor):
        with mode:
            return torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=KIND
            )

    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                part._parameters[name] = torch.nn.Parameter(fake(tensor), tensor.requires_grad)
        for name, tensor in part._buffers.items():
            if tensor is not None:
                part._buffers[name] = fake(tensor)
    return module


def build(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).eval()


def fitting(model):
    """Sizes of two pictures on the model's canvas."""
    return [tuple(side * model.input.canvas // 112 for side in size) for size in SIZES]


def pictures(model):
    """On the CPU, as they come from files."""
    return [torch.zeros(3, *size, dtype=torch.uint8) for size in fitting(model)]


def references(model):
    """Two pictures that show three entities, one of them twice."""
    shown = zip(pictures(model), ([0, 1], [1, 2]), strict=True)
    return [
        {"image": x, "masks": torch.ones(2, *x.shape[1:]), "entity_ids": ids} for x, ids in shown
    ]


def everything(model):
    """References and targets in, all outputs of a picture out; all on the fake device."""
    with mock.patch.object(reference, "known_on_host", lambda shown: [True] * len(shown)):
        # a fingerprint is of values; a context that is not checked has none
        shown = references(model)
        maps = model.encode_images(shown).map
        context = model.contexts.from_references(maps, shown, {0: None, 1: None, 2: None})
    targets = [{"image": x, "height": 60, "width": 80} for x in pictures(model)]
    features = model.encode_images(targets)
    made = [maps, features.map, context.shots, *context.tensors.values()]
    made += model.propagated_mask(features, context)
    for found in model.segment(features, context):
        made += [found.logits, found.scores, found.similarity, found.masks, found.propagated]
        made += [found.label_map(7), found.labels(None, 255), found.sem_seg(4, 3)]
    return made


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_forward_passes_stay_on_the_device(name):
    model, mode = build(*CONFIGS[name]), FakeTensorMode()
    fake = on_fake_device(model, mode)
    with mode:
        made = everything(fake)
    assert {x.device.type for x in made} == {KIND}
    real = everything(model)
    assert [x.shape for x in made] == [x.shape for x in real]


@pytest.mark.parametrize("name", ["default", "background", "released"])
def test_the_decoder_of_training_stays_on_the_device(name):
    """With autograd the decoder is another path; boxes and other looks come in training alone."""
    model, mode = build(*CONFIGS[name]), FakeTensorMode()
    fake = on_fake_device(model, mode).train()
    with mode, mock.patch.object(reference, "known_on_host", lambda shown: [True] * len(shown)):
        shown = references(fake)
        maps = fake.encode_images(shown).map
        context = fake.contexts.from_references(maps, shown, {0: None, 1: None, 2: None})
        queries = Queries.from_contexts([context] * 2)
        boxes = torch.zeros(len(queries), 4, device=KIND)
        out = fake.sem_seg_head(
            maps, fitting(fake), queries, crossing=True, boxes=boxes, appearance=maps * 2
        )
    assert out.logits.device.type == KIND and out.logits.requires_grad


class Careless(InContextMaskHead):
    """A head that makes a tensor on the CPU."""

    def project(self, queries):
        text, own = super().project(queries)
        return text, own + torch.zeros(own.shape[-1])


@torch.no_grad()
def test_a_tensor_made_on_the_cpu_in_the_head_is_caught():
    model, mode = build(), FakeTensorMode()
    model.sem_seg_head.__class__ = Careless
    everything(model)  # nothing shows on a CPU
    fake = on_fake_device(model, mode)
    with mode, pytest.raises(RuntimeError, match="device"):
        everything(fake)


@torch.no_grad()
def test_a_branch_on_a_value_is_caught(monkeypatch):
    scored = Readout.scored

    def asking(readout, logits, *arguments):
        return scored(readout, logits if logits.any() else -logits, *arguments)

    monkeypatch.setattr(Readout, "scored", asking)
    model, mode = build(), FakeTensorMode()
    everything(model)
    fake = on_fake_device(model, mode)
    with mode, pytest.raises(Exception, match="_local_scalar_dense"):
        everything(fake)
