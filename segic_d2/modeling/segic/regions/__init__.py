"""The training-free region head: cells are matched, regions of the target are chosen."""
