import torch

from segic_d2.modeling.segic.readout import mask_scores


def test_score_is_the_mean_probability_inside_the_mask():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits[2] = -1
    got = mask_scores(logits, 32, (16, 32))
    for n in range(3):
        inside = [x.sigmoid() for row in logits[n, :4] for x in row if x > 0]
        expected = sum(inside) / len(inside) if inside else torch.tensor(0.0)
        torch.testing.assert_close(got[n], expected)
