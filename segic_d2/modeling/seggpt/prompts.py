"""Contexts of pixels, and the prompts that they become.

Shapes: N entities, K shots, S side of the canvas (px), h×w what of it is content.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...structures.context import PIXELS, Context
from ...structures.episode import Names, Reference
from ...structures.features import Features, tensor_hash
from ...structures.segmentation import Segmentation
from ...structures.view import InputSpec
from .colours import entity_colours, paint, tiled

IMAGE, MASK, COLOUR = "image", "mask", "colour"  # tensors of a context


class Pixels(nn.Module):
    """Pixels in 0–255 and normalised ones, on the canvas. Padding is of the mean colour."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.canvas = spec.canvas
        for name in ("mean", "std"):
            value = torch.tensor(getattr(spec, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Colours (…, 3, h, w) in 0–255 → normalised, float32."""
        return (pixels.to(self.mean) - self.mean) / self.std

    def shown(self, painted: Tensor) -> Tensor:
        """Normalised colours (…, 3, h, w) → float32 in 0–255, clipped."""
        return (painted.float() * self.std + self.mean).clamp(0, 255)

    def square(self, picture: Tensor) -> Tensor:
        """A view (3, h, w), 0–255, normalised and padded right and bottom: (3, S, S)."""
        return self.padded(self.normalised(picture.to(self.mean.device)))

    def padded(self, maps: Tensor) -> Tensor:
        """Maps (…, h, w) padded with zeros right and bottom: (…, S, S). ValueError: they are larger
        than the canvas."""
        height, width = maps.shape[-2:]
        if max(height, width) > self.canvas:
            raise ValueError(
                f"a picture of {width}x{height} px is no view: INPUT.CANVAS is {self.canvas}"
            )
        return F.pad(maps, (0, self.canvas - width, 0, self.canvas - height))


@dataclass
class Prompt:
    """What stands above a target: pictures and colours (K, 3, S, S), normalised, of the entities in
    some rows of a context, whose colours are ``palette`` (n, 3), 0–255."""

    pictures: Tensor
    colours: Tensor
    rows: list[int]
    palette: Tensor

    def __len__(self) -> int:
        return len(self.pictures)


def pixel_context(
    references: Sequence[Reference], names: Names | None, task: str, pixels: Pixels
) -> Context:
    """References (views) as they are: a context of kind "pixels", without a fingerprint.
    ValueError: no reference, or an entity whose masks are all empty (named)."""
    if not references:
        raise ValueError("no references: at least one image with a mask is needed")
    if names is None:
        names = dict.fromkeys(int(i) for r in references for i in r["entity_ids"])
    found: dict[int, list[tuple[Tensor, Tensor]]] = {i: [] for i in names}
    for r in references:
        picture = pixels.shown(pixels.square(r["image"])).round().to(torch.uint8)
        for i, mask in zip(r["entity_ids"], r["masks"], strict=True):
            if int(i) in found and mask.sum() > 0:
                inside = mask >= min(0.5, float(mask.max()))
                found[int(i)].append((picture, pixels.padded(inside.to(picture))))
    for i, shots in found.items():
        if not shots:
            raise ValueError(f"the references show nothing of entity {names[i] or i}")
    return _stacked(found, names, task)


def frame_context(
    features: Features, found: Segmentation, task: str, parts: int, pixels: Pixels
) -> Context:
    """One shot of each entity that was found in one target, see ``InContextModel.remember``: its
    pixels, and the masks in white."""
    if parts:
        raise ValueError("pixels have no parts: TEST.VIDEO.MEMORY 'clusters' is not for this model")
    picture = pixels.shown(features.map[0]).round().to(torch.uint8)
    above = replace(found.frame, size=features.frames[0].content).upsample(found.logits.float())
    inside = above > found.threshold
    if found.exclusive and len(found) > 1:
        rows = torch.arange(len(found), device=above.device)[:, None, None]
        inside &= above.argmax(0) == rows
    masks = pixels.padded(inside.to(picture))
    shots = {i: [(picture, mask)] for i, mask in zip(found.ids, masks, strict=True)}
    return _stacked(shots, dict(zip(found.ids, found.names, strict=True)), task)


def tunable(context: Context, pixels: Pixels) -> Context:
    """The same context with normalised pictures and colours (white masks) that can be learned."""
    known = context.tensors
    if COLOUR not in known:
        white = 255.0 * known[MASK][:, :, None].expand_as(known[IMAGE])
        known = {IMAGE: pixels.normalised(known[IMAGE]), COLOUR: pixels.normalised(white)}
    return replace(context, tensors={k: known[k].detach().clone() for k in (IMAGE, COLOUR)})


def prompts_of(
    context: Context, pixels: Pixels, at_once: int = 1, spatial: bool = False
) -> list[Prompt]:
    """The prompts of a context, which together ask for all of its entities: one each, white on
    black; or of ``at_once`` entities by their colours, with all that a picture shows of them in
    each picture. What was tuned stays as it is, one each. ``spatial``: all shots as one."""
    step = 1 if COLOUR in context.tensors else at_once
    rows = range(len(context))
    found = []
    for part in (rows[i : i + step] for i in range(0, len(rows), step)):
        palette = entity_colours(len(part)).to(pixels.mean.device)
        if COLOUR in context.tensors:
            kept = context.shots[part[0]]
            pictures, colours = (context.tensors[k][part[0]][kept] for k in (IMAGE, COLOUR))
        else:
            pictures, colours = _painted(context, part, palette, pixels)
        if spatial and len(pictures) > 1:
            pictures, colours = tiled(pictures), tiled(colours, nearest=True)
        found.append(Prompt(pictures, colours, list(part), palette))
    return found


def _painted(
    context: Context, rows: Sequence[int], palette: Tensor, pixels: Pixels
) -> tuple[Tensor, Tensor]:
    """The different pictures of some entities, and what each shows of them in their colours."""
    images, masks = context.tensors[IMAGE], context.tensors[MASK]
    shown: dict[object, tuple[Tensor, Tensor]] = {}  # by picture, masks (n, S, S)
    for n, row in enumerate(rows):
        for shot in context.shots[row].nonzero()[:, 0].tolist():
            # of one entity every shot counts, were it twice the same
            key = shot if len(rows) == 1 else tensor_hash(images[row, shot])
            blank = masks.new_zeros(len(rows), *masks.shape[2:])
            own = shown.setdefault(key, (images[row, shot], blank))[1]
            own[n] |= masks[row, shot]
    pictures = torch.stack([picture for picture, _ in shown.values()])
    colours = torch.stack([paint(own, palette) for _, own in shown.values()])
    return pixels.normalised(pictures), pixels.normalised(colours)


def _stacked(
    found: Mapping[int, Sequence[tuple[Tensor, Tensor]]], names: Names, task: str
) -> Context:
    most, (image, mask) = max(map(len, found.values())), next(iter(found.values()))[0]
    shots = torch.zeros(len(found), most, dtype=torch.bool, device=image.device)
    images = image.new_zeros(*shots.shape, *image.shape)
    masks = mask.new_zeros(*shots.shape, *mask.shape)
    for row, own in enumerate(found.values()):
        for column, (picture, inside) in enumerate(own):
            shots[row, column], images[row, column], masks[row, column] = True, picture, inside
    tensors = {IMAGE: images, MASK: masks}
    return Context(PIXELS, shots, tensors, None, list(found), [names[i] for i in found], task)
