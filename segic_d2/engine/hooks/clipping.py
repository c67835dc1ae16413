"""Gradient clipping (``SOLVER.CLIP_GRADIENTS``) that passes over tensors without a gradient."""

from detectron2.solver.build import _create_gradient_clipper


def clip_gradients(cfg, optimizer):
    """Let an optimizer clip each tensor before each step, as Detectron2 does; returns it.

    Detectron2's own optimizer hands every tensor to torch's clipping. By value that fails on
    tensors without a gradient, such as our unused mask tokens. Under AMP gradients are unscaled by
    then.
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
