"""The package keeps its limits, and what measures them sees what passes one."""

import pytest
from detectron2.config import get_cfg

import check_limits
from segic_d2.config import KEYS, add_segic_config

FOUND = check_limits.measure()


@pytest.mark.parametrize("name", [name for name in check_limits.LIMITS if name != "keys"])
def test_the_package_keeps_its_limits(name):
    value, where = FOUND[name]
    assert value <= check_limits.LIMITS[name], where


def test_the_table_is_all_that_is_added():
    def leaves(node):
        return sum(leaves(v) if isinstance(v, dict) else 1 for v in node.values())

    before, cfg = get_cfg(), get_cfg()
    add_segic_config(cfg)
    added = leaves(cfg) - leaves(before)
    # Detectron2's own keys stay as they are
    assert added == len(KEYS) <= check_limits.LIMITS["keys"]
    assert cfg.MODEL.META_ARCHITECTURE == before.MODEL.META_ARCHITECTURE
    assert (cfg.INPUT.FORMAT, cfg.SEED) == (before.INPUT.FORMAT, before.SEED)


def test_what_is_measured(tmp_path):
    (tmp_path / "one.py").write_text(
        "class A:\n    def __init__(self, a, *, b: int):\n        self.a = a\n\n"
        "    def _own(self, x): ...\n\n    def good(self, x: int) -> int: ...\n\n"
        "    def bad(self, x: int): ...\n"
    )
    (tmp_path / "two.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass B:\n"
        "    a: int\n    b: int\n    c: int = 0\n\n\ndef worse(x, *more: int) -> None: ...\n"
    )
    assert check_limits.measure(tmp_path) == {
        "lines": (20, "2 files"),
        "longest file": (11, "two.py"),
        "longest constructor": (3, "two.py: B"),
        "untyped": (3, "of 4: one.py:2 __init__, one.py:9 bad, two.py:11 worse"),
    }
