"""miniupnpc in its thread: what it is asked, what is believed, and what if it hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PortMapConfig
from dht_torrent.engine.portmap.miniupnp import MiniUpnp
from dht_torrent.engine.portmap.upnp import UpnpError
from dht_torrent.ids import Address
from dht_torrent.portmap.ports import IpProtocol, LocalPort

OURS = "192.168.1.2"
PORT = LocalPort(IpProtocol.UDP, 6881)


class Igd:
    """What miniupnpc makes."""

    def __init__(self, **changes: Any) -> None:
        self.lanaddr = OURS
        self.found: int | Exception = 1
        self.public: Any = "8.7.6.5"
        self.holder: Any = None
        self.does: Callable[[], object] = lambda: True
        self.asked: list[object] = []
        self.threads: set[int] = set()
        vars(self).update(changes)

    def __call__(self, **options: object) -> Igd:
        self.asked.append(options)
        return self

    def _note(self, *question: object) -> None:
        self.asked.append(question)
        self.threads.add(threading.get_ident())

    def discover(self) -> int:
        self._note("discover")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def selectigd(self) -> str:
        self._note("selectigd")
        return "http://192.168.1.1/"

    def externalipaddress(self) -> Any:
        if isinstance(self.public, Exception):
            raise self.public
        return self.public

    def getspecificportmapping(self, external: int, protocol: str) -> Any:
        self._note("get", external, protocol)
        return self.holder

    def addportmapping(self, *words: object) -> object:
        self._note("add", *words)
        return self.does()

    def deleteportmapping(self, *words: object) -> object:
        self._note("delete", *words)
        return self.does()


async def found(igd: Igd, **config: float) -> MiniUpnp:
    upnp = MiniUpnp(PortMapConfig(**config), igd)  # type: ignore[arg-type]
    await upnp.find(OURS)
    return upnp


async def test_it_is_looked_for_on_our_interface_and_asked_in_another_thread() -> None:
    igd = Igd(holder=("192.168.1.3", 7000, "x", True, 0))
    upnp = await found(igd, upnp_discovery=1.5)
    assert await upnp.address() == "8.7.6.5"
    assert await upnp.holder(PORT, 6890) == Address("192.168.1.3", 7000)
    await upnp.map(PORT, 6890, 600)
    await upnp.unmap(PORT, 6890)
    assert igd.asked == [
        {"multicastif": OURS, "discoverdelay": 1500},
        ("discover",),
        ("selectigd",),
        ("get", 6890, "UDP"),
        ("add", 6890, "UDP", OURS, 6881, "dht_torrent", "", 600),
        ("delete", 6890, "UDP"),
    ]
    assert threading.get_ident() not in igd.threads


@pytest.mark.parametrize(
    ("igd", "why"),
    [
        (Igd(found=0), "no gateway answers"),
        (Igd(lanaddr="192.168.7.7"), "the gateway that answers is not ours"),
        (Igd(found=Exception("No  UPnP\n device")), "No UPnP device"),
        (Igd(found=Exception("x" * 1000)), "x" * 100),
        (Igd(found=Exception()), "Exception"),
    ],
)
async def test_why_there_is_none_is_told(igd: Igd, why: str) -> None:
    upnp = MiniUpnp(PortMapConfig(), igd)
    with pytest.raises(UpnpError) as error:
        await upnp.find(OURS)
    assert str(error.value) == why
    with pytest.raises(UpnpError, match="no gateway was found"):
        await upnp.address()


async def test_what_was_found_before_is_not_asked_when_it_is_looked_for_again() -> None:
    igd = Igd()
    upnp = await found(igd)
    igd.found = 0
    with pytest.raises(UpnpError):
        await upnp.find(OURS)
    with pytest.raises(UpnpError, match="no gateway was found"):
        await upnp.map(PORT, 1, 1)


@pytest.mark.parametrize("public", ["", "0.0.0.0", "x" * 500, "::1", "239.1.1.1", None, "8.7.6.5 "])
async def test_an_address_that_cannot_be_is_not_believed(public: str | None) -> None:
    upnp = await found(Igd(public=public))
    with pytest.raises(UpnpError, match="says that its address is") as error:
        await upnp.address()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "said",
    [None, (), ("192.168.1.3",), ("192.168.1.3", "x"), ("host", 1), ("192.168.1.3", 70_000), 7],
)
async def test_a_holder_that_makes_no_sense_is_nobody(said: object) -> None:
    upnp = await found(Igd(holder=said))
    assert await upnp.holder(PORT, 6881) is None


async def test_what_it_refuses_is_told_and_a_bug_is_not_hidden() -> None:
    igd = Igd()
    upnp = await found(igd)

    def fails(error: Exception) -> Callable[[], object]:
        def does() -> object:
            raise error

        return does

    igd.does = fails(Exception("ConflictInMappingEntry"))
    with pytest.raises(UpnpError, match="ConflictInMappingEntry"):
        await upnp.map(PORT, 6881, 600)
    igd.does = fails(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"))
    with pytest.raises(UpnpError, match="utf-8"):
        await upnp.map(PORT, 6881, 600)
    igd.does = fails(TypeError("ours"))
    with pytest.raises(TypeError, match="ours"):
        await upnp.map(PORT, 6881, 600)


async def test_a_thread_that_hangs_is_left_behind_and_there_is_no_second_one(
    mock_clock: MockClock,
) -> None:
    igd, goes_on = Igd(), threading.Event()
    upnp = await found(igd)
    igd.does = goes_on.wait
    try:
        mock_clock.autojump_threshold = 0.01  # the thread waits, so all do
        for _ in range(2):
            began = trio.current_time()
            with pytest.raises(UpnpError, match="the gateway takes too long"):
                await upnp.map(PORT, 6881, 600)
            assert trio.current_time() - began == pytest.approx(PortMapConfig().upnp_patience)
        assert len([one for one in igd.asked if isinstance(one, tuple) and one[0] == "add"]) == 1
    finally:
        goes_on.set()
