"""A whole node with `Config.interface`, which is loopback here."""

from __future__ import annotations

import pytest
import trio

from dht_torrent import Config, open_node
from dht_torrent.engine.net import inside as inside_module
from dht_torrent.engine.net.interfaces import Interface, all_interfaces
from dht_torrent.errors import InputError
from tests.helpers.waiting import until

LO = next(one for one in all_interfaces() if one.has("127.0.0.1"))


class Looks:
    found: tuple[Interface, ...] = (LO,)


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> type[Looks]:
    Looks.found = (LO,)
    defaults: dict[str, object] = {"look": lambda: Looks.found}
    monkeypatch.setattr(inside_module.InsideNetwork.__init__, "__kwdefaults__", defaults)
    return Looks


def config(**more: object) -> Config:
    given: dict[str, object] = {"bootstrap": (), "listen": "0.0.0.0:0", "fail_fast": True}
    return Config(**{**given, "interface": LO.name, **more})  # type: ignore[arg-type]


async def test_the_status_names_the_interface() -> None:
    async with open_node(config()) as node:
        assert node.status().interface == f"{LO.name} (127.0.0.1)"
        assert node.warnings == []
    async with open_node(config(interface=None, listen="127.0.0.1:0")) as node:
        assert node.status().interface is None


async def test_a_node_waits_for_its_interface_and_says_so(looks: type[Looks]) -> None:
    looks.found = ()
    async with (
        open_node(
            config(),
        ) as node,
        open_node(config(interface=None)) as other,
    ):
        there = other.address._replace(host="127.0.0.1")
        assert node.address.port
        assert "not here" in str(node.status().interface)
        assert "nothing is sent" in node.status().warnings[0]
        with trio.move_on_after(0.1):
            await node.dht.ping(there)
        looks.found = (LO,)
        await until(lambda: node.warnings == [], "it is noticed", 5)
        assert await node.dht.ping(there) == other.node_id
        assert await other.dht.ping(node.address._replace(host="127.0.0.1")) == node.node_id


async def test_an_address_that_another_interface_has_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.77:0: .* not an address of"):
        async with open_node(config(listen="192.0.2.77:0")):
            raise AssertionError("it runs")


async def test_a_port_that_is_taken_is_refused_as_without_an_interface() -> None:
    async with open_node(config()) as node:
        with pytest.raises(InputError, match="in use"):
            async with open_node(config(listen=str(node.address))):
                raise AssertionError("it runs")
