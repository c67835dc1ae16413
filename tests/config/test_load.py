"""Config files of strangers: plain values are read, all else is one line that names the file."""

import pytest

from segic_d2.config import get_config_file, load_config


def ran(folder):
    return (folder / "ran").exists()


CODE = {
    "apply": "!!python/object/apply:os.system ['touch {0}/ran']",
    "new": "!!python/object/new:os.system ['touch {0}/ran']",
    "subprocess": "!!python/object/apply:subprocess.getoutput ['touch {0}/ran']",
    "name": "!!python/name:os.system ''",
    "module": "!!python/module:os ''",
    "tuple": "!!python/tuple [1, 2]",
    "own tag": "!thing [1]",
}


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", CODE)
def test_a_config_never_runs_code(tmp_path, kind, depth):
    """Neither in the file nor in one of its bases; the line names file and tag."""
    evil = tmp_path / "evil.yaml"
    evil.write_text("OUTPUT_DIR: x\nVERSION: " + CODE[kind].format(tmp_path))
    file = evil
    for i in range(depth):
        above = tmp_path / f"above{i}.yaml"
        above.write_text(f"_BASE_: {f'[{file.name}]' if i else file.name}\n")
        file = above
    tag = CODE[kind].split()[0].removeprefix("!!").removeprefix("!")
    with pytest.raises(ValueError, match=rf"evil.yaml, line 2: .*{tag}.*plain values") as error:
        load_config(file)
    assert "\n" not in str(error.value) and not ran(tmp_path)


ODD = {
    "own base": ("_BASE_: odd.yaml", "its own _BASE_"),
    "nested": ("A: " + "[" * 100_000, "nested too deep"),
    "nothing": ("", "no config|nothing at all"),
    "a list": ("[1, 2]", "not a list"),
    "text": ("text", "not a str"),
    "no YAML": ("A: [1", "odd.yaml, line 1: no YAML: expected"),
    "control": ("A: \x01", "odd.yaml: no YAML"),
    "numbered base": ("_BASE_: 5", "no config"),
    "other kind": ("MODEL: 5", "odd.yaml: "),
    "other type": ("SOLVER: {IMS_PER_BATCH: [1]}", "odd.yaml: "),
}
LAUGHS = "A: &a {x: 1, y: 2}\n" + "".join(
    f"{chr(66 + i)}: &{chr(98 + i)} {{x: *{chr(97 + i)}, y: *{chr(97 + i)}}}\n" for i in range(24)
)
ODD["laughs"] = LAUGHS, "more than 100,000 values"


@pytest.mark.parametrize("kind", ODD)
def test_a_config_that_is_none_is_named_in_one_line(tmp_path, kind):
    text, message = ODD[kind]
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_config(file)
    assert "odd.yaml" in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    file = tmp_path / "odd.yaml"
    file.write_bytes(b"A: \xff\xfe\n")
    with pytest.raises(ValueError, match="odd.yaml"):
        load_config(file)


def test_a_missing_base_is_named(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("_BASE_: gone.yaml\n")
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        load_config(file)


def test_anchors_and_several_bases_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 3\nTEST: {SHOTS: 2}\n")
    file = tmp_path / "own.yaml"
    base = get_config_file("Base-SegIC.yaml")
    file.write_text(
        f"_BASE_: [{base}, a.yaml]\nTEST: {{SEED: &s 7}}\nSOLVER: {{IMS_PER_BATCH: *s}}\n"
    )
    cfg = load_config(file)
    assert (cfg.SEED, cfg.TEST.SHOTS, cfg.TEST.SEED, cfg.SOLVER.IMS_PER_BATCH) == (3, 2, 7, 7)
