"""Inference over a loader. It can be interrupted, and then goes on where it stopped."""
