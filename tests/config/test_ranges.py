"""Values that make no sense are named, and every shipped value makes sense."""

import pytest

from segic_d2.config.keys import KEYS, check_config
from segic_d2.config.load import load_config
from segic_d2.data import build_train_loader
from segic_d2.modeling.segic.meta_arch import SegIC
from tests.config.test_configs import CONFIGS
from tests.engine.short_runs import short_config

# numbers, names and pairs that are out of any range that the table knows
WRONG = (-2, -0.5, 1e9 + 0.5, "nowhere", (0.0, 1.0), (0.9, 0.1), (0.5,), ("nowhere",), (-1,))
LISTS = {  # more of them
    "INPUT.INSTANCE.AREA": [(0.5, 1.5)],
    "INPUT.INSTANCE.JITTER": [(0.4,), (0.4, 0.4, 0.2, 0.6), (-0.1, 0.0, 0.0, 0.0)],
    "MODEL.SEGIC.BOX_PROMPT_PROB": [1.0],
    "MODEL_EMA.DECAY": [1.0],
    "INPUT.FEATURE_CACHE.MAX_GB": [0.0],
    "INPUT.CANVAS": [0],
    "TEST.MASK_SIZE": [""],
    "DATASETS.DRAW": [("class", "object")],
}


def refused(name):
    """Values of a key's type that its range leaves out."""
    key = KEYS[name]
    fitting = [v for v in WRONG if type(v) is type(key.default)]
    return [v for v in fitting + LISTS.get(name, []) if v not in key.range]


RANGED = [name for name, key in KEYS.items() if key.range is not None]


@pytest.mark.parametrize("name", RANGED)
def test_a_key_out_of_its_range_is_named(name):
    assert refused(name)
    for value in refused(name):
        cfg = load_config(opts=[name, value])
        with pytest.raises(ValueError, match=rf"^{name} is .*; it must be "):
            check_config(cfg, name.split(".")[0])


@pytest.mark.parametrize("name", [n for n in RANGED if n.split(".")[0] in ("MODEL", "INPUT")])
def test_whoever_reads_a_key_checks_it_first(tmp_path, name):
    """Before it builds or reads anything."""
    cfg = short_config(tmp_path, name, refused(name)[-1])
    with pytest.raises(ValueError, match=rf"^{name} is "):
        SegIC.from_config(cfg) if name.startswith("MODEL.") else build_train_loader(cfg)


@pytest.mark.parametrize("config", CONFIGS)
def test_shipped_values_are_in_their_ranges(config):
    check_config(load_config(config), *{name.split(".")[0] for name in KEYS})


def test_parts_are_whole_words_of_a_name():
    cfg = load_config(opts=["TEST.SHOTS", 0, "MODEL_EMA.DECAY", 2.0])
    check_config(cfg, "MODEL", "TEST.SHOT", "TEST.SEED")
    with pytest.raises(ValueError, match=r"^TEST.SHOTS is 0; it must be at least 1$"):
        check_config(cfg, "TEST.SHOTS")


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="^MODEL.SEGIC.REVERSION.PROB is nan; it must be in"):
        check_config(load_config(opts=["MODEL.SEGIC.REVERSION.PROB", float("nan")]), "MODEL")
