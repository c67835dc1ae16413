"""The embedded dataset of synthetic scenes. They are drawn when it is first used."""
