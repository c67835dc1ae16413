"""What an evaluator has counted so far, as arrays and plain values that a file can hold.

An evaluator takes part by ``state_dict() -> dict`` and ``load_state_dict(dict)`` with values that
are arrays or JSON's; Detectron2's own have neither, but the attributes that ``STOCK`` lists.
"""

from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    SemSegEvaluator,
)

STOCK = {
    SemSegEvaluator: ("_conf_matrix", "_b_conf_matrix", "_predictions"),
    COCOEvaluator: ("_predictions",),
    LVISEvaluator: ("_predictions",),
}


def _stock_attributes(evaluator):
    return next((names for kind, names in STOCK.items() if isinstance(evaluator, kind)), None)


def _parts(evaluator):
    """The evaluators of a ``DatasetEvaluators``, else none."""
    return evaluator._evaluators if isinstance(evaluator, DatasetEvaluators) else []


def has_state(evaluator):
    """Whether ``state_of`` can tell what this evaluator has counted."""
    if isinstance(evaluator, DatasetEvaluators):
        return all(map(has_state, _parts(evaluator)))
    return hasattr(evaluator, "load_state_dict") or _stock_attributes(evaluator) is not None


def state_of(evaluator):
    """dict name → array or JSON value; that of several evaluators as "<number>/<name>"."""
    if isinstance(evaluator, DatasetEvaluators):
        states = [state_of(part) for part in _parts(evaluator)]
        return {f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items()}
    if hasattr(evaluator, "state_dict"):
        return evaluator.state_dict()
    return {name: getattr(evaluator, name) for name in _stock_attributes(evaluator)}


def restore(evaluator, state):
    """Let an evaluator that was reset stand where ``state_of`` saw it.

    Raises:
        KeyError, ValueError: the state is another evaluator's.
    """
    if isinstance(evaluator, DatasetEvaluators):
        for i, part in enumerate(_parts(evaluator)):
            prefix = f"{i}/"
            own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            restore(part, own)
    elif hasattr(evaluator, "load_state_dict"):
        evaluator.load_state_dict(state)
    else:
        for name in _stock_attributes(evaluator):
            setattr(evaluator, name, state[name])
