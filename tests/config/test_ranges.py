"""Values that make no sense are named, and every shipped value makes sense."""

import pytest

from segic_d2.config.load import load_config
from segic_d2.config.ranges import INTERVALS, NUMBERS, check_ranges
from segic_d2.data import build_train_loader
from segic_d2.modeling.segic.meta_arch import SegIC
from tests.config.test_configs import CONFIGS, value_of
from tests.engine.short_runs import short_config

CASES = [(k, low - 1) for k, (low, _) in NUMBERS.items()]
CASES += [(k, high + 1) for k, (_, high) in NUMBERS.items() if high == 1]
CASES += [(k, v) for k in INTERVALS for v in ((0.0, 1.0), (0.9, 0.1), (0.5,))]
CASES += [("INPUT.INSTANCE.AREA", (0.5, 1.5)), ("MODEL.SEGIC.BOX_PROMPT_PROB", 1)]
CASES += [("INPUT.INSTANCE.JITTER", v) for v in ((0.4,), (0.4, 0.4, 0.2, 0.6), (-0.1, 0, 0, 0))]


@pytest.mark.parametrize("key, value", CASES)
def test_a_key_out_of_its_range_is_named(tmp_path, key, value):
    """By the one of the two that reads it, before it builds or reads anything."""
    default = value_of(load_config(), key)
    cfg = short_config(tmp_path, key, type(default)(value))
    with pytest.raises(ValueError, match=rf"^{key} is "):
        SegIC.from_config(cfg) if key.startswith("MODEL.") else build_train_loader(cfg)


@pytest.mark.parametrize("config", CONFIGS)
def test_shipped_values_are_in_their_ranges(config):
    cfg = load_config(config)
    check_ranges(cfg, "MODEL")
    check_ranges(cfg, "INPUT")
