"""The embedded dataset: synthetic scenes, drawn when it is first used."""
