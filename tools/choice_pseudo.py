"""Episodes of photographs without masks: what the model's own regions say is a thing."""

import numpy as np
import torch
from PIL import Image, ImageEnhance

from choice_evidence import packed, shares
from segic_d2.io.pictures import read_image
from segic_d2.modeling.segic.regions.linkage import connected_parts, link_regions, region_means
from segic_d2.structures.picture import Picture

SHARES = 0.005, 0.35  # of a photograph that a thing has
BORDER = 0.25  # of its cells at the picture's edge, at most
CUTS = 0.6, 0.75  # of the linkage that things are of


def things(matcher, features, most, rng):
    """Up to ``most`` parts of regions that stand out against the picture's edge, bool (h, w) in
    cells; they do not overlap."""
    content = features.frames[0].content
    size = matcher.cells_of(content)
    units = matcher.units(features.map[0], content, whiten=False).cpu()
    edge = torch.zeros(size, dtype=torch.bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    edge, found = edge.flatten(), []
    for labels in link_regions(units, size, CUTS, matcher.options.position):
        parts = connected_parts(labels, size)
        means, count = region_means(units.T, parts)
        unlike = 1 - (torch.nn.functional.normalize(means.T, dim=1) @ units[edge].T).mean(1)
        border = region_means(edge[None].float(), parts)[0][0]
        share = count / len(units)
        fit = (share >= SHARES[0]) & (share <= SHARES[1]) & (border <= BORDER)
        found += [(float(unlike[i]), parts == i) for i in fit.nonzero()[:, 0].tolist()]
    found.sort(key=lambda x: -x[0] - 0.1 * rng.random())
    kept = []
    for _, mask in found:
        if len(kept) < most and not any((mask & other).any() for other in kept):
            kept.append(mask)
    return [mask.view(size).numpy() for mask in kept]


def changed(image, masks, rng):
    """Another view of an image (H, W, 3) and of masks (n, H, W): cut, mirrored, other colours."""
    height, width = image.shape[:2]
    side = rng.uniform(0.55, 1)
    h, w = int(height * side), int(width * side)
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    image, masks = image[y : y + h, x : x + w], masks[:, y : y + h, x : x + w]
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    picture = Image.fromarray(np.ascontiguousarray(image))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        picture = kind(picture).enhance(rng.uniform(0.6, 1.5))
    return np.asarray(picture), np.ascontiguousarray(masks)


def pseudo(collector, files, rng, most=3, views=2):
    """Examples of photographs; what a view lost is absent."""
    matcher, spec = collector.matcher, collector.model.input
    grid = spec.canvas // 14
    for file in files:
        image = read_image(file)
        with torch.no_grad():
            features = collector.model.encode_images(
                [spec.target(Picture(image), with_pixels=True)]
            )
        cells = things(matcher, features, most, rng)
        if not cells:
            continue
        size = image.shape[1], image.shape[0]
        masks = np.stack([np.asarray(Image.fromarray(m).resize(size, 0)) for m in cells])
        contexts = [collector.context(file, mask, "thing") for mask in masks]
        for _ in range(views):
            view, truths = changed(image, masks, rng)
            with torch.no_grad():
                target = collector.model.encode_images(
                    [spec.target(Picture(view), with_pixels=True)]
                )
            for context, mask in zip(contexts, truths, strict=True):
                evidence, _ = collector(target, [context])
                share = shares(mask, target.frames[0], grid, evidence.size)
                about = {"kind": "thing", "same": True, "together": 1}
                yield packed(evidence, 0, share, about)
