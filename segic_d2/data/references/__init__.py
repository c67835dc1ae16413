"""References of a whole dataset: which images show which classes, and how they are read."""
