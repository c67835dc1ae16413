import torch

from segic_d2.modeling.outputs import mask_scores, resize_to_image, to_label_map


def test_score_is_the_mean_probability_inside_the_mask():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits[2] = -1
    got = mask_scores(logits, 32, (16, 32))
    for n in range(3):
        inside = [x.sigmoid() for row in logits[n, :4] for x in row if x > 0]
        expected = sum(inside) / len(inside) if inside else torch.tensor(0.0)
        torch.testing.assert_close(got[n], expected)


def test_label_map_takes_the_highest_logit_above_the_threshold():
    logits = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    got = to_label_map(logits, [4, 7, 9], background=0)
    for y in range(5):
        for x in range(6):
            best = max(range(3), key=lambda n, y=y, x=x: logits[n, y, x])
            assert got[y, x] == ([4, 7, 9][best] if logits[best, y, x] > 0 else 0)


def test_the_content_of_the_canvas_fills_the_image():
    low = torch.full((1, 8, 8), -5.0)
    low[:, :4] = 5.0  # the content of a 16×32 image on a canvas of 32
    full = resize_to_image(low, 32, (16, 32), 100, 200)
    assert full.shape == (1, 100, 200)
    assert (full[:, :90] > 0).all()
