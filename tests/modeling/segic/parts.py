"""Small heads, random contexts and feature maps for the tests of SegIC's parts.

Shape shorthand: C = 24 feature channels, stride 14, canvas 112 px, hence a grid of 8x8 cells.
"""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic.context_encoder import ContextEncoder
from segic_d2.modeling.segic.mask_head import InContextMaskHead, Instructions
from segic_d2.modeling.segic.released import PAPER
from segic_d2.structures.view import InputSpec
from tests.tiny import prototype_context, tiny_config, tiny_episode


def head(seed=0, *, channels=24, stride=14, canvas=112, without=(), rules=PAPER, **options):
    """A random head in eval mode; ``without`` names instructions that are off."""
    torch.manual_seed(seed)
    similarity = Similarity(
        canvas, ShapeSpec(channels=channels, stride=stride), upsampled=rules.upsampled
    )
    options = {"width": 32, "heads": 4, "mlp": 64, "text_dim": 16, **options}
    on = Instructions(**dict.fromkeys(without, False))
    made = InContextMaskHead(
        similarity=similarity, channels=channels, instructions=on, rules=rules, **options
    )
    return made.eval()


def context_encoder(rules=PAPER, channels=24, stride=14, canvas=112, **similarity):
    """A ``ContextEncoder`` without texts; whatever of the rules the spec holds follows them."""
    spec = InputSpec(canvas, (0, 0, 0), (1, 1, 1), released=rules.keep_empty)
    shape = ShapeSpec(channels=channels, stride=stride)
    return ContextEncoder(spec, Similarity(canvas, shape, **similarity), rules)


def random_contexts(*counts, shots=1, seed=0):
    """A context of so many entities for each target, of one to ``shots`` shots each."""
    g = torch.Generator().manual_seed(seed)
    contexts = []
    for n in counts:
        exists = torch.arange(shots) < torch.randint(1, shots + 1, (n, 1), generator=g)
        vectors = torch.randn(2, n, shots, 24, generator=g) * exists[..., None]
        meta = torch.randn(n, 16, generator=g)
        contexts.append(prototype_context(*vectors, exists, meta, list(range(n)), [None] * n))
    return contexts


def features(count, seed=5):
    return torch.randn(count, 24, 8, 8, generator=torch.Generator().manual_seed(seed))


def build(*opts, seed=0, **options):
    """The tiny model in eval mode."""
    torch.manual_seed(seed)
    return build_model(tiny_config(*opts, **options)).eval()


def encoded(model, seed=0, **options):
    """Features of the target and the context of a tiny episode."""
    episode = tiny_episode(seed, **options)
    return model.encode_images([episode]), model.encode_context(episode["references"])
