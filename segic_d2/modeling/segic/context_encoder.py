"""How references become prototypes.

Shape shorthand: R references, N entities, K shots, C feature channels, g grid side (cells).
"""

import torch

from ...structures.features import image_size
from ...structures.view import InputSpec
from ...utils.devices import upload
from ..layers.correspondence import pool_mask, pool_prototypes
from ..layers.precision import without_autocast
from . import released


def known_on_host(shown):
    """Which masks weigh something, as a list: all that the host has to wait for in the pooling, for
    the number of shots decides the shape of a context."""
    return shown.tolist()


@without_autocast
def pool_references(
    maps,
    references,
    names,
    spec: InputSpec,
    center=None,
    groups=1,
    background=False,
):
    """Pool every mask of every reference and sort the results by entity and shot.

    Args:
        maps: float (R, C, g, g), features of the references.
        references: R dicts {"image" (3, h, w) or "features" and "image_size" (h, w), "masks"
            (n, h, w) in [0, 1], "entity_ids" (n,)}; its own "empty_mask" goes before the argument.
        names: {entity id: name or None}, in the order of the result.
        spec: canvas and pooling. Binarised masks are thresholded at one half first (released). Of
            empty ones, "no_shot" does not count, "zero" has an all-zero prototype (released).
        center, groups: see ``pool_prototypes``.
        background: also pool what lies around each mask, padding left out.

    Returns:
        prototypes (N, K, C), unit prototypes (N, K, C), which shots exist bool (N, K), and unit
        prototypes of the background (N, K, C) or None.

    Raises:
        ValueError: masks of another size than their image, an entity that nobody asked for, an
            entity without a non-empty mask (named).
    """
    ids = list(names)
    row_of = {entity: row for row, entity in enumerate(ids)}
    device = maps.device
    prototypes = [maps.new_zeros(0, maps.shape[1])]
    units, mass, rows = [maps.new_zeros(0, maps.shape[1])], [maps.new_zeros(0)], []
    around = [maps.new_zeros(0, maps.shape[1])]
    every = []  # which masks count though they weigh nothing
    for feature, reference in zip(maps, references, strict=True):
        masks = upload(reference["masks"], device).to(feature.dtype)
        file = reference.get("file_name", "")
        size = image_size(reference)
        if masks.shape[-2:] != size:
            raise ValueError(
                f"reference {file}: masks of {tuple(masks.shape[-2:])} px for an image of {size} px"
            )
        entities = [int(i) for i in reference["entity_ids"]]
        unknown = [i for i in entities if i not in row_of]
        if unknown or len(entities) != len(masks):
            raise ValueError(
                f"reference {file}: {len(masks)} masks for entities {entities}; asked for are {ids}"
            )
        if spec.binarize:
            masks = released.binarize(masks)
        weights = pool_mask(masks, spec.canvas, feature.shape[-1], spec.mask_pooling)
        pooled = weights
        if background:
            whole = pool_mask(torch.ones_like(masks[:1]), spec.canvas, feature.shape[-1])
            pooled = torch.cat([weights, (whole - weights).clamp(min=0)])
        prototype, unit = pool_prototypes(feature, pooled, spec.eps, center, groups)
        around.append(unit[len(masks) :])
        prototypes.append(prototype[: len(masks)])
        units.append(unit[: len(masks)])
        mass.append(weights.flatten(1).sum(1))
        rows += [row_of[i] for i in entities]
        every += [reference.get("empty_mask", spec.empty_mask) == "zero"] * len(entities)
    mass = torch.cat(mass)
    shown = mass > 0
    if any(every):
        shown = torch.where(upload(every, device), released.every_mask(mass), shown)
    shots, slots, kept = [0] * len(ids), [], []
    for i, counts in enumerate(known_on_host(shown)):
        if counts:
            kept.append(i)
            slots.append(shots[rows[i]])  # the how-manieth shot of its entity it is
            shots[rows[i]] += 1
    missing = [entity for entity, k in zip(ids, shots, strict=True) if k == 0]
    if missing:
        named = ", ".join(f"{i} ({names[i]!r})" if names[i] else str(i) for i in missing)
        files = sorted({str(r["file_name"]) for r in references if "file_name" in r})
        raise ValueError(
            f"no reference with a non-empty mask for entity {named}"
            + (f" in {', '.join(files[:5])}" if files else "")
        )
    most = max(shots, default=0)
    source = upload(kept, device, torch.long)
    place = upload([rows[i] for i in kept], device, torch.long), upload(slots, device, torch.long)

    def by_shot(parts):
        placed = maps.new_zeros(len(ids), most, maps.shape[1])
        placed[place] = torch.cat(parts)[source]
        return placed

    exists = torch.arange(most, device=device) < upload(shots, device)[:, None]
    return by_shot(prototypes), by_shot(units), exists, by_shot(around) if background else None
