"""The port of transformers, an oracle of one prompt: its ensemble is another one."""

import pytest
import torch

from segic_d2.checkpoint.seggpt import seggpt_names, seggpt_shapes
from segic_d2.modeling.seggpt.training import lower_half
from tests.modeling.seggpt.parts import tiny_model

port = pytest.importorskip("transformers.models.seggpt", reason="transformers is not installed")


@torch.no_grad()
def test_one_prompt_is_as_the_ports():
    model = tiny_model()
    config = port.SegGptConfig(
        **{"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "mlp_dim": 128},
        **{"image_size": (64, 32), "patch_size": 8, "pretrain_image_size": 32, "merge_index": 1},
        **{"decoder_hidden_size": 8, "intermediate_hidden_state_indices": (2, 3, 4)},
    )
    other = port.SegGptForImageSegmentation(config).eval()
    own = {k.removeprefix("net."): v for k, v in model.state_dict().items()}
    names = seggpt_names(seggpt_shapes(model.state_dict()))
    other.load_state_dict({k: own[v] for k, v in names.items() if k != v})
    pictures, colours = torch.randn(2, 1, 3, 64, 32)
    half = lower_half(8, 4)[None]
    for i, kind in enumerate(("semantic", "instance")):
        found = model.net(pictures, colours, half, torch.tensor([i]))
        told = other(
            **{"pixel_values": pictures[..., 32:, :], "prompt_pixel_values": pictures[..., :32, :]},
            **{"prompt_masks": colours[..., :32, :], "bool_masked_pos": half.flatten(1)},
            **{"embedding_type": kind, "feature_ensemble": False},
        ).pred_masks
        torch.testing.assert_close(found, told, rtol=0, atol=1e-4)
