"""The released decoder's own numbers, where the reference files stand beside the checkout."""

from pathlib import Path

import pytest
import torch

from segic_d2.modeling.context import Context, Queries
from segic_d2.modeling.correspondence import best_points, pool_mask, pool_prototypes
from segic_d2.modeling.losses import mask_losses, sample_points
from segic_d2.modeling.mask_head import InContextMaskHead

PREFIX = Path(__file__).resolve().parents[3] / "shared/golden/golden_seed0"
pytestmark = pytest.mark.skipif(
    not PREFIX.with_suffix(".json").exists(), reason="the reference files are not here"
)
CASES = {"A": ([1], 1), "B": ([2], 2), "C": ([1], 1), "E": ([1, 2, 3, 4, 5], None)}


@pytest.fixture(scope="module")
def golden():
    from safetensors.torch import load_file

    return load_file(f"{PREFIX}.safetensors")


@pytest.fixture(scope="module")
def head():
    from safetensors.torch import load_file

    model = InContextMaskHead(
        channels=384,
        stride=14,
        canvas=224,
        points_on="canvas",
        points_in_padding=True,
        interpolate="features",
    )
    model.load_state_dict(load_file(f"{PREFIX}_weights.safetensors"))
    return model.eval()


def close(got, expected):
    tolerance = max(1e-6, 1e-4 * expected.abs().max().item())
    torch.testing.assert_close(got.reshape(expected.shape), expected, atol=tolerance, rtol=0)


def context_of(golden, case):
    """The references of a case, pooled by the released rule."""
    references, text = CASES[case]
    bank, table = golden["in/feat_bank"], golden["in/text_table"]
    if case == "E":  # one mask per reference image, not binarised first, one text each
        masks, meta = golden["E/in/ref_masks"] / 255, table[3:8]
        groups = list(zip(references, masks[:, None], strict=True))
    else:
        masks = (golden[f"{case}/in/ref_mask"] / 255 > 0.5).float()
        groups, meta = [(references[0], masks)], table[[text] * len(masks)]
    pooled = [pool_prototypes(bank[r], pool_mask(m, 224, 16, "center")) for r, m in groups]
    prototypes, units = (torch.cat(x)[:, None] for x in zip(*pooled, strict=True))
    count = len(prototypes)
    shots = torch.ones(count, 1, dtype=torch.bool)
    return Context(prototypes, units, shots, meta, list(range(count)), [None] * count)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_inference_path(golden, head, case):
    context = context_of(golden, case)
    close(context.prototypes, golden[f"{case}/inst_feat{'s' * (case == 'E')}"])
    queries = Queries.from_contexts([context], released=True)
    target, crossing = golden["in/feat_bank"][:1], torch.tensor([True])
    maps = head.propagate(target, queries)
    close(maps, golden[f"{case}/sim_low"])
    full = head.to_canvas(maps)
    close(full, golden[f"{case}/sim_full"])
    everywhere = torch.ones_like(full, dtype=torch.bool)
    close(best_points(full, everywhere, 1, 14, 224)[0], golden[f"{case}/points"])
    points, _ = head.point_tokens(full, everywhere, None)
    tokens, _ = head.context_tokens(queries, crossing)
    close(torch.cat([points, tokens], 1), golden[f"{case}/sparse"])
    close(head.prompt_encoder.encode_masks(full[:, None]), golden[f"{case}/dense"])
    out = head(target, [(224, 224)], queries, crossing=crossing)
    close(out.logits, golden[f"{case}/low_res_masks"])
    close(out.quality, golden[f"{case}/iou"])


@torch.no_grad()
def test_neck_grid_and_prompts(golden, head):
    close(head.neck(golden["in/feat_bank"][:1]), golden["A/neck"])
    encoder = head.prompt_encoder
    close(encoder.pe_layer.grid(16, 16), golden["A/image_pe"])
    points = encoder.encode_points(golden["X/in/points"], golden["X/in/point_labels"].long())
    got = torch.cat([points, encoder.encode_boxes(golden["X/in/boxes"])], 1)
    close(got, golden["X/sparse_points_boxes_text"][:, :4])


def test_losses_and_points(golden):
    logits = golden["F/in/logits"][:, 0].clone().requires_grad_()
    torch.manual_seed(0)
    points = sample_points(logits, 12544, 3.0, 0.75)
    close(points, golden["F/point_coords"])
    bce, dice = mask_losses(logits, golden["F/in/labels"][:, 0], points)
    close(bce.mean(), golden["F/loss_mask"])
    close(dice.mean(), golden["F/loss_dice"])
    (bce.mean() + dice.mean()).backward()
    close(logits.grad[:, None], golden["F/grad_logits"])
