"""What predictor, evaluations and export may ask of a model: a context encoder and a segmenter
behind a frozen or trained image encoder. Whoever implements the abstract members below works in all
of them; ``forward`` is written with them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..structures.context import Context
from ..structures.episode import Episode, Names, Reference, View
from ..structures.features import Features
from ..structures.picture import Picture
from ..structures.prompts import Marked, Prompt
from ..structures.segmentation import Segmentation
from ..structures.stock import StockForms
from ..structures.view import InputSpec

OUTPUTS = ("masks", "sem_seg", "instances", "propagated_mask")
Contexts = Context | Sequence[Context]
Prompts = Sequence[Mapping[int, Prompt]]


class InContextModel(nn.Module, ABC):
    """A model that segments in targets what references show. It may hold a context, by which inputs
    without references are segmented.

    Attributes:
        context: the one that it holds, or None. stock: how it then answers.
        every_gradient: what a step did not use gets a gradient of zero. DistributedDataParallel and
            Detectron2's clipping by value need one of every parameter; ``engine.Trainer`` does not.
    """

    context: Context | None = None
    stock: StockForms = StockForms()
    every_gradient = True

    @property
    def absent(self) -> float:
        """The score below which a thing is left out where people ask."""
        return self.stock.absent

    @property
    def needs_weights(self) -> bool:
        """Whether it says nothing sensible before it was trained."""
        return True

    @property
    @abstractmethod
    def input(self) -> InputSpec:
        """What the model sees of a picture."""

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All that a context depends on, in JSON's types: another value, another context."""

    @abstractmethod
    def encode_images(self, images: Sequence[Tensor | View]) -> Features:
        """Images (3, h, w), or dicts that hold one as "image", → ``Features``."""

    @abstractmethod
    def encode_context(
        self, references: Sequence[Reference], names: Names | None = None, task: str = "semantic"
    ) -> Context:
        """References (plain views) → a context, once per set of references; without names, entities
        come in the order of appearance. ``task``: "semantic" or "instance". ValueError: no
        reference at all, or an entity whose masks are all empty (named)."""

    @abstractmethod
    def segment(
        self, features: Features, context: Contexts, prompts: Prompts | None = None
    ) -> list[Segmentation]:
        """Segment B targets, by one context for all or a list of B. ``prompts``: at the targets,
        {entity id: prompt} of each; None: none. ValueError: a context of another model, or a prompt
        that this model does not know."""

    def segment_instances(
        self, features: Features, context: Context, limit: int = 100
    ) -> list[Segmentation]:
        """The single objects of every entity in B targets, best first, ``limit`` each at most; ids,
        names and ``classes`` of their entities. ValueError: this model finds none."""
        raise ValueError(f"{type(self).__name__} does not tell the objects of an entity apart")

    def require_objects(self) -> None:
        """Raise, as ``segment_instances`` would, where the model finds no single objects."""
        if type(self).segment_instances is InContextModel.segment_instances:
            raise ValueError(f"{type(self).__name__} does not tell the objects of an entity apart")

    def segment_frame(
        self, features: Features, context: Context, cross_points: bool = False
    ) -> Segmentation:
        """Segment one video frame, the only target of features. ``cross_points``: points of the
        other entities are negative ones of each, as released. ValueError: as of ``segment``, or a
        model without points."""
        if cross_points:
            raise ValueError(f"{type(self).__name__} has no points for TEST.VIDEO.CROSS_POINTS")
        return self.segment(features, context)[0]

    def remember(
        self, features: Features, found: Segmentation, task: str = "instance", parts: int = 0
    ) -> Context:
        """A context of one shot of each entity that was found in one target, whose features are
        known: no pass of the backbone; ids are distinct, and each has a pixel. ``parts``: how many
        "parts" (``Context``) of each. ValueError: this model remembers nothing of targets."""
        raise ValueError(
            f"{type(self).__name__} remembers nothing of frames: TEST.VIDEO.MEMORY must be 'first'"
        )

    def complete_mask(self, picture: Picture, marked: Marked) -> np.ndarray:
        """The mask, bool (H, W), of what a box, points or a scribble mark in a reference's picture.
        ValueError: this model cannot tell."""
        raise ValueError("this model takes masks as references, not boxes or points")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        tensors = (*self.parameters(), *self.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    def losses(self, batched_inputs: Sequence[Episode]) -> dict[str, Tensor]:
        """Losses of a batch of training episodes; their sum is what is optimised.
        NotImplementedError: the model is not trained here."""
        raise NotImplementedError(f"{type(self).__name__} has no training")

    def context_losses(
        self, batched_inputs: Sequence[Episode], context: Context
    ) -> dict[str, Tensor]:
        """Losses of training targets, whose "masks" are of the entities of the context, with this
        context, differentiable in its float tensors. ValueError: the model has none."""
        raise ValueError(f"{type(self).__name__} is not tuned by its context")

    def tunable(self, context: Context) -> Context:
        """The same context with float tensors that can be learned, and that are what they must be,
        such as unit vectors: it is asked after each step, too. ValueError: the model has none."""
        raise ValueError(f"{type(self).__name__} is not tuned by its context")

    def lr_factor(self, name: str) -> float:
        """By what the rate of learning of a parameter, named as in ``named_parameters``, is
        multiplied."""
        return 1.0

    def forward(
        self, batched_inputs: Sequence[Episode]
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """A dict of losses in training, one output dict per target otherwise. Where the model holds
        a context, inputs are plain ones of any size, see ``segment_plain``."""
        if self.training:
            if not all("references" in x for x in batched_inputs):
                raise ValueError(
                    "training needs episodes, which have references: let "
                    "segic_d2.build_train_loader make the loader"
                )
            losses = self.losses(batched_inputs)
            return self._reached(losses) if self.every_gradient else losses
        if self.context is None or any("references" in x for x in batched_inputs):
            return self.inference(batched_inputs)
        return self.segment_plain(batched_inputs)

    @torch.no_grad()
    def segment_plain(self, batched_inputs: Sequence[Episode]) -> list[dict[str, Any]]:
        """Segment inputs of Detectron2's loaders and DefaultPredictor by the context that the model
        holds: float or uint8 "image" (3, H, W) of any size, channels as ``INPUT.FORMAT`` says.

        One dict each, at the input's "height" and "width", classes numbered as ``StockForms`` says.
        A context of the task "instance" gives "instances" (``find_instances`` where the model has
        it); one of "semantic" also "masks", "scores" and "sem_seg", and one instance per entity.
        ValueError: an image of another form, or what ``StockForms.numbers`` raises.
        """
        context, forms = self.context, self.stock
        if not isinstance(context, Context):
            raise ValueError(f"a model holds a Context (Context.load(…)), not {context!r}")
        things, stuff = forms.numbers(context)
        views = [self._on_canvas(x) for x in batched_inputs]
        if context.task == "instance":
            if not things:
                raise ValueError(
                    "a context of instances needs thing_classes; DATASETS.TEST has none"
                )
            context = replace(context.take([*things]), ids=[*things.values()])
            find = getattr(self, "find_instances", None)
            if find is not None:
                return find(views, context, forms.limit)
            return self.inference(views, context, ("instances",))
        results: list[dict[str, Any]] = []
        for one in self.segment(self.encode_images(views), context) if views else ():
            result: dict[str, Any] = {"scores": one.scores, "masks": one.masks}
            if things:
                own = one.take([*things])
                own.classes = [*things.values()]
                found = own.instances()
                best = found.scores.argsort(descending=True)[: forms.limit].sort().values
                result["instances"] = found[best]
            if stuff:
                own = replace(one.take([*stuff]), ids=[*stuff.values()])
                result["sem_seg"] = own.sem_seg(*forms.channels(context))
            results.append(result)
        return results

    def _reached(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same losses, the first of which depends on every trained parameter, by nothing."""
        nothing = sum(p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad)
        return {k: v if i else v + nothing for i, (k, v) in enumerate(losses.items())}

    def _on_canvas(self, x: Episode) -> Episode:
        """A plain input, whose image (3, H, W) may have any size, in the plain view of targets."""
        if "features" in x:
            return x
        shape = tuple(x["image"].shape)
        if len(shape) != 3 or shape[0] != 3:
            raise ValueError(f"an image has the shape {shape}; it must be (3, H, W)")
        image = x["image"].flip(0) if self.stock.format == "BGR" else x["image"]
        if self.input.seen(image.shape[-2:]):
            return {**x, "image": image}
        pixels = image.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        view = self.input.target(Picture(pixels))
        return {"height": pixels.shape[0], "width": pixels.shape[1], **x, **view}

    @torch.no_grad()
    def inference(
        self,
        batched_inputs: Sequence[Episode],
        context: Contexts | None = None,
        outputs: Sequence[str] = ("masks",),
        num_classes: int | None = None,
        background: int | None = None,
    ) -> list[dict[str, Any]]:
        """Segment a batch of targets: one dict each, of Detectron2's forms and the target's own
        size, with the entities in the order of the episode or context.

        Args:
            batched_inputs: episodes, or targets without references where there is a context.
            context: one for all targets, or a list of one each; None: of each episode's own
                references.
            outputs: any of ``OUTPUTS``; scores are always there.
            num_classes, background: of "sem_seg", see ``Segmentation.sem_seg``.

        Raises:
            ValueError: an output that does not exist; neither references nor a context.
        """
        unknown = [name for name in outputs if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"outputs has {unknown[0]!r}; there are {OUTPUTS}")
        features = self.encode_images(batched_inputs)
        contexts = self._contexts(batched_inputs, context)
        results = []
        for x, found in zip(batched_inputs, self.segment(features, contexts), strict=True):
            entities = x.get("entities", ())
            found.classes = [e.get("category", e["id"]) for e in entities] or None
            result: dict[str, Any] = {"scores": found.scores}
            if "masks" in outputs:
                result["masks"] = found.masks
            if "sem_seg" in outputs:
                if num_classes is None:
                    raise ValueError("the output 'sem_seg' needs num_classes")
                result["sem_seg"] = found.sem_seg(num_classes, background)
            if "instances" in outputs:
                result["instances"] = found.instances()
            if "propagated_mask" in outputs:
                result["propagated_mask"] = found.propagated
            results.append(result)
        return results

    def _contexts(self, episodes: Sequence[Episode], context: Contexts | None) -> list[Context]:
        if context is None and not any("references" in x for x in episodes):
            context = self.context
        if context is not None:
            return one_each(context, len(episodes))
        if not all("references" in x for x in episodes):
            raise ValueError(
                "an input has no references: give each input of a batch its own, or none, and let "
                "the model hold a context (model.context = Context.load(…))"
            )
        return self.episode_contexts(episodes)

    def episode_contexts(self, episodes: Sequence[Episode]) -> list[Context]:
        """The context of each episode, of its own references."""
        contexts = []
        for x in episodes:
            names = {e["id"]: e["name"] for e in x["entities"]}
            contexts.append(self.encode_context(x["references"], names, x["task"]))
        return contexts


def one_each(context: Contexts, number: int) -> list[Context]:
    """One context for each of a number of targets, or a list as it is. ValueError: another
    length."""
    if isinstance(context, Context):
        return [context] * number
    if len(context) != number:
        raise ValueError(f"{len(context)} contexts for {number} targets")
    return list(context)
