"""A short run of the fuzzer, and proof that it would notice."""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from dht_torrent import Config
from dht_torrent.config import HolepunchConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.ids import Address
from dht_torrent.lab.studies import (
    codec_fuzz,
    holepunch_fuzz,
    pex_fuzz,
    socks_fuzz,
    wire_costs,
    wire_fuzz,
)
from dht_torrent.peer import lsd, mse, pex
from dht_torrent.peer.holepunch import Holepunch, HolepunchKind, decode_holepunch
from dht_torrent.peer.mse import MseInitiator, MseResponder, Secured
from dht_torrent.peer.pex import PexHearing
from dht_torrent.peer.rendezvous import TrustInRelays
from dht_torrent.portmap import natpmp, pcp
from dht_torrent.portmap.client import GatewayClient, _Lease, _Question
from dht_torrent.portmap.ports import LocalPort
from dht_torrent.socks import datagrams
from dht_torrent.socks.dialogue import Dialogue
from dht_torrent.torrent.holdings import Holdings
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.outbound import Outbound
from tests.helpers.scripts import load


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return load("fuzz.py")


def broken(*args: object) -> object:
    raise IndexError("oops")


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


def test_time_that_the_processor_spends_with_others_is_not_slowness(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(0.0, 0.5)
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: next(seconds))
        found = fuzz.fuzz(50, 7)
    assert found.faults == []
    assert 0 < found.slowest <= codec_fuzz.LIMIT


@pytest.mark.parametrize(
    ("name", "decoded", "answered"),
    [
        ("mse", 500, 1000),
        ("pex", 300, 300),
        ("lsd", 200, 150),
        ("socks", 300, 80),
        ("utp", 500, 500),
        ("pcp", 300, 300),
        ("natpmp", 300, 300),
        ("holepunch", 300, 50),
    ],
)
def test_hostile_bytes_do_no_harm_to_the_other_codecs(
    fuzz: ModuleType, name: str, decoded: int, answered: int
) -> None:
    found = fuzz.fuzz(2000, 7, name)
    assert found.faults == []
    assert found.inputs == 2000
    assert decoded < found.decoded < 1800
    assert found.answered > answered


@pytest.mark.parametrize(
    "name", ["mse", "pex", "lsd", "socks", "utp", "pcp", "natpmp", "holepunch"]
)
def test_inputs_of_the_other_codecs_are_the_same_for_a_seed(fuzz: ModuleType, name: str) -> None:
    def told() -> list[object]:
        codec, rng = fuzz.CODECS[name](5), random.Random(5)
        return [codec.input(number, rng).data for number in range(100)]

    assert told() == told()


@pytest.mark.parametrize(
    ("name", "owner", "attribute"),
    [
        ("mse", MseResponder, "_secured"),
        ("mse", MseInitiator, "_past"),
        ("pex", pex_fuzz, "decode_pex"),
        ("pex", PexHearing, "hear"),
        ("lsd", lsd, "parse_info_hash"),
        ("lsd", lsd.Hearing, "_is_fresh"),
        ("socks", socks_fuzz, "unwrap"),
        ("socks", Dialogue, "_reply"),
        ("utp", UtpConnection, "_while_connecting"),
        ("utp", Outbound, "_find_lost"),
        ("pcp", pcp, "decode"),
        ("pcp", GatewayClient, "_granted"),
        ("natpmp", natpmp, "decode"),
        ("natpmp", GatewayClient, "_on_natpmp"),
        ("holepunch", holepunch_fuzz, "decode_holepunch"),
        ("holepunch", TrustInRelays, "allows"),
    ],
)
def test_a_crash_of_the_other_codecs_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, owner: object, attribute: str
) -> None:
    codec = fuzz.CODECS[name](7)  # made before: it talks with itself to have something to spoil
    monkeypatch.setattr(owner, attribute, broken)
    found = fuzz.feed(codec, 1000, 7)
    assert len(found.faults) == 20
    assert "IndexError: oops from" in found.faults[0]


def noticed(fuzz: ModuleType, codec: codec_fuzz.FuzzedCodec, text: str) -> bool:
    return any(text in fault for fault in fuzz.feed(codec, 400, 7).faults)


def test_an_early_refusal_by_the_responder_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.MseCodec(7)

    def eager(self: MseResponder, data: bytes) -> bytes:
        self._buffer += data
        return self._go_on()

    monkeypatch.setattr(MseResponder, "receive", eager)
    assert noticed(fuzz, codec, "refused after ")


def test_a_side_that_waits_for_ever_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.MseCodec(7)

    def patient(self: mse._Side, mark: bytes) -> Iterator[None]:
        while (at := self._buffer.find(mark)) < 0:
            yield
        del self._buffer[: at + len(mark)]

    monkeypatch.setattr(mse._Side, "_past", patient)
    assert noticed(fuzz, codec, "waits for more than ")


def test_a_valid_handshake_that_is_refused_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.MseCodec(7)
    monkeypatch.setattr(mse, "_VC", b"12345678")
    assert noticed(fuzz, codec, "a valid handshake was refused")


def test_payload_that_is_decrypted_wrongly_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.MseCodec(7)
    whole = mse._Side._secured

    def wrong(*given: Any) -> Secured:
        secured = whole(*given)
        return Secured(secured.ciphers, bytes(byte ^ 1 for byte in secured.received))

    monkeypatch.setattr(mse._Side, "_secured", wrong)
    assert noticed(fuzz, codec, "another payload than was sent")


def test_too_many_addresses_of_peer_exchange_are_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pex, "MAX_ENTRIES", 300)
    assert noticed(fuzz, fuzz.PexCodec(7), "too many addresses")


def test_addresses_without_a_peer_are_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.PexCodec(7)
    whole = pex.decode_pex

    def careless(payload: bytes, limit: int) -> pex.PexMessage:
        message = whole(payload, limit)
        return pex.PexMessage({**message.added, Address("0.0.0.0", 0): pex.PexFlags(0)})

    monkeypatch.setattr(pex_fuzz, "decode_pex", careless)
    assert noticed(fuzz, codec, "an address twice, or of nobody")


def test_an_announce_without_torrents_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsd, "decode", lambda data: lsd.Announce(6881, ()))
    assert noticed(fuzz, fuzz.LsdCodec(7), "an announce of nothing")


def test_a_datagram_of_a_proxy_that_is_read_wrongly_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.SocksCodec(7)
    whole = datagrams.unwrap

    def careless(datagram: bytes) -> tuple[bytes, Address]:
        data, source = whole(datagram)
        return data, source._replace(port=source.port ^ 1)

    monkeypatch.setattr(socks_fuzz, "unwrap", careless)
    assert noticed(fuzz, codec, "another datagram")


def test_a_dialogue_with_a_proxy_that_keeps_all_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dialogue, "_step", lambda self: None)
    monkeypatch.setattr(socks_fuzz, "MAX_REPLY", 30)
    assert noticed(fuzz, fuzz.SocksCodec(7), "more is kept")


def test_a_mapping_that_lasts_too_long_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = GatewayClient._granted

    def trusting(
        self: GatewayClient,
        port: LocalPort,
        lease: _Lease,
        external: Address,
        lifetime: int,
        now: float,
    ) -> None:
        whole(self, port, lease, external, lifetime, now)
        if lease.held is not None:
            lease.held = replace(lease.held, expires=now + 1e9)

    monkeypatch.setattr(GatewayClient, "_granted", trusting)
    assert noticed(fuzz, fuzz.PcpCodec(7), "is believed of")


@pytest.mark.parametrize("name", ["PcpCodec", "NatPmpCodec"])
def test_a_client_of_a_gateway_that_asks_without_end_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for name_of in ("sent", "answered"):
        monkeypatch.setattr(_Question, name_of, lambda self, *args: None)
    assert noticed(fuzz, getattr(fuzz, name)(7), " datagrams in ")


def test_relays_that_have_us_send_without_end_are_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrustInRelays, "allows", lambda self, *args: True)
    codec = fuzz.HolepunchCodec(7)
    codec._config = HolepunchConfig(node_burst=10)
    assert noticed(fuzz, codec, "were sent to in")


def test_a_relay_that_has_us_send_to_nobody_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrustInRelays, "allows", lambda self, *args: True)
    codec = fuzz.HolepunchCodec(7)
    lan = Holepunch(HolepunchKind.CONNECT, Address("192.168.1.1", 80)).payload()
    codec._valid = [lan] * 60
    assert noticed(fuzz, codec, "sent to 192.168.1.1:80")


def test_a_message_of_holepunching_that_is_read_wrongly_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = decode_holepunch

    def careless(payload: bytes, limit: int) -> Holepunch | None:
        message = whole(payload, limit)
        where = message.address if message is not None else Address("1.2.3.4", 1)
        return Holepunch(HolepunchKind.CONNECT, where._replace(port=where.port ^ 1))

    monkeypatch.setattr(holepunch_fuzz, "decode_holepunch", careless)
    assert noticed(fuzz, fuzz.HolepunchCodec(7), "another message")


def test_slowness_of_the_other_codecs_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fuzz.LsdCodec(7)
    whole = lsd.decode

    def slow(data: bytes) -> lsd.Announce:
        began = time.process_time()
        while time.process_time() - began < 0.006:
            pass
        return whole(data)

    monkeypatch.setattr(lsd, "decode", slow)  # it is called twice
    assert any(" s for " in fault for fault in fuzz.feed(codec, 20, 7).faults)


def test_memory_that_grows_is_noticed(fuzz: ModuleType) -> None:
    class Keeping:
        flat = codec_fuzz.HELD

        def __init__(self) -> None:
            self.kept: list[bytes] = []

        def input(self, number: int, rng: random.Random) -> codec_fuzz.Input:
            return codec_fuzz.Input(number, lambda found: self.kept.append(rng.randbytes(100)))

    (fault,) = fuzz.feed(Keeping(), 4 * codec_fuzz.HELD, 7).faults
    assert "objects more at the end" in fault


def run_wire(fuzz: ModuleType, capsys: pytest.CaptureFixture[str], minutes: float) -> list[str]:
    fuzz._wire(minutes, 3)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("starved", [0.0, 10.0])
def test_a_node_without_a_processor_is_not_late(
    fuzz: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    starved: float,
) -> None:
    monkeypatch.setattr(wire_fuzz, "LATE", -1.0)
    monkeypatch.setattr(wire_fuzz, "starvation", itertools.count(0.0, starved).__next__)
    _, *faults = run_wire(fuzz, capsys, 0.02)
    assert any(" late" in fault for fault in faults) == (starved == 0.0)


def test_how_long_it_had_no_processor_only_grows() -> None:
    before = wire_fuzz.starvation()
    assert 0 <= before <= wire_fuzz.starvation()


def test_a_running_node_bears_any_messages_in_any_order(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, *faults = run_wire(fuzz, capsys, 0.05)
    assert faults == []
    assert int(summary.split()[0]) > 50
    assert "0 faults" in summary
    encrypted = int(summary.partition(" refused, ")[2].split()[0])
    assert 10 < encrypted < int(summary.split()[0])


def test_a_bug_in_a_running_node_is_noticed(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Holdings, "peer_bitfield", broken)
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
        (["--count", "50"], {"codecs"}),
        (
            ["--wire", "--minutes", "0.02"],
            {"connections", "refused", "encrypted", "sent", "latest", "memory", "seconds"},
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


def test_the_codecs_that_were_asked_for_are_told_of_in_order(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["fuzz.py", "--count", "20", "--codec", "lsd", "--codec", "mse"]
    monkeypatch.setattr(sys, "argv", [*argv, "--json"])
    assert fuzz.main() == 0
    mse_found, lsd_found = json.loads(capsys.readouterr().out)["codecs"]
    assert (mse_found["codec"], lsd_found["codec"]) == ("mse", "lsd")
    assert mse_found.keys() == {
        *("codec", "inputs", "decoded", "answered", "slowest", "grown", "faults", "seconds")
    }
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(lsd, "decode", broken)
    assert fuzz.main() == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("mse: 20 inputs in ")
    assert told[1].startswith("lsd: 20 inputs in ")
    assert told[2].startswith("lsd: IndexError: oops from ")


def test_a_fault_is_told_as_json_too(
    fuzz: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floods = [flood for flood in wire_costs.FLOODS if flood.name == "Port"]
    monkeypatch.setattr(fuzz, "DEAR", 0.0)
    assert fuzz._costs(floods, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["faults"][0].startswith("Port: ")
    assert told["costs"][0]["name"] == "Port"
