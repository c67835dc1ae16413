"""Damaged and missing data are named before a run, or left out and counted."""
