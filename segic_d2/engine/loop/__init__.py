"""Inference over a loader that can be interrupted and goes on where it stopped."""
