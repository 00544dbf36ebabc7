"""A short run of the fuzzer, and proof that it would notice."""

from __future__ import annotations

import time
from types import ModuleType

import pytest

from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from tests.helpers.scripts import load


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return load("fuzz.py")


def test_hostile_bytes_do_no_harm(fuzz: ModuleType) -> None:
    found = fuzz.fuzz(8000, 7)
    assert found.faults == []
    assert found.inputs == 8000
    assert found.decoded > 1000
    assert found.answered > 500


def test_its_corpus_is_valid_and_its_inputs_are_the_same_for_a_seed(fuzz: ModuleType) -> None:
    for message in fuzz.corpus():
        krpc.decode(message)
    assert fuzz.fuzz(300, 5).decoded == fuzz.fuzz(300, 5).decoded


def test_a_crash_is_noticed(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise IndexError("oops")

    monkeypatch.setattr(Answerer, "answer", broken)
    found = fuzz.fuzz(1000, 7)
    assert len(found.faults) == 20
    assert "IndexError: oops from" in found.faults[0]


def test_slowness_is_noticed(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = krpc.decode

    def slow(data: bytes) -> krpc.Message:
        began = time.process_time()
        while time.process_time() - began < 0.012:
            pass
        return whole(data)

    monkeypatch.setattr(krpc, "decode", slow)
    assert any(" s for " in fault for fault in fuzz.fuzz(20, 7).faults)
