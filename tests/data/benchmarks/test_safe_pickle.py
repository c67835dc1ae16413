"""Pickles from the web are read without running anything."""

import collections
import os
import pickle

import numpy as np
import pytest

from segic_d2.data.benchmarks.safe_pickle import read_plain_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_come_back(tmp_path, protocol):
    content = {0: ["a", "b"], "1": {"x": [1, 2.5, None, True]}, 2: (3, 2**70)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    assert read_plain_pickle(tmp_path / "a.pkl") == content


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({0: Evil(tmp_path / "made")}))
    with pytest.raises(ValueError, match=r"evil\.pkl.*wants to import \w+\.mkdir"):
        read_plain_pickle(tmp_path / "evil.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", [np.arange(3), collections.OrderedDict(a=1)])
def test_classes_are_refused(tmp_path, value):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match=r"a\.pkl.*wants to import"):
        read_plain_pickle(tmp_path / "a.pkl")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(["a"] * 100)[:-20])
    with pytest.raises(ValueError, match=r"cannot read .*a\.pkl as a pickle"):
        read_plain_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("code", [b"r" + (2**29).to_bytes(4, "little"), b"p4294967295\n", b"p-1\n"])
def test_a_few_bytes_ask_for_no_memory(tmp_path, code):
    """A table of 2²⁹ entries takes 4 GB and more."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]" + code + b".")
    with pytest.raises(ValueError, match=r"a\.pkl as a pickle .*it keeps an object as number"):
        read_plain_pickle(tmp_path / "a.pkl")


def test_a_text_that_is_far_longer_than_the_file_is_not_read(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"abc.")
    with pytest.raises(ValueError, match=r"cannot read .*a\.pkl as a pickle"):
        read_plain_pickle(tmp_path / "a.pkl")
