"""The parts of ``tools/same_behaviour.py``: what is recorded, how, and how it is compared."""
