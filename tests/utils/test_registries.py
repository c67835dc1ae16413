import pytest
from detectron2.utils.registry import Registry

from segic_d2.utils.registries import find_registered


def test_what_is_registered_or_one_line_with_the_names():
    registry = Registry("TOYS")
    for name in ("ball", "train"):
        registry._do_register(name, name.upper())
    assert find_registered(registry, "ball", "A.KEY") == "BALL"
    for name, told in (("trian", "similar: train"), ("xyz", "there are ball, train")):
        with pytest.raises(ValueError, match=f"^A.KEY '{name}' is not registered; {told}$"):
            find_registered(registry, name, "A.KEY")
