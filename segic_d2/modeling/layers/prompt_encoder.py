"""Points, boxes and propagated masks as decoder embeddings, in the layout of Segment Anything.

Shape shorthand: M entities, k points, W decoder width, S canvas side (px), g grid side (cells).
"""

import math

import torch
from detectron2.layers.batch_norm import LayerNorm
from torch import Tensor, nn

from ...utils.devices import upload
from .precision import without_autocast
from .upsampled import convolve_upsampled

NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, NOT_A_POINT = 0, 1, 2, 3, -1


class FourierEncoding(nn.Module):
    """Random Fourier encoding of positions; the random matrix is saved with the weights."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    @without_autocast
    def forward(self, xy: Tensor) -> Tensor:
        """Encode positions ``xy`` (..., 2) in [0, 1] as (..., W)."""
        phase = (2 * xy - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Encoding of the cell centres of a grid: (W, height, width)."""
        like = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
        xy = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (h, w, 2)
        return self(xy).permute(2, 0, 1)


class PromptEncoder(nn.Module):
    """Encodes sparse (points, boxes) and dense (propagated mask) geometric instructions.

    Args:
        width: W. canvas: S; point coordinates live on it.
        mask_strides: of the mask encoder's two patch convolutions; their product is the backbone's.
        maps: n, similarity maps of an entity that the mask encoder takes in; the paper's is one.
    """

    def __init__(
        self, width: int, canvas: int, mask_strides: tuple[int, int], maps: int = 1
    ) -> None:
        super().__init__()
        self.canvas = canvas
        self.pe_layer = FourierEncoding(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        first, second = mask_strides
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(maps, 4 * maps, first, stride=first),
            LayerNorm(4 * maps),
            nn.GELU(),
            nn.Conv2d(4 * maps, 16, second, stride=second),
            LayerNorm(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def encode_points(self, xy: Tensor, labels: Tensor) -> Tensor:
        """Encode points (x, y) on the canvas, float (M, k, 2), as (M, k, W).

        Pixel centres are integers. ``labels`` int (M, k): POSITIVE, NEGATIVE, BOX_* or NOT_A_POINT,
        which carries no position.
        """
        position = self.pe_layer((xy + 0.5) / self.canvas)
        position = position * (labels != NOT_A_POINT).unsqueeze(-1)
        kinds = torch.cat([e.weight for e in (*self.point_embeddings, self.not_a_point_embed)])
        return position + kinds[labels]  # label -1 picks the last row

    def encode_boxes(self, boxes: Tensor) -> Tensor:
        """Encode boxes (M, 4), xyxy pixel indices, as two corner tokens (M, 2, W)."""
        labels = upload([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], boxes.device, torch.long)
        return self.encode_points(boxes.reshape(-1, 2, 2), labels.expand(len(boxes), 2))

    def no_point(self, count: int) -> Tensor:
        """The padding token that stands where no box is given: (count, 1, W)."""
        return self.not_a_point_embed.weight.expand(count, 1, -1)

    def encode_masks(self, masks: Tensor) -> Tensor:
        """Encode similarity maps (M, n, S, S) as dense embeddings (M, W, g, g)."""
        return self.mask_downscaling(masks)

    def hidden_masks(self, masks: Tensor) -> Tensor:
        """``encode_masks`` up to its last, 1×1 convolution: (M, 16, g, g). ``masks`` may be (M, n,
        g, g), which are taken as interpolated to the canvas."""
        first, *others, _ = self.mask_downscaling
        if masks.shape[-1] == self.canvas:
            found = first(masks)
        else:
            assert isinstance(first, nn.Conv2d)
            found = convolve_upsampled(masks, first, self.canvas)
        for layer in others:
            found = layer(found)
        return found

    def no_mask(self) -> Tensor:
        """The dense embedding without a propagated mask, (1, W, 1, 1)."""
        return self.no_mask_embed.weight.reshape(1, -1, 1, 1)
