"""The counts of an evaluator, as arrays and JSON values: of those with ``state_dict()`` and
``load_state_dict(dict)``, and of Detectron2's own (``compat.COUNTS``)."""

from collections.abc import Mapping
from typing import Any

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ...compat import counts_of, parts_of


def has_state(evaluator: DatasetEvaluator) -> bool:
    """Whether ``state_of`` knows how to read this evaluator's counts."""
    if isinstance(evaluator, DatasetEvaluators):
        return all(map(has_state, parts_of(evaluator)))
    return hasattr(evaluator, "load_state_dict") or counts_of(evaluator) is not None


def state_of(evaluator: DatasetEvaluator) -> dict[str, Any]:
    """The counts: dict name → array or JSON value. Several evaluators give "<number>/<name>"."""
    if isinstance(evaluator, DatasetEvaluators):
        states = [state_of(part) for part in parts_of(evaluator)]
        return {f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items()}
    if hasattr(evaluator, "state_dict"):
        return evaluator.state_dict()
    return {name: getattr(evaluator, name) for name in counts_of(evaluator) or ()}


def restore(evaluator: DatasetEvaluator, state: Mapping[str, Any]) -> None:
    """Give a reset evaluator what ``state_of`` read. KeyError, ValueError: it is of another."""
    if isinstance(evaluator, DatasetEvaluators):
        for i, part in enumerate(parts_of(evaluator)):
            own = {k.removeprefix(f"{i}/"): v for k, v in state.items() if k.startswith(f"{i}/")}
            restore(part, own)
    elif hasattr(evaluator, "load_state_dict"):
        evaluator.load_state_dict(state)
    else:
        for name in counts_of(evaluator) or ():
            setattr(evaluator, name, state[name])
