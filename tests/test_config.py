"""What a configuration says is checked before a node begins."""

from __future__ import annotations

import pytest

from dht_torrent.config import Config
from dht_torrent.errors import InputError


@pytest.mark.parametrize(
    ("listen", "read"),
    [
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("[::0001]:1", ["[::1]:1"]),
        (["[::1]:2", "127.0.0.1:1"], ["127.0.0.1:1", "[::1]:2"]),
        (Config().listen, ["0.0.0.0:6881", "[::]:6881"]),
    ],
)
def test_a_node_listens_on_one_address_of_each_family_at_most(
    listen: str | list[str], read: list[str]
) -> None:
    assert [str(address) for address in Config(listen=listen).listen_addresses()] == read


@pytest.mark.parametrize(
    "listen", [(), ["[::1]:1", "[::1]:2"], ["1.2.3.4:1", "[::1]:1", "1.2.3.4:2"], "localhost:1"]
)
def test_other_addresses_are_refused(listen: str | list[str]) -> None:
    with pytest.raises(InputError):
        Config(listen=listen).listen_addresses()


def test_ssl_torrents_have_any_port_on_the_same_hosts_unless_told_otherwise() -> None:
    assert [str(address) for address in Config().tls_addresses()] == ["0.0.0.0:0", "[::]:0"]
    assert [str(one) for one in Config(tls_listen="1.2.3.4:5").tls_addresses()] == ["1.2.3.4:5"]
    assert Config(tls_listen=()).tls_addresses() == []
    with pytest.raises(InputError):
        Config(tls_listen=["1.2.3.4:5", "1.2.3.4:6"]).tls_addresses()


def test_encryption_is_one_of_four_words() -> None:
    for policy in ("prefer", "require", "allow", "off"):
        assert Config(encryption=policy).encryption_policy() == policy
    assert Config().encryption_policy() == "prefer"
    with pytest.raises(InputError, match="prefer, require, allow, off, not 'yes'"):
        Config(encryption="yes").encryption_policy()  # type: ignore[arg-type]
