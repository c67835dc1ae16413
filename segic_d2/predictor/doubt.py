"""How doubtful what a model says of a picture is."""

from __future__ import annotations

from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..structures.features import Features
from ..structures.segmentation import Doubt


def doubts_of(model: InContextModel, features: Features, context: Context) -> list[Doubt]:
    """The doubt of each target."""
    found = []
    for one in model.segment(features, context):
        some = one.compete()
        titles = [n or f"entity {i}" for i, n in zip(some.ids, some.names, strict=True)]
        scores = [float(s) for s in some.scores]
        unsure = [1 - abs(2 * s - 1) for s in scores]
        worst = max(range(len(unsure)), key=unsure.__getitem__)
        found.append(Doubt(unsure[worst], f"{titles[worst]} {scores[worst]:.2f}"))
    return found
