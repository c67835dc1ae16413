"""The documents: links and anchors lead somewhere, commands parse, keys exist, length."""

import functools
import re
import shlex
from pathlib import Path

import pytest

from segic_cli.main import build_parser
from segic_d2.config import load_config
from segic_d2.io.annotations import ANNOTATION_REGISTRY

ROOT = Path(__file__).parents[2]
SKIPPED = {"CHANGELOG.md"}  # it names what went
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "demo/*.md", "datasets/*.md")
    for path in ROOT.glob(pattern)
)
LONGEST = {"README.md": 120, "GETTING_STARTED.md": 200}  # lines
LINK = re.compile(r"\]\(([^)\s]+)\)")
KEY = re.compile(r"\b(?:MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)\.[A-Z0-9_]+(?:\.[A-Z0-9_]+)*")


@functools.cache
def config():
    return load_config("segic_demo.yaml")


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text):
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = read(page)
    for link in LINK.findall(re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        target = (ROOT / page).parent / place if place else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", sorted(set(PAGES) - SKIPPED))
def test_keys_exist(page):
    cfg = config()
    for name in set(KEY.findall(read(page))):
        node = cfg
        for part in name.split("."):
            assert part in node, name
            node = node[part]


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page):
    """``segic …`` of the blocks, with their comments; files need not be there."""
    parser = build_parser()
    for block in re.findall(r"```(?:sh)?\n(.*?)```", read(page), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.startswith("segic ") else []
            if words and "…" not in words:
                args, rest = parser.parse_known_args(words[1:])
                assert hasattr(args, "words") or not rest, line


def test_every_format_is_in_the_table_of_names():
    """With what writes it; ``masks`` is written only."""
    table = re.search(r"## My data is\n(.*?)\n## ", read("GETTING_STARTED.md"), re.DOTALL)[1]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    names = set(re.findall(r"`(\w+):", " ".join(row[2] for row in rows)))
    written = set(re.findall(r"`(\w+)`", " ".join(row[3] for row in rows[1:])))
    assert names == {name for name, _ in ANNOTATION_REGISTRY} - {"masks"}
    assert written == {name for name, form in ANNOTATION_REGISTRY if hasattr(form, "write")}


@pytest.mark.parametrize("page", LONGEST)
def test_length(page):
    assert len(read(page).splitlines()) <= LONGEST[page]
