"""References in, masks out, for people."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from tqdm import tqdm

from ..checkpoint import SegICCheckpointer, save_weights
from ..checkpoint.pretrained import find_model
from ..config.load import load_config, merge_options
from ..io.pictures import AnyPicture
from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..structures.segmentation import Doubt, Segmentation
from ..utils.devices import best_device, is_available
from .doubt import doubt
from .references import AnyReference, read_references
from .shown import Shown, with_pixels
from .targets import AnyPictures, ReadTarget, check_one, each_picture, read_target
from .tuning import Tuning
from .video_options import VideoOptions

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Batch: TypeAlias = list[tuple[AnyPicture, ReadTarget]]
OnError: TypeAlias = Callable[[AnyPicture, Exception], object]

logger = logging.getLogger(__name__)


class InContextPredictor(Tuning):
    """Segments in any number of pictures what the references show.

    >>> predictor = InContextPredictor.from_pretrained("segic-demo")
    >>> predictor.set_references([("cat.jpg", "cat.png", "cat")])
    >>> result = predictor("photo.jpg")
    >>> result.masks, result.scores, result.names, result.label_map()
    >>> result.save("found.png")  # or show(), to_coco(), …: see ``Segmentation``

    Args:
        config: path of a config, name of a shipped one, or a ``CfgNode``.
        weights: trained weights; None: ``MODEL.WEIGHTS``. Without any, the decoder is random and a
            warning says so.
        device: e.g. "cuda:1"; None: the GPU if there is one, else the CPU.
        precision: "fp32", or "bf16" or "fp16" (GPU only) for the pass over the targets. References
            are encoded in fp32, so that a context does not depend on it.
        batch_size: pictures per pass. opts: flat KEY VALUE pairs that override the config.

    Raises:
        FileNotFoundError: config or weights not found.
        ValueError: an unknown precision, a precision or device that this machine lacks, a batch
            size below 1, an unknown key in opts, or weights of another model.
    """

    context: Context | None  # the references, encoded
    video: VideoOptions  # of a ``VideoPredictor``
    model: InContextModel

    def __init__(
        self,
        config: str | os.PathLike[str] | CfgNode,
        weights: str | os.PathLike[str] | None = None,
        device: torch.device | str | None = None,
        precision: str = "fp32",
        batch_size: int = 4,
        opts: Sequence[Any] = (),
    ) -> None:
        if isinstance(config, CfgNode):
            cfg = config.clone()
            cfg.defrost()
            merge_options(cfg, opts)
        else:
            cfg = load_config(str(config), opts)
        try:
            device = torch.device(device or best_device())
        except RuntimeError as error:
            raise ValueError(f"device is {device!r}: {error}") from error
        if not is_available(device):
            raise ValueError(f"device is {str(device)!r}, but torch finds no GPU here")
        _check_run(device, precision, batch_size)
        cfg.MODEL.DEVICE = str(device)
        cfg.MODEL.SEGIC.FEATURE_MEMORY = 0  # pictures rarely come twice
        model = build_model(cfg)
        weights = cfg.MODEL.WEIGHTS if weights is None else str(weights)
        if weights:
            SegICCheckpointer(model, complete=True).load(weights)
        elif model.needs_weights:
            logger.warning("no weights given and MODEL.WEIGHTS is empty: the decoder is random")
        self._set_up(model, precision, batch_size)
        self.video = VideoOptions.from_config(cfg)

    @classmethod
    def from_pretrained(cls, name: str = "segic-demo", **options: Any) -> InContextPredictor:
        """A predictor of a model's name, see ``find_model``, also for errors; ``options`` are as of
        the constructor, such as weights."""
        config, options["weights"] = find_model(name, options.get("weights"))
        return cls(config, **options)

    @classmethod
    def from_model(
        cls, model: nn.Module, precision: str = "fp32", batch_size: int = 4
    ) -> InContextPredictor:
        """A predictor around an existing model, which is put in eval mode and not copied."""
        inner: Any = getattr(model, "module", model)  # out of DDP
        _check_run(inner.device, precision, batch_size)
        predictor = cls.__new__(cls)
        predictor._set_up(inner, precision, batch_size)
        return predictor

    def _set_up(self, model: InContextModel, precision: str, batch_size: int) -> None:
        self.model, self.batch_size = model.eval(), batch_size
        self.precision, self.context = precision, model.context
        self.video = VideoOptions()

    def set_references(
        self, references: Iterable[AnyReference] | str, task: str = "semantic"
    ) -> None:
        """Encode the references once, in place of earlier ones; a call that fails changes nothing.

        ``references``: (image, mask) or (image, mask, names) each, where the mask may be a box,
        points or a scribble, or (image,) of a cut-out; or what a labelling tool exports, such as
        "labelme:/data/cats"; see ``read_references``, also for errors and warnings. ``task``:
        "semantic" or "instance"; it chooses the text (meta instruction).
        """
        self.context = self.encode_references(references, task)

    def encode_references(
        self, references: Iterable[AnyReference] | str, task: str = "semantic"
    ) -> Context:
        """What ``set_references`` sets."""
        if task not in ("semantic", "instance"):
            raise ValueError(f"task is {task!r}; it must be 'semantic' or 'instance'")
        read, names = read_references(references, self.model.input, self.model.complete_mask)
        return self.model.encode_context(read, names, task)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write what is trained of the model to a .pth or .safetensors file, for ``weights``."""
        save_weights(self.model, path)

    def save_context(self, path: str | os.PathLike[str]) -> None:
        """Write the encoded references to a .safetensors file of a few KB per entity, or, of a
        model that remembers reference cells, 400 KB per entity and shot at most. FileExistsError:
        something else is there already."""
        context = self._needed_context()
        self.need_free(path)
        context.save(path)

    def need_free(self, path: str | os.PathLike[str]) -> None:
        """FileExistsError: something else than a context is at a path."""
        if os.path.lexists(path):
            try:
                Context.load(path)
            except (ValueError, OSError) as error:
                raise FileExistsError(
                    f"{path} is there already and is no context of references, which alone are "
                    "written over: give another name"
                ) from error

    def load_context(self, path: str | os.PathLike[str]) -> None:
        """Read encoded references in place of earlier ones; a call that fails changes nothing.
        FileNotFoundError: no file; ValueError: no context, or another model's (the differences are
        named)."""
        context = Context.load(path)
        try:
            context.check(self.model.fingerprint)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self.context = context.to(self.model.device)

    @property
    def entities(self) -> dict[int, str | None]:
        """{id: name} of what the references show. RuntimeError: there are none."""
        context = self._needed_context()
        return dict(zip(context.ids, context.names, strict=True))

    def _needed_context(self) -> Context:
        if self.context is None:
            raise RuntimeError("no references: call set_references or load_context first")
        return self.context

    def __call__(
        self, image: AnyPicture, with_propagated_mask: bool = False, **how: Any
    ) -> Segmentation:
        """Segment one picture; ``how`` are arguments of ``predict``. ValueError: several, or a
        folder."""
        check_one(image)
        return next(self.predict(image, with_propagated_mask, **how))

    def predict(
        self,
        images: AnyPictures,
        with_propagated_mask: bool = False,
        on_error: OnError | None = None,
        instances: bool = False,
        independent: bool = False,
        min_score: float | None = None,
        progress: bool = True,
        with_doubt: bool = False,
    ) -> Iterator[Segmentation]:
        """Segment pictures (``to_picture``) in order, a batch at a time as the results are asked
        for. Entities compete: a pixel has one answer, see ``Segmentation.compete``, and an entity
        without a pixel is left out.

        Args:
            images: pictures, folders with their subfolders, or one of these.
            with_propagated_mask: keep the propagated masks for ``Segmentation.propagated``.
            on_error: called with (image, error) for a picture that cannot be read, or that the
                model has no finite scores for, which is then left out; None: the error is raised
                after the results of the pictures before it.
            instances: results hold single objects, best first, not entities: ids from 1 count them,
                names repeat. ``TEST.DETECTIONS_PER_IMAGE`` bounds them.
            independent: every entity of the references has its own mask, whatever the others have;
                masks may overlap.
            min_score: what has a lower score is taken for absent, and left out; None: where
                entities compete ``MODEL.SEGIC.TEST.ABSENT``, else nothing is left out.
            progress: show a bar where the standard error is a terminal and there are several.
            with_doubt: fill ``Segmentation.doubt``.

        Raises:
            RuntimeError: no references. FileNotFoundError, ValueError: an unreadable picture
                (named), a folder without pictures, a model that does not tell objects apart, or a
                ``min_score`` that is not from 0 to 1.
        """
        least = min_score if min_score is not None else 0.0 if independent else self.model.absent
        if not isinstance(least, int | float) or not 0 <= least <= 1:
            raise ValueError(f"min_score is {min_score!r}; it must be from 0 to 1")
        how = Shown(with_propagated_mask, instances, not independent, least, with_doubt)
        context, (pictures, total) = self._needed_context(), each_picture(images)
        if instances:
            self.model.require_objects()
        if instances and with_propagated_mask:
            raise ValueError("propagated masks are of entities, not of instances: ask for one")
        if instances and context.meta is not None and context.task != "instance":
            logger.warning(
                "the texts of the references ask for whole classes; for instances, set them with "
                "set_references(…, task='instance')"
            )
        shown = progress and total != 1

        def results() -> Iterator[Segmentation]:
            with tqdm(total=total, unit="picture", disable=None if shown else True) as bar:
                while chunk := list(islice(pictures, self.batch_size)):
                    batch, failure = self._read(chunk, on_error)
                    if batch:
                        yield from self._results(batch, context, how, on_error)
                    bar.update(len(chunk))
                    if failure is not None:
                        raise failure

        return results()

    def autocast(self) -> torch.autocast:
        """In which the targets are encoded and segmented, by the precision."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.model.device.type, dtype, enabled=dtype != torch.float32)

    def _read(
        self, chunk: Sequence[AnyPicture], on_error: OnError | None
    ) -> tuple[Batch, Exception | None]:
        """What can be read, and, where nobody takes it, the error that ended it."""
        batch: Batch = []
        for image in chunk:
            try:
                batch.append((image, read_target(image, self.model.input)))
            except (ValueError, OSError) as error:
                if on_error is None:
                    return batch, error
                on_error(image, error)
        return batch, None

    def _results(
        self, batch: Batch, context: Context, how: Shown, on_error: OnError | None
    ) -> Iterator[Segmentation]:
        """The results of a batch. What fails is segmented again, by itself, to tell which it is."""
        found: Iterable[Segmentation]
        try:
            found = self._segment([target for _, target in batch], context, how)
        except ValueError as error:
            if on_error is None:
                raise
            if len(batch) == 1:
                on_error(batch[0][0], error)
                return
            found = (r for one in batch for r in self._results([one], context, how, on_error))
        yield from found

    @torch.no_grad()
    def _segment(
        self, batch: Sequence[ReadTarget], context: Context, how: Shown
    ) -> list[Segmentation]:
        views, pictures, files = zip(*batch, strict=True)
        limit = self.model.stock.limit
        with self.autocast():
            features = self.model.encode_images(views)
            if how.instances:
                found = self.model.segment_instances(features, context, limit)
            else:
                found = self.model.segment(features, context)
            of_classes = found
            if how.doubt and how.instances:
                of_classes = self.model.segment(features, context)
        doubts: list[Doubt | None] = [None] * len(batch)
        if how.doubt:
            doubts = [doubt(one, how.least or self.model.absent) for one in of_classes]
        results = []
        for one, picture, file, own in zip(found, pictures, files, doubts, strict=True):
            if how.instances and len(one) >= limit:
                text = "%s: at most %d objects are kept (TEST.DETECTIONS_PER_IMAGE)"
                logger.warning(text, file or "a picture", limit)
            if not how.propagated:
                one.similarity = None
            results.append(how.of(one).for_people(picture, file))
            if how.instances or how.compete or how.least:
                results[-1] = with_pixels(results[-1], numbered=how.instances)
            results[-1].doubt = own
        return results


def _check_run(device: torch.device, precision: str, batch_size: int) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {tuple(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; on the CPU use 'bf16' or 'fp32'")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; it must be a whole number from 1 on")
