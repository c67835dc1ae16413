"""Tokens and image embedding in, one mask and one quality estimate per entity out.

Shape shorthand: M entities, T tokens, W width, g grid side.
"""

import torch
from detectron2.layers.batch_norm import LayerNorm
from torch import Tensor, nn
from torch.nn import functional as F

from .transformer import TwoWayTransformer


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width_in: int, hidden: int, width_out: int, depth: int = 3) -> None:
        super().__init__()
        widths = [width_in, *[hidden] * (depth - 1), width_out]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Two-way transformer, ×4 upscaling, and a hyper-network that turns a token into a mask.

    The layout is Segment Anything's (one quality token, ``mask_tokens`` mask tokens), so that
    released weights fit; only the first mask token yields the mask.
    """

    def __init__(
        self,
        width: int = 256,
        depth: int = 2,
        heads: int = 8,
        mlp: int = 2048,
        downsample: int = 2,
        mask_tokens: int = 4,
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width, depth, heads, mlp, downsample)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(mask_tokens, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, width // 8) for _ in range(mask_tokens)
        )
        self.iou_prediction_head = MLP(width, width, mask_tokens)

    def forward(
        self, image: Tensor, image_pos: Tensor, prompts: Tensor, prompt_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (M, 4g, 4g) and quality estimates (M,).

        Args:
            image: float (M, W, g, g), image embedding plus dense prompt of each entity.
            image_pos: float (W, g, g), positional encoding of the grid.
            prompts: float (M, T, W), sparse prompt tokens.
            prompt_mask: bool (M, T), True where a prompt exists; None: all do.
        """
        size = image.shape[-2:]
        tokens, mask = self.tokens(prompts, prompt_mask)
        image = image.flatten(2).transpose(1, 2)  # (M, g·g, W)
        tokens, image = self.transformer(tokens, image, image_pos.flatten(1).T[None], mask)
        image = self.output_upscaling(image.transpose(1, 2).unflatten(2, size))  # (M, W/8, 4g, 4g)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])  # (M, W/8)
        logits = torch.einsum("mc,mchw->mhw", weights, image)
        return logits, self.iou_prediction_head(tokens[:, 0])[:, 0]

    def tokens(
        self, prompts: Tensor, prompt_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The learned tokens, then the prompts: (M, 1+4+T, W), and which of them exist."""
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1+4, W)
        if prompt_mask is not None:
            prompt_mask = F.pad(prompt_mask, (len(learned), 0), value=True)
        return torch.cat([learned.expand(len(prompts), -1, -1), prompts], dim=1), prompt_mask
