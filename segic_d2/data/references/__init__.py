"""Which images show the classes of a dataset to a model, and how they are read."""
