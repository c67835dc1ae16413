"""Random views, which are drawn again when they lost their object."""

from ...structures.resize import apply_soft


def draw_showing(picture, masks, augmentations, seeds, fallback=None, visible=None):
    """Draw views until every mask is visible.

    Args:
        picture: ``Picture``, of which only the size is needed.
        masks: bool array (N, H, W).
        augmentations: Detectron2 ``AugmentationList``.
        seeds: iterable of ints ≥ 0, of the views to try.
        fallback: augmentations that keep the whole image, for when all attempts failed; None
            keeps the last attempt.
        visible: function of soft masks (N, h, w) → bool; default: each has a positive sum.

    Returns:
        float32 soft masks (N, h, w); the ``TransformList`` that moved them.
    """
    visible = visible or (lambda soft: bool((soft.sum((1, 2)) > 0).all()))
    for seed in seeds:
        transforms = picture.draw(augmentations, seed)
        soft = apply_soft(transforms, masks)
        if visible(soft):
            return soft, transforms
    if fallback is not None:
        transforms = picture.draw(fallback, 0)
        soft = apply_soft(transforms, masks)
    return soft, transforms
