"""META_ARCH "SegIC": in-context segmentation with a frozen backbone (ECCV 2024).

Shape shorthand: B targets, N entities of a target, C feature channels, S canvas side (px), g grid
side (cells).
"""

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from torch import nn

from ...config.ranges import check_ranges
from ...structures.context import Context
from ...structures.features import tensor_hash
from ...structures.frame import masks_in_image, resize_to_image
from ...structures.segmentation import to_instances, to_sem_seg
from ...structures.view import InputSpec
from ..backbone.weights import load_backbone_weights
from ..layers.feature_memory import FeatureMemory
from ..layers.frozen_encoder import FrozenEncoder
from ..text.encoder import build_text_encoder
from .context_encoder import pool_references
from .instances import best_instances, check_options, decode_instances
from .losses import EpisodeCriterion
from .queries import Queries
from .readout import abstain, quality_of, scores_of
from .refinement import Refinement, random_walk, refine_logits, unless_lost
from .reversion import Reversion
from .training import training_losses

SCORES = ("mask", "quality", "quality_similarity")
OUTPUTS = ("masks", "sem_seg", "instances", "propagated_mask")


def _one_each(context, number):
    """A list of contexts as it is; one context for each of a number of targets."""
    return context if isinstance(context, list | tuple) else [context] * number


@META_ARCH_REGISTRY.register()
class SegIC(FrozenEncoder, nn.Module):
    """Segments in a target what references show.

    The backbone is frozen, always in eval mode and runs without autograd, whichever backbone of the
    registry it is. ``forward`` takes a batch of episodes (DESIGN "Contracts"): in training it
    returns a dict of losses, otherwise one dict per target with ``masks`` bool (N, height, width)
    and ``scores`` (N,).
    """

    @configurable
    def __init__(
        self,
        *,
        backbone,
        sem_seg_head,
        text_encoder,
        in_feature,
        input,
        released_prototype,
        cross_entity,
        cross_entity_prob,
        box_prompt_prob,
        mixstyle,
        reversion,
        semantic_template,
        instance_text,
        criterion,
        entity_chunk,
        image_chunk,
        memory,
        threshold,
        score,
        min_score,
        outputs,
        num_classes,
        refinement=None,
        instances=None,
        vis_period=0,
    ):
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.sem_seg_head = sem_seg_head
        self.text_encoder = text_encoder
        self.in_feature, self.input, self.canvas = in_feature, input, input.canvas
        self.released_prototype = released_prototype
        self.cross_entity, self.cross_entity_prob = cross_entity, cross_entity_prob
        self.box_prompt_prob, self.reversion = box_prompt_prob, reversion
        self.mixstyle = mixstyle
        self.semantic_template, self.instance_text = semantic_template, instance_text
        self.criterion = criterion
        self.entity_chunk, self.image_chunk = entity_chunk, image_chunk
        self.memory = memory
        self.feature_store = None  # see stored_features.py
        self.threshold, self.outputs, self.num_classes = threshold, tuple(outputs), num_classes
        self.score, self.min_score = score, min_score
        self.refinement = refinement or Refinement()
        self.instances, self.vis_period = instances, vis_period
        shape = (1, 3, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(input.mean).reshape(shape), False)
        self.register_buffer("pixel_std", torch.tensor(input.std).reshape(shape), False)

    @classmethod
    def from_config(cls, cfg):
        m = cfg.MODEL.SEGIC
        check_ranges(cfg, "MODEL")
        checks = (
            ("MODEL.SEGIC.SIMILARITY.PROTOTYPE", m.SIMILARITY.PROTOTYPE, ("mean_unit", "pooled")),
            ("MODEL.SEGIC.SIMILARITY.CENTER", m.SIMILARITY.CENTER, ("none", "fixed")),
            ("MODEL.SEGIC.TEST.SCORE", m.TEST.SCORE, SCORES),
            *(
                (
                    "MODEL.SEGIC.TEST.OUTPUTS",
                    x,
                    OUTPUTS,
                )
                for x in m.TEST.OUTPUTS
            ),
        )
        for key, value, allowed in checks:
            if value not in allowed:
                raise ValueError(f"{key} is {value!r}; it must be one of {allowed}")
        if not 0 <= m.TEST.MIN_SCORE <= 1:
            raise ValueError(
                f"MODEL.SEGIC.TEST.MIN_SCORE is {m.TEST.MIN_SCORE}; it must be in [0, 1]"
            )
        check_options(m.INSTANCES)
        backbone = build_backbone(cfg)
        if not any(p.is_meta for p in backbone.parameters()):
            load_backbone_weights(backbone, cfg.MODEL.BACKBONE.WEIGHTS)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "text_encoder": build_text_encoder(cfg),
            "in_feature": m.IN_FEATURE,
            "input": InputSpec.from_config(cfg, backbone),
            "released_prototype": m.SIMILARITY.PROTOTYPE == "pooled",
            # never crossed in training, the type embedding of the others would be random
            "cross_entity": m.CROSS_ENTITY.ENABLED and m.CROSS_ENTITY.TRAIN_PROB > 0,
            "cross_entity_prob": m.CROSS_ENTITY.TRAIN_PROB,
            "box_prompt_prob": m.BOX_PROMPT_PROB,
            "mixstyle": m.MIXSTYLE,
            "reversion": Reversion(
                prob=m.REVERSION.PROB,
                empty=m.REVERSION.EMPTY,
                context=m.REVERSION.CONTEXT,
                in_padding=m.REVERSION.IN_PADDING,
            ),
            "semantic_template": m.TEXT.SEMANTIC_TEMPLATE,
            "instance_text": m.TEXT.INSTANCE_TEXT,
            "criterion": EpisodeCriterion(
                num_points=m.LOSS.NUM_POINTS,
                oversample_ratio=m.LOSS.OVERSAMPLE_RATIO,
                importance_ratio=m.LOSS.IMPORTANCE_RATIO,
                bce_weight=m.LOSS.BCE_WEIGHT,
                dice_weight=m.LOSS.DICE_WEIGHT,
                average_over=m.LOSS.NUM_MASKS,
                quality_weight=m.LOSS.QUALITY_WEIGHT,
                threshold=m.TEST.THRESHOLD,
            ),
            "entity_chunk": m.ENTITY_CHUNK,
            "image_chunk": m.IMAGE_CHUNK,
            "memory": FeatureMemory(m.FEATURE_MEMORY),
            "threshold": m.TEST.THRESHOLD,
            "score": m.TEST.SCORE,
            "min_score": m.TEST.MIN_SCORE,
            "outputs": m.TEST.OUTPUTS,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "refinement": Refinement(
                radius=m.TEST.REFINE.RADIUS,
                eps=m.TEST.REFINE.EPS,
                walk=m.TEST.REFINE.WALK,
                power=m.TEST.REFINE.WALK_POWER,
            ),
            "instances": m.INSTANCES,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    def train(self, mode=True):
        """Set the mode of everything but the backbone, which stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def fingerprint(self):
        """What a context depends on: the backbone and its weights, input, pooling, text."""
        text = self.text_encoder
        head = self.sem_seg_head
        mean = head.feature_mean
        center = {} if mean is None else {"center": self._read_once("center", [mean], tensor_hash)}
        return {
            "backbone": getattr(self.backbone, "tap", type(self.backbone).__name__),
            "feature": self.in_feature,
            "weights": self._backbone_hash(),
            **self.input.fingerprint,
            "text": text.identity if text else None,
            "sentences": [self.semantic_template, self.instance_text] if text else None,
            **center,
            **({} if head.groups == 1 else {"groups": head.groups}),
            **({"background": True} if head.background else {}),
        }

    # ---- the three public steps ------------------------------------------------------------

    def encode_context(self, references, names=None, task="semantic"):
        """Turn references into a context, once per set of references.

        Args:
            references: list of {"image" (3, h, w) or "features" as above, "masks" float (n, h, w)
                in [0, 1], "entity_ids" (n,)}.
            names: {entity id: name or None}; its order is the order of the entities.
            task: "semantic" or "instance"; it chooses the text.

        Raises:
            ValueError: no reference at all, an entity whose masks are all empty (named), or a mask
                of another size than its image.
        """
        if not references:
            raise ValueError("no references: at least one image with a mask is needed")
        features = self.encode_images(references)
        if names is None:
            ids = dict.fromkeys(int(i) for r in references for i in r["entity_ids"])
            names = dict.fromkeys(ids)
        context = self._pool_context(features.map, references, names, task)
        context.fingerprint = self.fingerprint
        return context

    def segment(self, features, context):
        """Mask logits of every entity in every target.

        Args:
            features: Features of B targets.
            context: one Context for all targets, or a list of B.

        Returns:
            list of B float (N, 4g, 4g), logits over the whole canvas, refined where
            ``MODEL.SEGIC.TEST.REFINE`` is on.

        Raises:
            ValueError: a context that was made by another model, not one context per target, or
                features without their pictures where logits are to be refined.
        """
        return self.segment_scored(features, context)[0]

    def segment_scored(self, features, context):
        """``segment``, and quality estimates for ``postprocess``: list of B float (N,)."""
        queries = self._queries(features, context)
        out = self.sem_seg_head(
            features.map,
            features.image_sizes,
            queries,
            crossing=bool(self.cross_entity),
            chunk=self.entity_chunk,
        )
        quality = quality_of(self.score, out.quality, out.similarity)
        contexts = _one_each(context, len(features))
        rows = enumerate(zip(out.logits.split(queries.counts), contexts, strict=True))
        logits = [self.refined(x, features, row, c.task != "instance") for row, (x, c) in rows]
        return logits, list(quality.split(queries.counts))

    def refined(self, logits, features, row=0, walk=True):
        """Logits (N, 4g, 4g) of one of the targets after ``MODEL.SEGIC.TEST.REFINE``.

        Args:
            walk: False: without the random walk, which joins what looks alike; so for instances.
        """
        how, threshold, refined = self.refinement, self.threshold, logits
        if how.walk and walk:
            size = features.image_sizes[row]
            similarity, cells = self.sem_seg_head.self_similarity(features.map[row], size)
            refined = random_walk(refined, similarity, cells, how.walk, how.power, threshold)
        if how.radius:
            picture = features.pictures[row] if features.pictures else None
            if picture is None:
                raise ValueError(
                    f"MODEL.SEGIC.TEST.REFINE.RADIUS is {how.radius}, which needs the pictures of "
                    "the targets beside their features"
                )
            options = {"radius": how.radius, "eps": how.eps, "threshold": threshold}
            refined = refine_logits(refined, picture, self.canvas, **options)
        return logits if refined is logits else unless_lost(refined, logits, threshold)

    def propagated_mask(self, features, context):
        """The propagated masks themselves, list of B float (N, r, r) (Eq. 2)."""
        queries = self._queries(features, context)
        return list(self.sem_seg_head.propagate(features.map, queries).split(queries.counts))

    def scored(self, logits, image_size, quality=None):
        """Scores (N,) of a target's entities (``scores_of``), and their logits, ``NOWHERE`` where
        the score is below ``MODEL.SEGIC.TEST.MIN_SCORE``."""
        scores = scores_of(
            self.score, logits, quality, self.canvas, image_size, threshold=self.threshold
        )
        return scores, abstain(logits, scores, self.min_score)

    def postprocess(self, logits, image_size, height, width, quality=None):
        """Logits (N, 4g, 4g) of a target → masks at its own size.

        Args:
            image_size: (h, w) of the target on the canvas; height, width: its own size.
            quality: of ``segment_scored``, (N,); not needed where ``MODEL.SEGIC.TEST.SCORE`` is
                "mask".

        Returns:
            {"masks": bool (N, height, width), "scores": float (N,)}.
        """
        scores, logits = self.scored(logits, image_size, quality)
        frame = self.canvas, image_size, height, width
        return {"masks": masks_in_image(logits, *frame, self.threshold), "scores": scores}

    # ---- batches of episodes ---------------------------------------------------------------

    def forward(self, batched_inputs):
        """Losses in training, one output dict per episode otherwise."""
        if not self.training:
            return self.inference(batched_inputs)
        references = [r for x in batched_inputs for r in x["references"]]
        # every image of the step exactly once
        features = self.encode_images([*batched_inputs, *references])
        contexts = self._episode_contexts(batched_inputs, features[len(batched_inputs) :].map)
        return training_losses(self, batched_inputs, features, contexts)

    @torch.no_grad()
    def inference(self, batched_inputs, context=None, outputs=None, **sem_seg):
        """Segment a batch of targets.

        Args:
            batched_inputs: episodes, or targets without references where ``context`` is given.
            context: one Context for all targets, or a list of one each; None: each episode's own
                references.
            outputs: any of "masks", "sem_seg", "instances", "propagated_mask"; None: as configured.
            sem_seg: ``num_classes`` and ``background`` of ``to_sem_seg``.

        Returns:
            one dict per target, see ``forward``; entities in the order of the episode or context.
        """
        outputs = self.outputs if outputs is None else outputs
        features = self.encode_images(batched_inputs)
        if context is None:
            references = [r for x in batched_inputs for r in x["references"]]
            reference_features = self.encode_images(references)
            contexts = self._episode_contexts(batched_inputs, reference_features.map)
        else:
            contexts = _one_each(context, len(batched_inputs))
        maps = [None] * len(batched_inputs)
        if "propagated_mask" in outputs:
            maps = self.propagated_mask(features, contexts)
        results = []
        rows = zip(
            batched_inputs,
            contexts,
            *self.segment_scored(features, contexts),
            features.image_sizes,
            maps,
            strict=True,
        )
        for x, ctx, low, quality, size, similarity in rows:
            own = x["height"], x["width"]
            scores, low = self.scored(low, size, quality)
            masks = masks_in_image(low, self.canvas, size, *own, self.threshold)
            result = {"masks": masks, "scores": scores}
            if "sem_seg" in outputs:
                result["sem_seg"] = to_sem_seg(
                    resize_to_image(low, self.canvas, size, *own),
                    ctx.ids,
                    threshold=self.threshold,
                    **{"num_classes": self.num_classes, **sem_seg},
                )
            if "instances" in outputs:
                classes = [e.get("category", e["id"]) for e in x.get("entities", ())] or ctx.ids
                result["instances"] = to_instances(result["masks"], result["scores"], classes)
            if similarity is not None:
                result["propagated_mask"] = resize_to_image(similarity, self.canvas, size, *own)
            results.append(result)
        return results

    @torch.no_grad()
    def find_instances(self, batched_inputs, context, limit=100):
        """One-shot instance segmentation: the objects of every class of a context.

        Every peak of a class's propagated mask is an instance prompt (``MODEL.SEGIC.INSTANCES``);
        all prompts of a target are decoded in one batch, see ``decode_instances``.

        Args:
            batched_inputs: targets, as of ``inference``.
            context: one Context of any number of classes; its task should be "instance".
            limit: instances per target, at most.

        Returns:
            one dict per target, {"instances": Instances at its own size, best first}.
        """
        features, found = self.encode_images(batched_inputs), []
        for i, x in enumerate(batched_inputs):  # the logits of one target at a time
            one = features[i : i + 1]
            size, own = one.image_sizes[0], (x["height"], x["width"])
            queries = self._queries(one, context)
            peaks, out = decode_instances(
                self.sem_seg_head, one.map, [size], queries, self.instances, self.entity_chunk
            )
            quality = quality_of(self.score, out.quality, peaks.similarity)
            scores, logits = self.scored(out.logits, size, quality)
            classes = torch.tensor(context.ids, device=self.device)[peaks.entity]
            content = [max(1, round(n * logits.shape[-1] / self.canvas)) for n in size]
            rows = best_instances(
                logits,
                scores,
                classes,
                content,
                threshold=self.threshold,
                iou=self.instances.NMS_IOU,
                limit=limit,
            )
            best = self.refined(logits[rows], one, walk=False)
            masks = masks_in_image(best, self.canvas, size, *own, self.threshold)
            found.append({"instances": to_instances(masks, scores[rows], classes[rows])})
        return found

    # ---- inside ----------------------------------------------------------------------------

    def _queries(self, features, context):
        contexts = _one_each(context, len(features))
        if len(contexts) != len(features):
            raise ValueError(f"{len(contexts)} contexts for {len(features)} targets")
        for c in {id(c): c for c in contexts}.values():
            if c.fingerprint:
                c.check(self.fingerprint)
        contexts = [c.to(self.device) for c in contexts]
        return Queries.from_contexts(contexts, self.released_prototype, self.input.eps)

    def _episode_contexts(self, batched_inputs, reference_maps):
        """One context per episode, from the feature maps of all references in order."""
        contexts, start = [], 0
        for x in batched_inputs:
            stop = start + len(x["references"])
            contexts.append(self.episode_context(x, reference_maps[start:stop]))
            start = stop
        return contexts

    def episode_context(self, episode, maps):
        """The context of an episode whose references have the feature maps (R, C, g, g)."""
        names = {e["id"]: e["name"] for e in episode["entities"]}
        return self._pool_context(maps, episode["references"], names, episode["task"])

    def _pool_context(self, maps, references, names, task):
        """References with feature maps (R, C, g, g) as a Context of the entities in ``names``."""
        prototypes, units, shots, background = pool_references(
            maps,
            references,
            names,
            self.input,
            center=self.sem_seg_head.feature_mean,
            groups=self.sem_seg_head.groups,
            background=self.sem_seg_head.background,
        )
        meta = self._text_vectors(list(names.values()), task)
        ids, names = list(names), list(names.values())
        return Context(prototypes, units, shots, meta, ids, names, task=task, background=background)

    def _text_vectors(self, names, task):
        if self.text_encoder is None:
            return None
        if task == "instance":
            texts = [self.instance_text] * len(names)
        else:
            texts = [self.semantic_template.format(n) if n else "" for n in names]
        return self.text_encoder.encode(texts).to(self.device)
