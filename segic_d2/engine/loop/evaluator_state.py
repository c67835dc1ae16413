"""The counts of an evaluator, as arrays and plain values that a file can hold.

An evaluator takes part if it has ``state_dict() -> dict`` and ``load_state_dict(dict)``, whose
values are arrays or values of JSON. Detectron2's own evaluators have neither; ``STOCK`` lists the
attributes that hold their counts.
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
    """The evaluators inside of a ``DatasetEvaluators``; none of any other evaluator."""
    return evaluator._evaluators if isinstance(evaluator, DatasetEvaluators) else []


def has_state(evaluator):
    """Whether ``state_of`` knows how to read this evaluator's counts."""
    if isinstance(evaluator, DatasetEvaluators):
        return all(map(has_state, _parts(evaluator)))
    return hasattr(evaluator, "load_state_dict") or _stock_attributes(evaluator) is not None


def state_of(evaluator):
    """The counts: dict name → array or JSON value. Several evaluators give "<number>/<name>"."""
    if isinstance(evaluator, DatasetEvaluators):
        states = [state_of(part) for part in _parts(evaluator)]
        return {f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items()}
    if hasattr(evaluator, "state_dict"):
        return evaluator.state_dict()
    return {name: getattr(evaluator, name) for name in _stock_attributes(evaluator)}


def restore(evaluator, state):
    """Give an evaluator that was reset the counts that ``state_of`` read.

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
