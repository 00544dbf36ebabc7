"""Host names are asked of name servers through our own network, and of nobody else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.message
import dns.rrset
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dht_torrent.engine.net import names
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork

US, SERVER, OTHER = "10.0.0.1", "10.0.0.53", "10.0.0.54"
POINT = HostPort("entry.example", 6881)
Answer = Callable[[dns.message.Message, bytes], Sequence[bytes]]


@pytest.fixture(autouse=True)
def conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(f"search example\nnameserver {SERVER}\nnameserver {OTHER}\n")
    monkeypatch.setattr(names, "RESOLV_CONF", path)


def says(*rows: tuple[str, str]) -> Answer:
    """For each kind of record, what a query for it is told."""

    def answer(query: dns.message.Message, _: bytes) -> Sequence[bytes]:
        response = dns.message.make_response(query)
        question = query.question[0]
        for kind, value in rows:
            if kind == "CNAME" or kind == question.rdtype.name:
                name = (
                    "real.example." if rows[0][0] == "CNAME" and kind != "CNAME" else question.name
                )
                response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, value))
        return [response.to_wire()]

    return answer


def nothing(query: dns.message.Message, wire: bytes) -> Sequence[bytes]:
    return []


def of_others(query: dns.message.Message, wire: bytes) -> Sequence[bytes]:
    """Invented, for another query, mutilated, and a query."""
    (good,) = says(("A", "192.0.2.66"))(query, wire)
    other = dns.message.make_query("other.example", "A", id=query.id)
    (elsewhere,) = says(("A", "192.0.2.66"))(other, b"")
    wrong_id = bytes([good[0] ^ 1]) + good[1:]
    return [b"", b"\0" * 12, good[:20], wrong_id, elsewhere, wire, b"\xff" * 400]


async def resolved(
    first: Answer, second: Answer = nothing, *, spoof: bool = False
) -> list[Address]:
    net = FakeNetwork(random.Random(1), latency=0.02)
    us = net.host(US)
    async with trio.open_nursery() as nursery:

        async def serve(ip: str, answer: Answer) -> None:
            socket = await net.host(ip).open_udp(Address(ip, 53))
            while True:
                for data, source in await socket.receive():
                    for response in answer(dns.message.from_wire(data), data):
                        socket.send(response, source)

        nursery.start_soon(serve, SERVER, first)
        nursery.start_soon(serve, OTHER, second)
        await trio.testing.wait_all_tasks_blocked()
        found = await names.resolve(us, await names.name_servers(), POINT)
        nursery.cancel_scope.cancel()
    return found


async def test_the_addresses_of_both_families_are_found(autojump_clock: MockClock) -> None:
    answer = says(("A", "192.0.2.1"), ("A", "192.0.2.2"), ("AAAA", "2001:db8::1"))
    assert await resolved(answer) == [
        Address("192.0.2.1", 6881),
        Address("192.0.2.2", 6881),
        Address("2001:db8::1", 6881),
    ]


async def test_an_alias_is_followed(autojump_clock: MockClock) -> None:
    answer = says(("CNAME", "real.example."), ("A", "192.0.2.1"))
    assert await resolved(answer) == [Address("192.0.2.1", 6881)]


async def test_a_name_without_addresses_has_none(autojump_clock: MockClock) -> None:
    assert await resolved(says()) == []
    assert trio.current_time() < 1


async def test_a_silent_server_is_left_for_the_next(autojump_clock: MockClock) -> None:
    assert await resolved(nothing, says(("A", "192.0.2.1"))) == [Address("192.0.2.1", 6881)]
    assert names.PATIENCE <= trio.current_time() < names.PATIENCE + 1


async def test_silent_servers_are_given_up(autojump_clock: MockClock) -> None:
    assert await resolved(nothing) == []
    assert trio.current_time() <= 2 * names.TRIES * names.PATIENCE + 1


async def test_what_is_not_the_answer_is_not_believed(autojump_clock: MockClock) -> None:
    assert await resolved(of_others, says(("A", "192.0.2.1"))) == [Address("192.0.2.1", 6881)]


async def test_one_kind_of_addresses_is_enough(autojump_clock: MockClock) -> None:
    def only_ipv4(query: dns.message.Message, wire: bytes) -> Sequence[bytes]:
        return says(("A", "192.0.2.1"))(query, wire) if query.question[0].rdtype == 1 else []

    assert await resolved(only_ipv4) == [Address("192.0.2.1", 6881)]


async def test_an_answer_gives_a_bounded_number(autojump_clock: MockClock) -> None:
    many = [("A", f"192.0.2.{number}") for number in range(200)]
    assert len(await resolved(says(*many))) == names.MAX_FOUND


async def test_a_name_that_cannot_be_one_has_no_addresses(autojump_clock: MockClock) -> None:
    us = FakeNetwork(random.Random(1)).host(US)
    for name in ("a..b", "x" * 64 + ".example", ""):
        assert await names.resolve(us, await names.name_servers(), HostPort(name, 1)) == []


async def test_a_machine_that_names_no_servers_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(names, "RESOLV_CONF", tmp_path / "none.conf")
    assert await names.name_servers() == []
    assert await names.resolve(FakeNetwork(random.Random(1)).host(US), [], POINT) == []


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 10.0.0.1 # mine\n nameserver fd00::1", ["10.0.0.1", "fd00::1"]),
        ("nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0", []),
        ("nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver there\nnameserver", []),
        ("#nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.2", ["10.0.0.2"]),
        (
            "".join(f"nameserver 10.0.0.{n}\n" for n in range(9)),
            ["10.0.0.0", "10.0.0.1", "10.0.0.2"],
        ),
    ],
)
def test_which_name_servers_can_be_asked(text: str, servers: list[str]) -> None:
    assert names.servers_in(text) == [Address(host, 53) for host in servers]
