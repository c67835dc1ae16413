"""Stable Diffusion's U-Net as a frozen Detectron2 backbone: features of one denoising step.

image → latent of the VAE → noise added once, at ``TIMESTEP`` → U-Net up to the tapped block. The
noise comes from a seed and is the same for every image, so an image has one feature map whatever
stands beside it in the batch.

Shapes: B images, H×W pixels, C channels of the tapped block, s its stride; the latent is H/8×W/8.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ...utils.remote import first_line, missing_on_hub

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel

PARTS = ("unet", "vae", "scheduler", "tokenizer", "text_encoder")  # folders of a diffusers model


class DiffusionBackbone(Backbone):
    """Up-block features of a latent diffusion model, deterministic, without autograd. What lies
    behind the tapped block is dropped, the VAE's decoder too.

    Attributes:
        pixel_mean, pixel_std: 127.5 each: the VAE takes x / 127.5 - 1, and padding is 0 there.
        stride: pixels per cell of the map. divisor: the sides of an input are multiples of it.
        tap: everything but the weights that decides the features, for fingerprints.
        source: where the weights came from.
    """

    frozen = True  # no checkpoint of ours holds it
    pixel_mean, pixel_std = [127.5] * 3, [127.5] * 3

    @configurable
    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
        prompt_embedding: Tensor,
        name: str = "",
        prompt: str = "",
        timestep: int = 261,
        up_block: int = 1,
        seed: int = 0,
        sample_latent: bool = False,
        canvas: int | None = None,
    ) -> None:
        """
        Args:
            scheduler: any with ``alphas_cumprod``.
            prompt_embedding: float (1, tokens, D), the text that conditions the U-Net.
            name, prompt: what they were loaded and made from, for ``tap`` and messages.
            timestep: noise level, 0 to the scheduler's last step. seed: of the noise.
            up_block: 0-based block of the U-Net's way up.
            sample_latent: take a (seeded) sample of the latent instead of its mean.
            canvas: px, side of the square input, checked; None: not known yet.

        Raises:
            ValueError: timestep, block or canvas out of range, naming its key.
        """
        super().__init__()
        self.name = self.source = name
        steps, blocks = len(scheduler.alphas_cumprod), len(unet.up_blocks)
        for key, value, end in (("TIMESTEP", timestep, steps), ("UP_BLOCK", up_block, blocks)):
            if not 0 <= value < end:
                raise ValueError(f"MODEL.DIFFUSION.{key} {value}: {name!r} has 0 to {end - 1}")
        self.divisor = 2 ** (len(vae.config.block_out_channels) - 1 + blocks - 1)
        # each block on the way up but the last doubles the sides
        self.stride = self.divisor // 2 ** min(up_block + 1, blocks - 1)
        self._channels = unet.config.block_out_channels[::-1][up_block]
        if canvas is not None:
            self._check_side("INPUT.CANVAS", canvas)

        unet.up_blocks = unet.up_blocks[: up_block + 1]
        unet.conv_norm_out, unet.conv_out = None, nn.Identity()
        vae.decoder, vae.post_quant_conv = None, None
        self.unet, self.vae = unet, vae
        self.register_buffer("prompt_embedding", prompt_embedding.detach().clone())
        self.register_buffer("signal", scheduler.alphas_cumprod[timestep].detach().clone())
        self.timestep, self.seed, self.sample_latent = timestep, seed, sample_latent
        self.tap = f"{name}/up{up_block}/t{timestep}/seed{seed}/{prompt!r}"
        self.tap += "/sample" if sample_latent else "/mean"
        self.requires_grad_(False).eval()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        options = cfg.MODEL.DIFFUSION
        return {
            **load_pipeline(options.NAME, options.PROMPT),
            "name": options.NAME,
            "prompt": options.PROMPT,
            "timestep": options.TIMESTEP,
            "canvas": cfg.INPUT.CANVAS,
        }

    def _check_side(self, what: str, value: int) -> None:
        if value < self.divisor or value % self.divisor:
            raise ValueError(
                f"{what} {value} is no positive multiple of {self.divisor}, as {self.name!r} needs"
            )

    def train(self, mode: bool = True) -> DiffusionBackbone:
        """Stay in eval mode: a frozen network has no other."""
        return super().train(False)

    def _noise(self, generator: torch.Generator, latent: Tensor) -> Tensor:
        """Standard normal (1, 4, h, w), drawn on the CPU so that every device sees the same."""
        return torch.randn(1, *latent.shape[1:], generator=generator).to(latent)

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images, float (B, 3, H, W), RGB in [-1, 1] → {"feat": float (B, C, H/s, W/s)}; ValueError
        for a side that is no multiple of ``divisor``."""
        for what, value in zip(("height", "width"), images.shape[-2:], strict=True):
            self._check_side(f"input {what}", value)
        generator = torch.Generator().manual_seed(self.seed)
        encoded = self.vae.encode(images).latent_dist
        latent = encoded.mean  # (B, 4, H/8, W/8)
        noise = self._noise(generator, latent)
        if self.sample_latent:
            latent = latent + encoded.std * self._noise(generator, latent)
        latent = latent * self.vae.config.scaling_factor
        noisy = self.signal.sqrt() * latent + (1 - self.signal).sqrt() * noise
        prompt = self.prompt_embedding.expand(len(images), -1, -1)
        return {"feat": self.unet(noisy, self.timestep, encoder_hidden_states=prompt).sample}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"feat": ShapeSpec(channels=self._channels, stride=self.stride)}

    @property
    def size_divisibility(self) -> int:
        return self.divisor


def load_pipeline(name: str, prompt: str = "") -> dict[str, Any]:
    """``unet``, ``vae``, ``scheduler`` and ``prompt_embedding`` of a diffusers model, named as on
    its hub, or as a folder with the sub-folders ``PARTS``.

    Raises:
        ImportError: diffusers or transformers is missing; says how to install them.
        FileNotFoundError: the model cannot be found or read, naming it.
    """
    check_pipeline(name)
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    classes = UNet2DConditionModel, AutoencoderKL, DDIMScheduler, CLIPTokenizer, CLIPTextModel
    loaded = {}
    for part, kind in zip(PARTS, classes, strict=True):
        try:
            loaded[part] = kind.from_pretrained(name, subfolder=part)
        except Exception as error:  # no network, no such model or folder, a file cut off
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise _not_loaded(name, part, reason) from error
    tokenizer, text_encoder = loaded.pop("tokenizer"), loaded.pop("text_encoder")
    length = tokenizer.model_max_length
    tokens = tokenizer(
        prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        embedding = text_encoder.eval()(tokens.input_ids)[0]
    return {**loaded, "prompt_embedding": embedding}


def check_pipeline(name: str) -> None:
    """Make sure that the packages of ``load_pipeline`` are there, and that its model is on this
    machine or its hub can be reached. Raises as ``load_pipeline`` does, within seconds."""
    for package in ("diffusers", "transformers"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                "MODEL.BACKBONE.NAME 'build_diffusion_backbone' needs the packages diffusers and "
                f"transformers ({error}): pip install 'segic_d2[diffusion]'"
            ) from error
    if not os.path.isdir(name):
        reason = missing_on_hub(name, ["unet/config.json"])
        if reason:
            raise _not_loaded(name, PARTS[0], reason)


def _not_loaded(name: str, part: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"MODEL.DIFFUSION.NAME {name!r}: its {part} cannot be loaded ({reason}); place the model "
        f"on this machine as a folder with {', '.join(f'{p}/' for p in PARTS)} and set the key to "
        "its path"
    )
