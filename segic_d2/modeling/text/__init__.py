"""Text vectors of names and sentences."""
