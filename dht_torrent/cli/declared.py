"""The options of a node, each declared once (`cli.options`). They may stand before the command or
after it; there they win.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from dht_torrent.cli.options import (
    FILE,
    FOLDER,
    NUMBER,
    RATE,
    anchor_control,
    check_addresses,
    check_control,
    check_points,
    check_rate,
    mask_url,
    none_or,
    option,
    parse_command,
    parse_count,
    parse_number,
)
from dht_torrent.cli.settings import at_home
from dht_torrent.errors import InputError

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def default_state_dir() -> Path:
    """Raises InputError where there is no home directory."""
    import platformdirs

    folder = at_home(lambda: platformdirs.user_state_path("dhtnode"))
    if folder is None:
        raise InputError("there is no home directory; name a folder with --state-dir")
    return folder


def default_download_dir() -> Path:
    import platformdirs

    folder = at_home(platformdirs.user_downloads_path)
    return folder if folder is not None and folder.is_dir() else Path.cwd()


def default_bootstrap() -> tuple[str, ...]:
    from dht_torrent.config import PUBLIC_BOOTSTRAP

    return tuple(map(str, PUBLIC_BOOTSTRAP))


def seed_ratio(text: str) -> float | None:
    """Raises InputError."""
    from dht_torrent.config.seeding import MAX_RATIO

    return parse_number(text, MAX_RATIO)


def seed_idle(text: str) -> float | None:
    """Seconds, of minutes. Raises InputError."""
    from dht_torrent.config.seeding import MAX_IDLE

    minutes = parse_number(text, MAX_IDLE / 60)
    return minutes * 60 if minutes is not None else None


def _check_crawl_rate(rate: float) -> None:
    from dht_torrent.config import CrawlConfig

    most = CrawlConfig().max_rate
    if not 0 < rate <= most:
        raise InputError(f"must be above 0 and at most {most:g} queries/s, not {rate:g}")


def _check_hours(text: str) -> None:
    from dht_torrent.config.alternative import parse_hours

    parse_hours(text)


def _check_size(text: str) -> None:
    from dht_torrent.rates import parse_size

    parse_size(text)


def _check_interface(name: str) -> None:
    from dht_torrent.config import Config

    Config(interface=name).wanted_interface()


def _check_proxy(url: str) -> None:
    from dht_torrent.config import Config

    Config(proxy=url).proxy_server()


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where a node's files are. The command gets its context."""
    command = click.pass_context(command)
    for made in (_CONFIG, _STATE_DIR):
        command = made(command)
    return command


_CONFIG: Final = option(
    "--config",
    metavar="FILE",
    type=FILE,
    in_file=False,
    help="The configuration file (see `dhtnode config`) instead of the usual one.",
)
_STATE_DIR: Final = option(
    "--state-dir",
    metavar="DIR",
    type=FOLDER,
    standard=default_state_dir,
    help="The folder of the node's own files.",
)
_CONTROL: Final = option(
    "--control",
    metavar="unix:PATH|ADDR:PORT",
    check=check_control,
    anchor=anchor_control,
    help="Where the node takes commands; by default a socket in its folder.",
)


def which_node(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that find a running node. The command gets its context, for `Options.of`."""
    command = click.pass_context(command)
    for made in (_CONTROL, _CONFIG, _STATE_DIR):
        command = made(command)
    return command


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`which_node`, and the options of a node in this process."""
    for made in _NODE:
        command = made(command)
    return which_node(command)


_NODE: Final = (
    option(
        "--limit-down",
        metavar="RATE",
        type=RATE,
        standard="none",
        check=check_rate,
        help="Receive at most this rate, such as 500K or 1.5MiB/s.",
    ),
    option(
        "--limit-up",
        metavar="RATE",
        type=RATE,
        standard="none",
        check=check_rate,
        help="Send at most this rate; 0 or 'none' for no limit.",
    ),
    option(
        "--alt-limit-down",
        metavar="RATE",
        type=RATE,
        standard="50K",
        check=check_rate,
        help="Receive at most this rate while the alternative limits hold.",
    ),
    option(
        "--alt-limit-up",
        metavar="RATE",
        type=RATE,
        standard="50K",
        check=check_rate,
        help="Send at most this rate while the alternative limits hold.",
    ),
    option(
        "--alt-hours",
        metavar="HOURS",
        check=_check_hours,
        help="When the alternative limits hold, such as 09:00-17:00 or 'mon-fri 22:00-06:00'; by"
        " default only from `limit --alternative` on.",
    ),
    option(
        "--min-free",
        metavar="SIZE",
        type=RATE,
        standard="100M",
        check=_check_size,
        help="Downloads stand still before less than this is free on their disk; 0 for never.",
    ),
    option(
        "--watch",
        metavar="DIR",
        type=FOLDER,
        help="Add the .torrent and .magnet files that appear in this folder, and rename them to"
        " .added, or .invalid.",
    ),
    option(
        "--on-complete",
        metavar="COMMAND",
        check=parse_command,
        help="Run this when a download is complete, without a shell; TR_TORRENT_DIR,"
        " TR_TORRENT_NAME, TR_TORRENT_HASH and others are in its environment.",
    ),
    option(
        "--after-seeding",
        type=click.Choice(["pause", "remove"]),
        standard="pause",
        help="What becomes of a torrent that was shared enough. Its content stays.",
    ),
    option(
        "--seed-idle",
        metavar="MINUTES",
        type=NUMBER,
        standard="none",
        check=seed_idle,
        help="A complete torrent was shared enough when nothing has moved for so long.",
    ),
    option(
        "--seed-ratio",
        metavar="N",
        type=NUMBER,
        standard="none",
        check=seed_ratio,
        help="A complete torrent was shared enough when N bytes were sent for each received.",
    ),
    option(
        "--active-seeds",
        metavar="N",
        type=NUMBER,
        standard="none",
        check=parse_count,
        help="Seed only so many torrents at a time, in the order of the queue.",
    ),
    option(
        "--active-downloads",
        metavar="N",
        type=NUMBER,
        standard="none",
        check=parse_count,
        help="Fetch only so many torrents at a time, in the order of the queue.",
    ),
    option(
        "--pex/--no-pex",
        default=None,
        standard=True,
        help="Tell peers of other peers and hear of them (PEX, BEP 11); the default.",
    ),
    option(
        "--utp/--no-utp",
        default=None,
        standard=True,
        help="Connect with peers over uTP (BEP 29); the default.",
    ),
    option(
        "--tcp/--no-tcp",
        default=None,
        standard=True,
        help="Connect with peers over TCP; the default.",
    ),
    option(
        "--dht-unlimited/--no-dht-unlimited",
        default=None,
        standard=False,
        help="For labs: lift the DHT's limits on queries, bytes, items and signatures.",
    ),
    option(
        "--lsd/--no-lsd",
        default=None,
        standard=True,
        help="Look for peers in the local network by multicast (BEP 14); the default.",
    ),
    option(
        "--port-mapping/--no-port-mapping",
        default=None,
        standard=True,
        help="Ask the router to let peers in (PCP, NAT-PMP, UPnP); the default.",
    ),
    option(
        "--crawl/--no-crawl",
        default=None,
        standard=False,
        help="Look through the DHT for torrents, to know them in searches (BEP 51).",
    ),
    option(
        "--crawl-rate",
        type=float,
        metavar="N",
        standard=10.0,
        check=_check_crawl_rate,
        help="With --crawl: at most N queries a second, of 20; 10 by default.",
    ),
    option(
        "--catalogue",
        metavar="URL",
        mask=mask_url,
        help="The catalogue in a PostgreSQL database, postgresql://[USER@]HOST/DATABASE,"
        " which several nodes may share, instead of a file. A password is best in ~/.pgpass or in"
        " DHTNODE_CATALOGUE.",
    ),
    option(
        "--deny",
        metavar="FILE",
        type=FILE,
        guards=True,
        help="Words and infohashes, a line each, of torrents that are neither stored, published"
        " nor shown. Read again when it changes.",
    ),
    option(
        "--proxy",
        metavar="URL",
        mask=mask_url,
        check=_check_proxy,
        guards=True,
        help="Everything through this SOCKS5 proxy or not at all,"
        " socks5://[USER:PASSWORD@]HOST[:PORT]; nobody can connect to the node then. A password is"
        " best in DHTNODE_PROXY.",
    ),
    option(
        "--ip-filter",
        metavar="FILE",
        type=FILE,
        guards=True,
        help="IP addresses this node has nothing to do with: P2P, DAT, CIDR or plain ranges, a"
        " line each. Read again when it changes.",
    ),
    option(
        "--log-level",
        type=click.Choice(_LOG_LEVELS),
        standard="warning",
        help="The least severe messages to log on stderr.",
    ),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        standard="text",
        help="How: text for people, or json, an object a line.",
    ),
    option(
        "--encryption",
        type=click.Choice(["prefer", "require", "allow", "off"]),
        standard="prefer",
        help="MSE with peers: dial with it first (prefer, the default), never do without it "
        "(require), only accept it (allow), or never.",
    ),
    option(
        "--interface",
        metavar="NAME|ADDR",
        check=_check_interface,
        guards=True,
        help="Reach other nodes through this network interface only; wait while it is away.",
    ),
    option(
        "--download-dir",
        metavar="DIR",
        type=FOLDER,
        standard=default_download_dir,
        help="Where downloads go.",
    ),
    option(
        "--listen",
        metavar="ADDR:PORT",
        multiple=True,
        standard=("0.0.0.0:6881", "[::]:6881"),
        check=check_addresses,
        guards=True,
        help="For peers, TCP and UDP; port 0 means any. Twice: IPv4 and IPv6, the default.",
    ),
    option(
        "--tls-listen",
        metavar="ADDR:PORT",
        multiple=True,
        check=none_or(check_addresses),
        help="For peers of SSL torrents; by default any port, once there is one; or 'none'.",
    ),
    option(
        "--bootstrap",
        metavar="HOST:PORT",
        multiple=True,
        standard=default_bootstrap,
        check=none_or(check_points),
        guards=True,
        help="An entry point to the DHT (repeatable); 'none' for a network's first node.",
    ),
)
