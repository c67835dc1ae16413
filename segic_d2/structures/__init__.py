"""What the rooms hand to each other: views, frames, features, contexts, segmentations."""
