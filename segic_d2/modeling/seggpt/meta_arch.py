"""META_ARCH "SegGPT": segmenting everything in context (ICCV 2023); and Painter, by a key.

Shapes: B targets, N entities, K shots, S side of the canvas (px).
"""

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from ...checkpoint.files import held_context
from ...compat import version_of
from ...config.keys import check_config
from ...structures.context import PIXELS, Context
from ...structures.episode import Episode, Names, Reference, View
from ...structures.features import Features, image_size, own_size, tensor_hash
from ...structures.frame import Frame
from ...structures.segmentation import Segmentation
from ...structures.stock import StockForms
from ...structures.view import InputSpec
from ..protocol import Contexts, InContextModel, Prompts, one_each
from .colours import cleanness, colour_logits, white_logits
from .prompts import IMAGE, Pixels, Prompt, frame_context, pixel_context, prompts_of, tunable
from .training import ColourLosses, paint_below
from .vit import PaintingViT


def given_context(cfg: CfgNode) -> Context | None:
    """The context of ``MODEL.SEGGPT.CONTEXT``; errors of ``held_context``."""
    return held_context(cfg.MODEL.SEGGPT.CONTEXT, "MODEL.SEGGPT.CONTEXT")


@META_ARCH_REGISTRY.register()
class SegGPT(InContextModel):
    """Paints in a target what references show, see ``InContextModel``. A score is how clean the
    paint is inside the mask (``cleanness``); the paper has none.

    Args:
        net: the network. spec: what it sees of a picture. losses: what training does.
        spatial: several shots are tiled into one prompt, in place of the feature ensemble.
        at_once: entities per pass, by colours; 1: each by itself, white on black.
        nearest: what is painted comes to a target's size by the nearest pixel, else bilinear.
        batch: canvases per pass. decay: of the rate of learning, per block.
        context: held by the model, or None. stock: how it then answers.
    """

    checks = (given_context,)

    @configurable
    def __init__(
        self,
        *,
        net: PaintingViT,
        spec: InputSpec,
        losses: ColourLosses,
        spatial: bool = False,
        at_once: int = 1,
        nearest: bool = True,
        batch: int = 8,
        decay: float = 1.0,
        context: Context | None = None,
        stock: StockForms | None = None,
    ) -> None:
        super().__init__()
        self.net, self.spec, self.pixels, self.criterion = net, spec, Pixels(spec), losses
        self.spatial, self.at_once, self.nearest = spatial, at_once, nearest
        self.batch, self.decay = batch, decay
        self.context, self.stock = context, stock or StockForms()
        self._known: tuple[Any, str] = (None, "")  # state of the weights, and their hash

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments of a config. ValueError: a value out of its range, the key is named."""
        m = cfg.MODEL.SEGGPT
        check_config(cfg, "MODEL.SEGGPT", "INPUT.CANVAS")
        for key, side in (("INPUT.CANVAS", cfg.INPUT.CANVAS), ("MODEL.SEGGPT.SIDE", m.SIDE)):
            if side % m.PATCH:
                raise ValueError(f"{key} {side} is no multiple of MODEL.SEGGPT.PATCH {m.PATCH}")
        if m.WIDTH % m.HEADS:
            raise ValueError(f"MODEL.SEGGPT.WIDTH {m.WIDTH} is no multiple of HEADS {m.HEADS}")
        names = inspect.signature(PaintingViT).parameters  # of keys, in capitals
        found = {"net": PaintingViT(**{name: m[name.upper()] for name in names})}
        found |= {"spec": InputSpec.from_config(cfg), "losses": ColourLosses.from_config(cfg)}
        found |= {"spatial": m.ENSEMBLE == "spatial", "nearest": m.RESIZE == "nearest"}
        found |= {"at_once": m.COLORS, "batch": m.BATCH, "decay": m.LAYER_DECAY}
        return found | {
            "context": given_context(cfg),
            "stock": StockForms.from_config(cfg),
        }

    @property
    def input(self) -> InputSpec:
        return self.spec

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a context depends on: the model, its weights, and the input."""
        tensors = [*self.net.parameters()]
        state = [(t.data_ptr(), version_of(t)) for t in tensors]
        if self._known[0] != state:
            digest = hashlib.sha256("".join(map(tensor_hash, tensors)).encode())
            self._known = state, digest.hexdigest()[:16]
        name = "SegGPT" if self.net.type_tokens else "Painter"
        return {"model": name, "weights": self._known[1], **self.spec.fingerprint}

    def encode_images(self, images: Sequence[Tensor | View]) -> Features:
        """Normalised pixels (B, 3, S, S): features of a target do not exist without a prompt."""
        views: list[Any] = [{"image": x} if isinstance(x, Tensor) else x for x in images]
        canvas = self.spec.canvas
        frames = [Frame(canvas, image_size(x), own_size(x), self.nearest) for x in views]
        squares = [self.pixels.square(x["image"]) for x in views]
        return Features(torch.stack(squares), frames)

    def encode_context(
        self, references: Sequence[Reference], names: Names | None = None, task: str = "semantic"
    ) -> Context:
        """References as pixels, see ``pixel_context``."""
        context = pixel_context(references, names, task, self.pixels)
        context.fingerprint = self.fingerprint
        return context

    def remember(
        self, features: Features, found: Segmentation, task: str = "instance", parts: int = 0
    ) -> Context:
        """A context of what was found in a frame, see ``InContextModel``."""
        context = frame_context(features, found, task, parts, self.pixels)
        context.fingerprint = self.fingerprint
        return context

    def segment(
        self, features: Features, context: Contexts, prompts: Prompts | None = None
    ) -> list[Segmentation]:
        """Segment B targets, see ``InContextModel``; each costs one pass per prompt and shot."""
        if prompts is not None:
            raise ValueError("this model knows no prompts at targets, references alone")
        contexts = [self._checked(c) for c in one_each(context, len(features))]
        known = {
            id(c): prompts_of(c, self.pixels, self.at_once, self.spatial)
            for c in {id(c): c for c in contexts}.values()
        }
        jobs = [(row, p) for row, c in enumerate(contexts) for p in known[id(c)]]
        painted = self._painted(features.map, jobs, [contexts[row].task for row, _ in jobs])
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in contexts]  # logits and scores
        for (row, prompt), paint in zip(jobs, painted, strict=True):
            single = len(prompt.rows) == 1
            logits = white_logits(paint)[None] if single else colour_logits(paint, prompt.palette)
            height, width = features.frames[row].content
            shown = paint[:, :height, :width]
            for one, colour in zip(logits, prompt.palette, strict=True):
                found[row].append((one, cleanness(shown, colour, one[:height, :width] > 0)))
        results = []
        for own, c, frame in zip(found, contexts, features.frames, strict=True):
            logits, scores = (torch.stack(x) for x in zip(*own, strict=True))
            results.append(Segmentation(logits, scores, list(c.ids), list(c.names), frame))
        return results

    def _painted(
        self, targets: Tensor, jobs: Sequence[tuple[int, Prompt]], tasks: Sequence[str]
    ) -> list[Tensor]:
        """What is painted, (3, S, S) in 0–255, for each (row of targets, prompt); prompts of as
        many shots share a pass."""
        order = sorted(range(len(jobs)), key=lambda j: (len(jobs[j][1]), tasks[j]))
        found: dict[int, Tensor] = {}
        while order:
            shots, task = len(jobs[order[0]][1]), tasks[order[0]]
            alike = [j for j in order if (len(jobs[j][1]), tasks[j]) == (shots, task)]
            alike = alike[: max(1, self.batch // shots)]
            order = order[len(alike) :]
            own = [jobs[j][1] for j in alike]
            pictures = torch.stack([p.pictures for p in own])  # (J, K, 3, S, S)
            colours = torch.stack([p.colours for p in own])
            below = targets[[jobs[j][0] for j in alike]]
            painted = paint_below(self.net, pictures, colours, below, task)
            # the first of a group, as released: of the others the first row of pixels differs
            found |= zip(alike, self.pixels.shown(painted[::shots]), strict=True)
        return [found[j] for j in range(len(jobs))]

    def losses(self, batched_inputs: Sequence[Episode]) -> dict[str, Tensor]:
        """Losses of a batch of training episodes, see ``ColourLosses``."""
        return self.criterion(self.net, self.pixels, batched_inputs)

    def context_losses(
        self, batched_inputs: Sequence[Episode], context: Context
    ) -> dict[str, Tensor]:
        """In-context tuning: the same loss of whole targets, by a context's pixels."""
        known, own = self._checked(context), (self.net, self.pixels)
        return self.criterion.by_context(*own, batched_inputs, known, self.spatial)

    def tunable(self, context: Context) -> Context:
        """The same context with pictures and colours that can be learned."""
        return tunable(self._checked(context), self.pixels)

    def lr_factor(self, name: str) -> float:
        """Layer-wise decay: patches and positions at the bottom, block after block; all else, the
        tokens among it, at the top (Painter's)."""
        depth, part = len(self.net.blocks), name.removeprefix("net.")
        if part.startswith(("patch_embed.", "pos_embed")):
            return self.decay ** (depth + 1)
        if part.startswith("blocks."):
            return self.decay ** (depth - int(part.split(".")[1]))
        return 1.0

    def _checked(self, context: Context) -> Context:
        """A context of this model, on its device."""
        if context.kind != PIXELS:
            raise ValueError(
                f"this model takes contexts of {PIXELS!r}, not of {context.kind!r}: make it anew "
                "from its references"
            )
        if context.fingerprint:
            context.check(self.fingerprint)
        side = context.tensors[IMAGE].shape[-1]
        if side != self.spec.canvas:
            raise ValueError(f"the context's canvas is {side} px, this model's {self.spec.canvas}")
        return context.to(self.device)
