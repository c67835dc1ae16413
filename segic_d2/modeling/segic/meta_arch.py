"""META_ARCH "SegIC": in-context segmentation with a frozen backbone (ECCV 2024).

Shapes: B targets, N entities of a target.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    Backbone,
    build_backbone,
    build_sem_seg_head,
)
from detectron2.structures import Instances
from torch import Tensor

from ...config.keys import check_config
from ...structures.context import CELLS, PROTOTYPES, Context
from ...structures.episode import Episode, Names, Reference, Target, View
from ...structures.features import Features, tensor_hash
from ...structures.picture import Picture
from ...structures.prompts import Marked
from ...structures.segmentation import Segmentation
from ...structures.stock import StockForms
from ...structures.view import InputSpec
from ...utils.registries import find_registered
from ..backbone.sources import check_backbone_weights
from ..backbone.weights import check_weights_fit, ensure_weights
from ..layers.frozen_encoder import FrozenEncoder
from ..protocol import Contexts, Prompts, one_each
from ..text.encoder import check_texts
from .boxes import BoxMasks
from .context_encoder import ContextEncoder, Texts
from .frame_context import frame_context
from .held_context import check_form, check_held_context, given_context
from .instances import InstanceOptions, find_instances
from .mask_head import InContextMaskHead
from .queries import Queries
from .readout import Readout
from .reference_masks import ReferenceMasks
from .regions.instances import part_objects
from .second_look import look_again
from .tokens import canvas_boxes
from .training import EpisodeLosses
from .tuning import ContextTuning


def check_head(cfg: CfgNode) -> None:
    """ValueError: no head is registered as ``MODEL.SEM_SEG_HEAD.NAME``."""
    find_registered(SEM_SEG_HEADS_REGISTRY, cfg.MODEL.SEM_SEG_HEAD.NAME, "MODEL.SEM_SEG_HEAD.NAME")


@META_ARCH_REGISTRY.register()
class SegIC(ContextTuning):
    """Segments in a target what references show, see ``InContextModel``.

    Args:
        encoder: the frozen backbone. sem_seg_head: correspondence and decoder.
        texts: of the meta instruction. losses: what training does. readout: from logits to masks.
        cross_entity: entities of a target see each other's visual tokens at inference.
        instances: of ``find_instances``. entity_chunk: entities decoded at once; 0: as caches hold.
        context: held by the model, or its file; "" or None: none. stock: how it then answers.

    Raises:
        ValueError: the head is for features of other channels or stride than the encoder's.
    """

    # of what a config names and what must be on this machine
    checks = check_backbone_weights, check_weights_fit, check_texts, check_held_context, check_head

    @configurable
    def __init__(
        self,
        *,
        encoder: FrozenEncoder,
        sem_seg_head: InContextMaskHead,
        texts: Texts,
        losses: EpisodeLosses,
        readout: Readout,
        cross_entity: bool = True,
        instances: InstanceOptions | None = None,
        entity_chunk: int = 0,
        context: Context | str | None = None,
        stock: StockForms | None = None,
    ) -> None:
        super().__init__()
        shape = encoder.backbone.output_shape()[encoder.feature]
        found = shape.channels, shape.stride
        taken = sem_seg_head.channels, sem_seg_head.stride
        if found != taken:
            raise ValueError(
                f"the encoder's map {encoder.feature!r} has {found[0]} channels and stride "
                f"{found[1]}, the head takes {taken[0]} channels and stride {taken[1]}: set "
                "sem_seg_head.channels and sem_seg_head.similarity.shape.stride"
            )
        self.encoder, self.sem_seg_head = encoder, sem_seg_head
        head = sem_seg_head
        self.contexts = ContextEncoder(
            encoder.input, head.similarity, head.rules, texts, head.matcher
        )
        self.criterion, self.readout = losses, readout
        self.boxes = BoxMasks(head, self.contexts, readout)
        self.cross_entity, self.entity_chunk = cross_entity, entity_chunk
        self.instances = instances or InstanceOptions()
        self.context = given_context(context) if isinstance(context, str) else context
        self.stock = stock or StockForms()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments of a config. ValueError: a value out of its range, the key is named; or a
        backbone that must be trained."""
        m = cfg.MODEL.SEGIC
        check_config(cfg, "MODEL", "INPUT.CANVAS")
        backbone = build_backbone(cfg)
        if getattr(backbone, "needs_training", False):
            raise ValueError(
                f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME!r} is a pyramid, which must be "
                "trained; SegIC freezes its backbone: use 'build_timm_backbone'"
            )
        ensure_weights(backbone, cfg.MODEL.BACKBONE.WEIGHTS)
        spec = InputSpec.from_config(cfg, backbone)
        head = build_sem_seg_head(cfg, backbone.output_shape())
        return {
            "encoder": FrozenEncoder(backbone, m.IN_FEATURE, spec, m.IMAGE_CHUNK, m.FEATURE_MEMORY),
            "sem_seg_head": head,
            "texts": Texts.from_config(cfg),
            "losses": EpisodeLosses.from_config(cfg, head.rules),
            "readout": Readout.from_config(cfg),
            # never crossed in training, the type embedding of the others would be random
            "cross_entity": m.CROSS_ENTITY.ENABLED and m.CROSS_ENTITY.TRAIN_PROB > 0,
            "instances": InstanceOptions.from_config(cfg),
            "entity_chunk": m.ENTITY_CHUNK,
            "context": m.CONTEXT,
            "stock": StockForms.from_config(cfg),
        }

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone."""
        return self.encoder.backbone

    @property
    def input(self) -> InputSpec:
        return self.encoder.input

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a context depends on: the backbone and its weights, input, pooling, text."""
        texts, similarity = self.contexts.texts, self.sem_seg_head.similarity
        encoder, mean = texts.encoder, similarity.feature_mean
        found = {
            **self.encoder.identity,
            **self.input.fingerprint,
            "text": encoder.identity if encoder else None,
            "sentences": [texts.semantic, texts.instance] if encoder else None,
        }
        if mean is not None:
            found["center"] = self.encoder.read_once("center", [mean], tensor_hash)
        if similarity.groups > 1:
            found["groups"] = similarity.groups
        if similarity.background:
            found["background"] = True
        if self.sem_seg_head.matcher is not None:
            found["regions"] = self.sem_seg_head.matcher.fingerprint
        return found

    @property
    def absent(self) -> float:
        """As the config says; 0 for a head that was tuned, whose scores nobody calibrated."""
        return 0.0 if self.sem_seg_head.tuned else self.stock.absent

    @property
    def needs_weights(self) -> bool:
        return self.sem_seg_head.decodes

    def encode_images(self, images: Sequence[Tensor | View], padded: bool = False) -> Features:
        """Run the frozen backbone, see ``FrozenEncoder.forward``."""
        return self.encoder(images, padded)

    def encode_context(
        self, references: Sequence[Reference], names: Names | None = None, task: str = "semantic"
    ) -> Context:
        """References → a context of prototypes; see ``InContextModel`` and ``ContextEncoder``."""
        if not references:
            raise ValueError("no references: at least one image with a mask is needed")
        if names is None:
            names = dict.fromkeys(int(i) for r in references for i in r["entity_ids"])
        self.contexts.texts.vectors(list(names.values()), task)  # missing? before pictures are seen
        maps, wholes = self._encoded(references)
        references = self.boxes(references, maps, wholes)
        context = self.contexts.from_references(maps, references, names, task, wholes)
        context.fingerprint = self.fingerprint
        return context

    def _encoded(self, references: Sequence[Reference]) -> tuple[Tensor, list[Tensor] | None]:
        """Features (R, C, g, g) of references and, where cells are asked for, R (C, g, g) of their
        whole pictures; what is not cut is encoded once."""
        if self.sem_seg_head.matcher is None:
            return self.encode_images(references).map, None
        self.sem_seg_head.matcher.look(self.encoder)
        cut = [
            row for row, r in enumerate(references) if r.get("whole", r)["masks"] is not r["masks"]
        ]
        found = self.encode_images([*references, *(references[row]["whole"] for row in cut)]).map
        place = {row: len(references) + i for i, row in enumerate(cut)}
        wholes = [found[place.get(row, row)] for row in range(len(references))]
        return found[: len(references)], wholes

    def complete_mask(self, picture: Picture, marked: Marked) -> np.ndarray:
        """The mask, bool (H, W), of what is marked, see ``ReferenceMasks``. ValueError: a head
        without regions."""
        matcher = self.sem_seg_head.matcher
        if matcher is None:
            return super().complete_mask(picture, marked)
        return ReferenceMasks(self.encoder, matcher, self.boxes)(picture, marked)

    def segment(
        self, features: Features, context: Contexts, prompts: Prompts | None = None
    ) -> list[Segmentation]:
        """Segment B targets; see ``InContextModel``. Prompts are boxes, which training knew where
        ``BOX_PROMPT_PROB`` was above 0. ValueError: a context of another model, not one per target,
        another kind of prompt, or features without their pictures where these refine logits."""
        contexts = self._checked(context, len(features))
        if prompts is not None:
            return self._segment(features, contexts, canvas_boxes(features, contexts, prompts))
        found, shares = self._segment(features, contexts), (self.readout.second_look, self.absent)
        return look_again(self.encode_images, self._segment, features, contexts, found, *shares)

    def segment_frame(
        self, features: Features, context: Context, cross_points: bool = False
    ) -> Segmentation:
        """Segment one video frame; see ``InContextModel``."""
        return self._segment(features, self._checked(context, 1), None, cross_points)[0]

    def remember(
        self, features: Features, found: Segmentation, task: str = "instance", parts: int = 0
    ) -> Context:
        """A context of what was found in a frame; see ``InContextModel`` and ``frame_context``."""
        context = frame_context(self.contexts, features, found, task, parts)
        context.fingerprint = self.fingerprint
        return context

    def _segment(
        self,
        features: Features,
        contexts: Sequence[Context],
        boxes: Tensor | None = None,
        cross_points: bool = False,
    ) -> list[Segmentation]:
        head = self.sem_seg_head
        queries, decoded, maps = Queries.from_contexts(contexts), None, None
        if head.decodes:
            out = head(
                features.map,
                features.image_sizes,
                queries,
                crossing=bool(self.cross_entity),
                boxes=boxes,
                chunk=self.entity_chunk,
                cross_points=cross_points,
            )
            if not head.chooses:
                return self.readout(out, features, contexts, head.similarity)
            decoded = self.readout.decoded(out, features, contexts, head.similarity)
            maps = out.maps
        assert head.matcher is not None  # who does not decode
        maps = head.propagate(features.map, queries) if maps is None else maps
        small = [head.matcher.small(context) for context in contexts]
        chosen = zip(head.matcher(features, contexts, decoded), small, strict=True)
        return self.readout.of_regions(chosen, maps.split(queries.counts), features, contexts)

    def propagated_mask(self, features: Features, context: Contexts) -> list[Tensor]:
        """The propagated masks themselves, list of B float (N, r, r) (Eq. 2)."""
        queries = Queries.from_contexts(self._checked(context, len(features)))
        return list(self.sem_seg_head.propagate(features.map, queries).split(queries.counts))

    @torch.no_grad()
    def find_instances(
        self, batched_inputs: Sequence[Target], context: Context, limit: int = 100
    ) -> list[dict[str, Instances]]:
        """``segment_instances`` for Detectron2's evaluators: one {"instances"} per target."""
        found = self.segment_instances(self.encode_images(batched_inputs), context, limit)
        return [{"instances": one.instances()} for one in found]

    def segment_instances(
        self, features: Features, context: Context, limit: int = 100
    ) -> list[Segmentation]:
        """The objects of every class of a context, whose task should be "instance". Every peak of a
        class's propagated mask is an instance prompt (``MODEL.SEGIC.INSTANCES``), see
        ``instances.find_instances``. With ``.PARTS``, or without a decoder, what hangs together of
        a class is an object."""
        if self.instances.parts or not self.sem_seg_head.decodes:
            whole = replace(context, task="semantic")  # classes, as they were learnt
            found = self._segment(features, self._checked(whole, len(features)))
            return [part_objects(x, limit) for x in found]
        (known,) = self._checked(context, 1)
        head, options = self.sem_seg_head, self.instances
        return find_instances(
            head, self.readout, features, known, options, limit, self.entity_chunk
        )

    def losses(self, batched_inputs: Sequence[Episode]) -> dict[str, Tensor]:
        """Losses of a batch of training episodes, see ``EpisodeLosses``."""
        references = [r for x in batched_inputs for r in x["references"]]
        # every image of the step exactly once, on whole canvases: training's views have any size
        features = self.encode_images([*batched_inputs, *references], padded=True)
        contexts = self._pooled(batched_inputs, features.map[len(batched_inputs) :])
        return self.criterion(self.sem_seg_head, self.contexts, batched_inputs, features, contexts)

    def episode_contexts(self, episodes: Sequence[Episode]) -> list[Context]:
        """The context of each episode; the references of all of them are encoded together."""
        return self._pooled(
            episodes, *self._encoded([r for x in episodes for r in x["references"]])
        )

    def _pooled(
        self, episodes: Sequence[Episode], maps: Tensor, wholes: Sequence[Tensor] | None = None
    ) -> list[Context]:
        contexts, first = [], 0
        for x in episodes:
            own = slice(first, first + len(x["references"]))
            names, first = {e["id"]: e["name"] for e in x["entities"]}, own.stop
            far = None if wholes is None else wholes[own]
            found = self.boxes(x["references"], maps[own], far)
            contexts.append(self.contexts.from_references(maps[own], found, names, x["task"], far))
        return contexts

    def _checked(self, context: Contexts, number: int) -> list[Context]:
        """One context per target, of this model and on its device."""
        contexts = one_each(context, number)
        matcher = self.sem_seg_head.matcher
        kind = PROTOTYPES if matcher is None else CELLS
        if matcher is not None:
            matcher.look(self.encoder)
        distinct = list({id(c): c for c in contexts}.values())
        own = self.fingerprint if any(c.fingerprint for c in distinct) else {}
        for c in distinct:
            check_form(c, kind, own, self.encoder.channels)
        return [c.to(self.device) for c in contexts]
