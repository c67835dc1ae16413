"""Damaged and missing data: named before a run, or left out and counted."""
