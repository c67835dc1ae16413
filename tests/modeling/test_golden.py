"""Every number of the released implementation's reference files, where they are at hand.

They stand beside the checkout, or where ``SEGIC_GOLDEN`` says (see ``golden.py``). The summary of
the test run lists what was compared, the largest difference and its share of the tolerance.
"""

import os
from functools import cache

import pytest
import torch

from tests.modeling import golden as files
from tests.modeling.golden_entries import run_case
from tests.modeling.golden_inference import OUTPUTS, Unknown

GOLDEN = None if files.missing_files() else files.Golden()
ENTRIES = GOLDEN.entries if GOLDEN else []
CASES = [case for case in files.REFERENCES if any(e.startswith(f"{case}/") for e in ENTRIES)]


def comparisons():
    for entry in ENTRIES:
        case, _, name = entry.partition("/")
        yield pytest.param(case, name, True, id=entry)
        if case in files.REFERENCES and name in OUTPUTS:
            yield pytest.param(case, name, False, id=f"{entry} [no_grad]")


@cache
def run(case, autograd):
    """A case, computed once; or the error, which a failing case then does not repeat slowly."""
    try:
        return run_case(GOLDEN, case, autograd)
    except Exception as error:
        return error


def computed(case, name, autograd):
    done = run(case, autograd)
    if isinstance(done, Exception):
        raise done
    return done.entry(name)


def tolerance(name, expected):
    """What float32 can hold; gradients of the losses are too small for the absolute part."""
    relative = 1e-4 * expected.abs().max().item()
    return relative if name.endswith("grad_logits") else max(1e-6, relative)


def difference(got, expected):
    return (got.detach().reshape(expected.shape).to(expected.dtype) - expected).abs().max().item()


@pytest.mark.parametrize("case, name, autograd", list(comparisons()))
def test_entry(case, name, autograd):
    entry = f"{case}/{name}"
    expected = GOLDEN.tensors[entry]
    expected = expected if expected.is_floating_point() else expected.double()
    try:
        got = computed(case, name, autograd)
    except Unknown as reason:
        pytest.fail(f"{entry} is in the reference files and is not checked: {reason}")
    if entry == "X/sparse_points_boxes_text":
        assert got.shape[1] == expected.shape[1] - 1
        expected = expected[:, :-1]
    found, allowed = difference(got, expected), tolerance(name, expected)
    files.MEASURED.append((entry + ("" if autograd else " [no_grad]"), found, allowed))
    assert found <= allowed, f"{entry}: {found:.3g} is more than {allowed:.3g}"


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_public_path(case):
    """encode_context → segment → masks, and a whole batch, as anyone would call them."""
    model, episode = GOLDEN.model(case), GOLDEN.episode(case)
    names = {e["id"]: e["name"] for e in episode["entities"]}
    context = model.encode_context(episode["references"], names, episode["task"])
    (out,) = model.segment(model.encode_images([episode]), context)
    full = out.frame.upsample(out.logits)
    for name, got in (("low_res_masks", out.logits), ("masks", full)):
        expected = GOLDEN.tensors[f"{case}/{name}"]
        assert difference(got, expected) <= tolerance(name, expected)
    expected = GOLDEN.tensors[f"{case}/masks"].reshape(out.masks.shape)
    clear = expected.abs() > tolerance("masks", expected)
    for masks in (out.masks, model([episode])[0]["masks"]):
        assert torch.equal(masks[clear], expected[clear] > 0)


def test_every_stored_result_is_listed():
    """The JSON file decides what is compared, so it must not leave a tensor out."""
    missing = files.missing_files()
    if missing and not os.environ.get("SEGIC_GOLDEN"):
        pytest.skip("the reference files are not here")
    assert not missing, f"SEGIC_GOLDEN is {files.PREFIX!r}, but there is no {', '.join(missing)}"
    assert set(GOLDEN.tensors) == set(GOLDEN.about["entries"])
    assert len(ENTRIES) == len(set(ENTRIES)) > 0
