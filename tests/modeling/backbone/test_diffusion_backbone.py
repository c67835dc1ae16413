"""The diffusion backbone on a tiny random model, against the same steps written out."""

import copy
import logging
import sys

import pytest
import torch
from detectron2.modeling import build_backbone, build_model

from segic_d2.modeling.backbone.diffusion_backbone import DiffusionBackbone, load_pipeline
from tests import tiny_diffusion
from tests.tiny import tiny_config, tiny_episode

REASON = "diffusers and transformers are optional: pip install 'segic_d2[diffusion]'"
needs_diffusers = pytest.mark.usefixtures("diffusers")


@pytest.fixture(scope="module")
def diffusers():
    pytest.importorskip("transformers", reason=REASON)
    return pytest.importorskip("diffusers", reason=REASON)


@pytest.fixture(scope="module")
def parts(diffusers):
    return tiny_diffusion.tiny_parts()


@pytest.fixture(scope="module")
def folder(diffusers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion")
    tiny_diffusion.save_tiny_pipeline(folder)
    return folder


def backbone(parts, **options):
    return DiffusionBackbone(**copy.deepcopy(parts), **{"name": "tiny", **options})


def images(number=2, height=64, width=96, seed=0):
    return (
        torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    )


def slow_features(parts, x, timestep=261, up_block=1, seed=0, sample_latent=False):
    """The whole pipeline, one image at a time; the features are caught on their way."""
    unet, vae, scheduler = (parts[k] for k in ("unet", "vae", "scheduler"))
    caught = []
    hook = unet.up_blocks[up_block].register_forward_hook(lambda m, i, out: caught.append(out))
    with torch.no_grad():
        for image in x:
            generator = torch.Generator().manual_seed(seed)
            encoded = vae.encode(image[None]).latent_dist
            noise = torch.randn(encoded.mean.shape, generator=generator)
            latent = encoded.mean
            if sample_latent:
                latent = latent + encoded.std * torch.randn(latent.shape, generator=generator)
            latent = latent * vae.config.scaling_factor
            noisy = scheduler.add_noise(latent, noise, torch.tensor([timestep]))
            unet(noisy, timestep, encoder_hidden_states=parts["prompt_embedding"])
    hook.remove()
    return torch.cat(caught)


@pytest.mark.parametrize(
    "up_block, channels, stride", [(0, 32, 16), (1, 32, 8), (2, 16, 4), (3, 8, 4)]
)
def test_features_are_those_of_the_whole_pipeline(parts, up_block, channels, stride):
    model, x = backbone(parts, up_block=up_block), images()
    shape = model.output_shape()["feat"]
    assert (shape.channels, shape.stride) == (channels, stride)
    got = model(x)["feat"]
    assert got.shape == (2, channels, 64 // stride, 96 // stride)
    torch.testing.assert_close(
        got, slow_features(parts, x, up_block=up_block), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("options", [{"timestep": 7}, {"seed": 3}, {"sample_latent": True}])
def test_every_option_changes_the_features_as_it_should(parts, options):
    x = images()
    got, plain = backbone(parts, **options)(x)["feat"], backbone(parts)(x)["feat"]
    torch.testing.assert_close(got, slow_features(parts, x, **options), atol=1e-5, rtol=1e-4)
    assert (got - plain).abs().max() > 1e-3
    assert backbone(parts, **options).tap != backbone(parts).tap


def test_an_image_has_one_feature_map_whatever_the_batch(parts):
    """And whatever the global generator: the noise depends on the seed alone."""
    model, x = backbone(parts), images(3)
    torch.manual_seed(1)
    together = model(x)["feat"]
    torch.manual_seed(2)
    alone = model(x[2:])["feat"]
    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(model(x)["feat"], together)
    same = model(x[:1].repeat(2, 1, 1, 1))["feat"]
    torch.testing.assert_close(same[0], same[1])


def test_it_is_frozen_pruned_and_without_autograd(parts):
    model = backbone(parts).train()
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(images().requires_grad_())["feat"].requires_grad
    assert len(model.unet.up_blocks) == 2 and model.vae.decoder is None
    assert {"prompt_embedding", "signal"} <= model.state_dict().keys()  # known by a fingerprint


def test_errors_name_the_key(parts):
    for key, value in (("timestep", 1000), ("up_block", 4), ("timestep", -1)):
        with pytest.raises(ValueError, match=rf"MODEL.DIFFUSION.{key.upper()} {value}: 'tiny' has"):
            backbone(parts, **{key: value})
    with pytest.raises(ValueError, match="INPUT.CANVAS 112 is no positive multiple of 32"):
        backbone(parts, canvas=112)
    with pytest.raises(ValueError, match="input width 72 is no positive multiple of 32"):
        backbone(parts)(images(width=72))


def config(folder, *opts):
    return tiny_config(
        *("MODEL.BACKBONE.NAME", "build_diffusion_backbone", "MODEL.DIFFUSION.NAME", str(folder)),
        *opts,
        canvas=128,
    )


def test_a_model_is_loaded_from_its_folder(folder, parts):
    """The registry's backbone, from files; the prompt is encoded with the tower beside them."""
    model = build_backbone(config(folder, "MODEL.DIFFUSION.TIMESTEP", 7))
    x = images(1)
    loaded = load_pipeline(str(folder))
    assert loaded["prompt_embedding"].shape == (1, 9, 12)
    expected = slow_features({**parts, "prompt_embedding": loaded["prompt_embedding"]}, x, 7)
    torch.testing.assert_close(model(x)["feat"], expected, atol=1e-5, rtol=1e-4)
    other = load_pipeline(str(folder), "a cat")["prompt_embedding"]
    assert not torch.equal(other, loaded["prompt_embedding"])
    assert build_backbone(config(folder, "MODEL.DIFFUSION.PROMPT", "a cat")).tap != model.tap


def test_segic_trains_and_segments_on_it(folder, caplog):
    """Pixels enter as x / 127.5 - 1 and padding as 0; the weights are those of the pipeline."""
    with caplog.at_level(logging.INFO):
        model = build_model(config(folder))
    assert "the backbone is random" not in caplog.text
    assert f"backbone loaded from {folder}" in caplog.text
    assert (
        model.encoder.pixel_mean.flatten().tolist()
        == model.encoder.pixel_std.flatten().tolist()
        == [127.5] * 3
    )
    white = torch.full((3, 64, 128), 255, dtype=torch.uint8)
    entered = torch.zeros(1, 3, 128, 128)
    entered[:, :, :64] = 1
    torch.testing.assert_close(
        model.encode_images([white]).map, model.backbone(entered)["feat"], atol=1e-5, rtol=1e-4
    )
    losses = model.train()([tiny_episode(i, training=True) for i in range(2)])
    sum(losses.values()).backward()
    assert model.sem_seg_head.neck[0].weight.grad.abs().sum() > 0
    (result,) = model.eval()([tiny_episode(0)])
    assert result["masks"].shape == (2, 168, 224)


@needs_diffusers
def test_a_model_that_cannot_be_loaded_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FileNotFoundError, match=rf"DIFFUSION.NAME '{tmp_path}': its unet cannot.*vae/"
    ):
        load_pipeline(str(tmp_path))


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_package_says_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"build_diffusion_backbone.*segic_d2\[diffusion\]"):
        build_backbone(config("stabilityai/stable-diffusion-2-1"))


@needs_diffusers
def test_stable_diffusion_has_the_published_width_and_stride():
    """1280 channels at stride 16, without weights; the U-Net has its 866 M parameters."""
    with torch.device("meta"):
        sd = tiny_diffusion.stable_diffusion_parts()
        sd["scheduler"].alphas_cumprod = torch.ones(1000)
        assert sum(p.numel() for p in sd["unet"].parameters()) == 865_910_724
        model = DiffusionBackbone(**sd, name="sd", canvas=1024)
        shape = model.output_shape()["feat"]
        assert (shape.channels, shape.stride) == (1280, 16)
        assert model(torch.empty(1, 3, 1024, 1024))["feat"].shape == (1, 1280, 64, 64)
