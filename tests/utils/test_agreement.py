"""Values that differ between the processes of a run end all of them with one line."""

import pytest
from detectron2.utils import comm

from segic_d2.utils.agreement import require_alike


def test_one_process_agrees_with_itself():
    require_alike({"SEED": 1, "SOLVER.STEPS": (3, 4)})


def test_what_differs_is_named_with_both_values(monkeypatch):
    third = {"SEED": "1", "SOLVER.STEPS": "(3,)"}
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, own, third])
    require_alike({"SEED": 1, "SOLVER.STEPS": (3,)})
    with pytest.raises(
        ValueError, match="process 2: it must be the same on all machines$"
    ) as error:
        require_alike({"SEED": 1, "SOLVER.STEPS": (3, 4)})
    assert str(error.value).startswith("SOLVER.STEPS is (3, 4) in process 0, and (3,) in process 2")
