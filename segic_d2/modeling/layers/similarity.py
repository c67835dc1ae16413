"""Dense correspondence between references and targets (paper Eq. 1-2), as one module.

Shape shorthand: B images, M entities over all of them, v vectors per entity, C feature channels, S
canvas side (px), g grid side (cells), r side of a map, n masks or maps.
"""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from .correspondence import pool_prototypes, propagated_mask
from .precision import without_autocast


class Similarity(nn.Module):
    """Cosines between the features of targets and vectors pooled under the masks of references.

    Args:
        canvas: S. shape: channels and stride of the features.
        feature_mean: float (C,), is left out of the cosines; None: raw cosines.
        groups: equal groups of channels (tapped blocks) with a cosine each.
        propagated: the propagated mask is the mean of so many first groups; 0: all.
        background: also the similarity to what is around the masks.
        upsampled: cosines with features that are upsampled to S/4 (released).

    Raises:
        ValueError: a canvas that is no multiple of the stride, groups that do not part the
            channels, more propagated groups than there are, or parts that exclude each other.
    """

    feature_mean: Tensor | None

    def __init__(
        self,
        canvas: int,
        shape: ShapeSpec,
        feature_mean: Tensor | None = None,
        groups: int = 1,
        propagated: int = 0,
        background: bool = False,
        upsampled: bool = False,
    ) -> None:
        super().__init__()
        channels, stride = shape.channels or 0, shape.stride or 1
        if canvas % stride:
            raise ValueError(
                f"INPUT.CANVAS {canvas} is no multiple of the backbone's stride {stride}"
            )
        if channels % groups:
            raise ValueError(
                f"MODEL.SEGIC.SIMILARITY.GROUPS is {groups}; the backbone's {channels} channels "
                "cannot be parted so"
            )
        if not 0 <= propagated <= groups:
            raise ValueError(
                f"MODEL.SEGIC.SIMILARITY.PROPAGATED is {propagated}; it must be 0 (all) to "
                f"SIMILARITY.GROUPS, {groups}"
            )
        if upsampled and (groups > 1 or background):
            raise ValueError(
                "MODEL.SEGIC.RELEASED is True, which knows neither SIMILARITY.GROUPS above 1 nor "
                "MODEL.SEGIC.BACKGROUND"
            )
        self.canvas, self.stride, self.grid = canvas, stride, canvas // stride
        self.groups, self.propagated = groups, propagated or groups
        self.background, self.upsampled = background, upsampled
        self.register_buffer("feature_mean", feature_mean)

    def pool(self, feature: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """``pool_prototypes`` with this module's mean feature and groups."""
        return pool_prototypes(feature, weights, center=self.feature_mean, groups=self.groups)

    def maps(
        self, features: Tensor, vectors: Tensor, image_index: Tensor, counts: Sequence[int]
    ) -> Tensor:
        """Similarity maps (M, v · groups, r, r); the propagated mask is their ``mean``.

        See ``propagated_mask``; here vectors (M, v, C) are of the entity, then, where it is on, of
        its background.
        """
        if self.feature_mean is not None:
            features = features - self.feature_mean[:, None, None]
        each = vectors.shape[1]
        maps = propagated_mask(
            features,
            vectors.flatten(0, 1),
            image_index.repeat_interleave(each),
            counts=[n * each for n in counts],
            upsample_to=self.canvas // 4 if self.upsampled else 0,
            groups=self.groups,
        )
        return maps.unflatten(0, (-1, each)).flatten(1, -3)

    def mean(self, maps: Tensor) -> Tensor:
        """Propagated masks (M, r, r) of similarity maps (M, n, r, r)."""
        return maps[:, 0] if self.groups == 1 else maps[:, : self.propagated].mean(1)

    @without_autocast
    def within(
        self, features: Tensor, content: tuple[int, int]
    ) -> tuple[Tensor, tuple[int, int, int]]:
        """How alike the cells of one target (C, g, g) are, as the propagated mask sees it.

        Returns:
            float32 (n, n) of the n = rows · columns cells that hold any content ((h, w), px): the
            mean cosine of the first ``propagated`` groups, 4 n² bytes; and (g, rows, columns).
        """
        rows, columns = (-(-x // self.stride) for x in content)
        features = features.float()
        if self.feature_mean is not None:
            features = features - self.feature_mean[:, None, None]
        parts = features[:, :rows, :columns].flatten(1).unflatten(0, (self.groups, -1))
        units = F.normalize(parts[: self.propagated], dim=1, eps=1e-8).flatten(0, 1)
        return units.T @ units / self.propagated, (self.grid, rows, columns)
