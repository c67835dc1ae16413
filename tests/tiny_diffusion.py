"""Latent diffusion models without trained weights: tiny ones, and Stable Diffusion's shape."""

import json

import torch


def stable_diffusion_parts():
    """The architecture of Stable Diffusion 2.1, for the meta device."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    unet = UNet2DConditionModel(
        sample_size=96,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )
    return {
        "unet": unet,
        "vae": vae,
        "scheduler": DDIMScheduler(),
        "prompt_embedding": torch.zeros(1, 77, 1024),
    }


def tiny_parts(seed=0):
    """A random U-Net of four blocks and a VAE of 1/4: the tap of block 1 has 32 channels, stride 8.

    The divisor of the sides is 4 · 2³ = 32.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.25,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=12,
        norm_num_groups=4,
    )
    return {
        "unet": unet.eval(),
        "vae": vae.eval(),
        "scheduler": DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
        ),
        "prompt_embedding": torch.randn(1, 5, 12),
    }


def save_tiny_pipeline(folder, seed=0):
    """The same as files, in the folders of a diffusers model, with a tiny text tower."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    parts = tiny_parts(seed)
    for name in ("unet", "vae", "scheduler"):
        parts[name].save_pretrained(folder / name)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    home = folder / "tokenizer"
    home.mkdir()
    (home / "vocab.json").write_text(json.dumps(vocabulary))
    (home / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(home, model_max_length=9)
    tokenizer.save_pretrained(home)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=9,
        projection_dim=12,
        bos_token_id=len(words),
        eos_token_id=len(words) + 1,
        pad_token_id=len(words) + 1,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
