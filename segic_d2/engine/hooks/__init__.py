"""Hooks of the trainer, and the clipping of its gradients."""
