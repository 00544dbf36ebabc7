"""A short run of the fuzzer, and proof that it would notice."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from types import ModuleType

import pytest

from dht_torrent import Config
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.lab.studies import wire_costs, wire_fuzz
from dht_torrent.torrent.picker import Picker
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


def run_wire(fuzz: ModuleType, capsys: pytest.CaptureFixture[str], minutes: float) -> list[str]:
    fuzz._wire(minutes, 3)
    return capsys.readouterr().out.splitlines()


def test_a_running_node_bears_any_messages_in_any_order(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, *faults = run_wire(fuzz, capsys, 0.05)
    assert faults == []
    assert int(summary.split()[0]) > 50
    assert "0 faults" in summary


def test_a_bug_in_a_running_node_is_noticed(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Picker, "peer_bitfield", broken)
    monkeypatch.setattr(wire_fuzz, "Config", partial(Config, fail_fast=False))
    told = run_wire(fuzz, capsys, 0.05)
    assert any("a fault of ours" in line and "oops" in line for line in told)
    assert any(line.startswith("logged: ") for line in told)


def test_what_messages_cost_is_told_and_what_is_dear_is_a_fault(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floods = [flood for flood in wire_costs.FLOODS if flood.name in ("Port", "unknown message")]
    assert fuzz._costs(floods) == 0
    port, unknown = capsys.readouterr().out.splitlines()
    assert port.startswith("Port ")
    assert "CPU-s/MB" in port
    assert unknown.endswith("unknown message id 99")
    monkeypatch.setattr(fuzz, "DEAR", 0.0)
    assert fuzz._costs(floods[:1]) == 1
    assert "us a message" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("mode", "tells"),
    [
        (["--count", "50"], {"inputs", "decoded", "answered", "slowest", "grown", "seconds"}),
        (
            ["--wire", "--minutes", "0.02"],
            {"connections", "refused", "sent", "latest", "memory", "seconds"},
        ),
        (["--costs"], {"costs"}),
    ],
    ids=["codecs", "wire", "costs"],
)
def test_each_mode_can_tell_what_it_found_as_json(
    fuzz: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: list[str],
    tells: set[str],
) -> None:
    floods = [flood for flood in wire_costs.FLOODS if flood.name == "Port"]
    monkeypatch.setattr(fuzz, "FLOODS", floods)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", *mode, "--json"])
    assert fuzz.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == tells | {"faults"}
    assert told["faults"] == []


def test_a_fault_is_told_as_json_too(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floods = [flood for flood in wire_costs.FLOODS if flood.name == "Port"]
    monkeypatch.setattr(fuzz, "DEAR", 0.0)
    assert fuzz._costs(floods, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["faults"][0].startswith("Port: ")
    assert told["costs"][0]["name"] == "Port"
