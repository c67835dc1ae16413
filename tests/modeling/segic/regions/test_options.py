"""Every key of ``MODEL.SEGIC.REGIONS`` comes to its own field."""

from dataclasses import fields, replace

import pytest

from segic_d2.modeling.segic.regions.matching import Cues
from segic_d2.modeling.segic.regions.options import RegionOptions
from tests.tiny import tiny_config

R = "MODEL.SEGIC.REGIONS."
OWN = {
    **{"CELLS": 12, "UNMARKED": 0.51, "BOXES": False, "CUT": 0.52, "POSITION": 0.53},
    **{"SMALL": 0.54, "RELATIVE": 0.55, "DECODER": 0.56, "THRESHOLD": 0.57, "DEBIAS": 13},
    "AGGREGATE": 0.58,
}
CUES = {"PROTOTYPE": False, "NEAREST": 14, "BACKGROUND": 0.59, "COMPETE": False, "BACKWARD": True}


def test_defaults_are_those_of_the_keys():
    assert RegionOptions.from_config(tiny_config()) == RegionOptions()


@pytest.mark.parametrize(("key", "value"), [*OWN.items(), *CUES.items()])
def test_a_key_changes_its_field_alone(key, value):
    found = RegionOptions.from_config(tiny_config(f"{R}{key}", value))
    if key in CUES:
        assert found == RegionOptions(cues=replace(Cues(), **{key.lower(): value}))
    else:
        assert found == replace(RegionOptions(), **{key.lower(): value})


def test_no_field_is_without_a_key():
    own = {f.name for f in fields(RegionOptions)} - {"cues"} | {f.name for f in fields(Cues)}
    assert own == {key.lower() for key in (*OWN, *CUES)}


def test_a_value_out_of_its_range_is_named():
    with pytest.raises(ValueError, match=f"{R}UNMARKED"):
        RegionOptions.from_config(tiny_config(f"{R}UNMARKED", 1.5))
