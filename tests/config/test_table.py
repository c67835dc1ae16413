"""Tables of keys: how they enter a config, and which values their ranges refuse."""

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg

from segic_d2.config import add_segic_config, load_config
from segic_d2.config.table import (
    Key,
    above,
    add_keys,
    below,
    check_keys,
    each,
    interval,
    least,
    of,
    section,
    within,
)


@pytest.mark.parametrize(
    "range_, good, bad, text",
    [
        (least(1), (1, 9), (0, -1), "at least 1"),
        (within(0, 1), (0, 0.5, 1), (-0.1, 1.1), "in [0, 1]"),
        (below(0, 1), (0, 0.99), (1, -0.1), "in [0, 1)"),
        (above(0), (0.1, 7), (0, -1), "above 0"),
        (of("a", "b", "c"), ("a", "c"), ("d", "", "A"), "'a', 'b' or 'c'"),
        (of("a", "b"), ("a",), ("c",), "'a' or 'b'"),
        (each(least(1)), ((), (1, 2)), ((1, 0),), "a list, each at least 1"),
        (
            interval(1),
            ((0.1, 1), (0.5, 0.5)),
            ((0, 0.5), (0.6, 0.5), (0.5, 1.1), (0.5,), (0.1, 0.2, 0.3)),
            "(low, high), 0 < low ≤ high ≤ 1",
        ),
        (interval(), ((0.1, 99),), ((-1, 1),), "(low, high), 0 < low ≤ high"),
    ],
)
def test_a_range_holds_what_its_text_says(range_, good, bad, text):
    assert range_.text == text
    assert all(map(range_.holds, good)) and not any(map(range_.holds, bad))


TABLE = {
    **section("A.B", ONE=Key(1, "a number", least(0)), TWO=Key("x", "a word", of("x", "y"))),
    **section("A", LAST=Key((), "numbers", each(least(0))), FREE=Key("", "anything")),
    **section("AB", ONE=Key(1, "another number", least(0))),
}


def config(**values):
    cfg = CfgNode({"A": {"OWN": 5}})
    add_keys(cfg, TABLE)
    for name, value in values.items():
        cfg.merge_from_list([name.replace("__", "."), value])
    return cfg


def test_keys_enter_a_config_beside_those_it_has():
    cfg = config()
    assert cfg.A == {"OWN": 5, "B": {"ONE": 1, "TWO": "x"}, "LAST": (), "FREE": ""}
    assert cfg.AB.ONE == 1 and list(TABLE) == ["A.B.ONE", "A.B.TWO", "A.LAST", "A.FREE", "AB.ONE"]


def test_what_a_config_has_stays():
    cfg = config(A__B__TWO="y", A__LAST=(3,))
    add_keys(cfg, TABLE)  # twice
    assert cfg.A.B.TWO == "y" and cfg.A.LAST == (3,) and cfg.A.OWN == 5
    cfg.freeze()
    add_keys(cfg, TABLE)  # nothing is lacking


@pytest.mark.parametrize("order", ["before", "after", "twice", "its own keys"])
def test_a_guests_config_keeps_its_choices_in_any_order(tmp_path, order):
    """A file that names our keys can be read after they are there; others at any time."""
    chosen = {"MODEL": {"META_ARCHITECTURE": "GeneralizedRCNN"}, "SEED": 3}
    chosen |= {"INPUT": {"FORMAT": "BGR"}, "SOLVER": {"BASE_LR": 0.5}}
    ours = {"MODEL": {"TIMM": {"NAME": "test_vit", "BLOCKS": [1]}}, "TEST": {"SHOTS": 3}}
    ours |= {"INPUT": {"SEMANTIC": {"SCALE": "(1.0, 1.0)"}}}  # as YAML has tuples
    plain, own = tmp_path / "plain.yaml", tmp_path / "own.yaml"
    plain.write_text(yaml.safe_dump(chosen))
    own.write_text(yaml.safe_dump(ours))
    cfg = get_cfg()
    if order == "its own keys":
        cfg.set_new_allowed(True)
        cfg.merge_from_file(str(own))
    if order != "after":
        add_segic_config(cfg)
    cfg.merge_from_file(str(plain))
    if order in ("after", "twice"):
        add_segic_config(cfg)
    if order != "its own keys":
        cfg.merge_from_file(str(own))
    if order == "twice":
        add_segic_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.SEED == 3
    assert cfg.INPUT.FORMAT == "BGR" and cfg.SOLVER.BASE_LR == 0.5
    assert cfg.MODEL.TIMM.NAME == "test_vit" and cfg.MODEL.TIMM.BLOCKS == (1,)
    assert cfg.INPUT.SEMANTIC.SCALE == (1.0, 1.0)
    assert cfg.TEST.SHOTS == 3 and cfg.TEST.SEED == 0 and cfg.SOLVER.OPTIMIZER == "SGD"
    again = load_config()
    again.merge_from_other_cfg(CfgNode.load_cfg(cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_values_are_looked_at_in_the_named_parts_alone():
    for part in ("A", "A.B", "A.B.ONE"):
        with pytest.raises(ValueError, match=r"^A.B.ONE is -1; it must be at least 0$"):
            check_keys(config(A__B__ONE=-1), TABLE, [part])
    for parts in ([], ["AB"], ["A.B.TWO", "A.LAST"], ["A.B.ON"]):
        check_keys(config(A__B__ONE=-1), TABLE, parts)
    with pytest.raises(ValueError, match="^AB.ONE is -1"):
        check_keys(config(AB__ONE=-1), TABLE, ["A", "AB"])
    with pytest.raises(ValueError, match=r"^A.B.TWO is 'z'; it must be 'x' or 'y'$"):
        check_keys(config(A__B__TWO="z"), TABLE, ["A"])
    with pytest.raises(ValueError, match=r"^A.LAST is \(1, -1\); it must be a list, each"):
        check_keys(config(A__LAST=(1, -1)), TABLE, ["A"])
    check_keys(config(A__FREE="whatever"), TABLE, ["A", "AB"])
