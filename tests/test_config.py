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


# -- the interface ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "wanted"),
    [
        (None, None),
        ("tun0", "tun0"),
        ("wlp0s20f3.100", "wlp0s20f3.100"),
        ("10.8.0.2", "10.8.0.2"),
        ("FD00:0:0::2", "fd00::2"),
    ],
)
def test_an_interface_is_a_name_or_an_address(interface: str | None, wanted: str | None) -> None:
    assert Config(interface=interface).wanted_interface() == wanted


@pytest.mark.parametrize(
    "interface",
    [
        *("", ".", "..", "a" * 16, "tun 0", "eth0:1", "a/b", "10.0.0.300", "10.0.0", "1:2", "é"),
        *("a%b", "a\n", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "fe80::1%eth0"),
    ],
)
def test_what_cannot_be_an_interface_is_refused(interface: str) -> None:
    with pytest.raises(InputError, match="interface"):
        Config(interface=interface).listen_addresses()


@pytest.mark.parametrize(
    ("interface", "listen", "read"),
    [
        ("tun0", ("0.0.0.0:7", "[::]:7"), ["0.0.0.0:7", "[::]:7"]),
        ("10.8.0.2", ("0.0.0.0:7", "[::]:7"), ["10.8.0.2:7"]),
        ("fd00::2", ("0.0.0.0:7", "[::]:7"), ["[fd00::2]:7"]),
        ("10.8.0.2", ("10.8.0.2:7",), ["10.8.0.2:7"]),
    ],
)
def test_with_the_address_of_an_interface_a_node_listens_there_only(
    interface: str, listen: tuple[str, ...], read: list[str]
) -> None:
    config = Config(interface=interface, listen=listen, tls_listen=listen)
    assert [str(address) for address in config.listen_addresses()] == read
    assert [str(address) for address in config.tls_addresses()] == read


@pytest.mark.parametrize("listen", [("10.0.0.1:7",), ("0.0.0.0:7", "[fd00::1]:7")])
def test_another_address_than_the_interface_has_is_not_listened_on(listen: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"cannot listen on .* with the interface 10\.8\.0\.2"):
        Config(interface="10.8.0.2", listen=listen).listen_addresses()


def test_an_interface_of_the_other_family_leaves_nothing_to_listen_on() -> None:
    with pytest.raises(InputError, match="at least one address"):
        Config(interface="fd00::2", listen="0.0.0.0:7").listen_addresses()


@pytest.mark.parametrize(
    ("url", "address", "user", "password"),
    [
        ("socks5://proxy.example:9050", ("proxy.example", 9050), None, None),
        ("socks5://proxy.example", ("proxy.example", 1080), None, None),
        ("SOCKS5H://10.0.0.1:1/", ("10.0.0.1", 1), None, None),
        ("socks5://[2001:db8::1]", ("2001:db8::1", 1080), None, None),
        ("socks5://[2001:db8::1]:99", ("2001:db8::1", 99), None, None),
        ("socks5://me:x@h", ("h", 1080), "me", "x"),
        ("socks5://me:a@b@h:2", ("h", 2), "me", "a@b"),
        ("socks5://m%40e:%3A%2f@h", ("h", 1080), "m@e", ":/"),
    ],
)
def test_a_proxy_is_named_by_a_url(
    url: str, address: tuple[str, int], user: str | None, password: str | None
) -> None:
    config = Config(proxy=url)
    assert config.is_behind_proxy
    server = config.proxy_server()
    assert server is not None
    assert (server.address, server.user, server.password) == (address, user, password)
    assert str(server) == f"socks5://{server.address}"
    if password is not None:
        assert repr(password) not in repr(server)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h:1", "a proxy http is not supported"),
        ("socks4://h:1", "a proxy socks4 is not supported"),
        ("h:1", "a proxy without a scheme is not supported"),
        ("://h:1", "without a scheme"),
        ("", "without a scheme"),
        ("socks5://", "HOST:PORT"),
        ("socks5://h:0", "port"),
        ("socks5://h:65536", "port"),
        ("socks5://h:x", "port"),
        ("socks5://2001:db8::1", "brackets"),
        ("socks5://me@h", "USER:PASSWORD"),
        ("socks5://me:@h", "USER:PASSWORD"),
        ("socks5://:secret@h", "USER:PASSWORD"),
        ("socks5://me:secr%C3%A9t@h", "ASCII"),
        ("socks5://" + "u" * 256 + ":secret@h", "255"),
        ("http://me:secret@h", "not supported"),
        ("socks5://me:secret@h:x", "port"),
    ],
)
def test_other_proxies_are_refused_without_the_password(url: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        Config(proxy=url).proxy_server()
    assert "secr" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_proxy_is_the_default() -> None:
    assert not Config().is_behind_proxy
    assert Config().proxy_server() is None
    assert "secret" not in repr(Config(proxy="socks5://me:secret@h"))
