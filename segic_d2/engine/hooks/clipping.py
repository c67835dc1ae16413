"""Gradient clipping (``SOLVER.CLIP_GRADIENTS``) where some tensors have no gradient."""

from detectron2.solver.build import _create_gradient_clipper


def clip_gradients(cfg, optimizer):
    """The optimizer, which from now on clips as Detectron2 does: each tensor, before each step.

    Detectron2's own optimizer hands every tensor to torch's clipping, which by value fails on those
    without a gradient, as our unused mask tokens are. Under AMP gradients are unscaled by then.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _create_gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)

    def before_step(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    clip(p)

    optimizer.register_step_pre_hook(before_step)
    return optimizer
