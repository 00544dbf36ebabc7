"""`dhtnode dht ...`: questions to the DHT. The rule: a node that runs for the state directory is
asked; else a short-lived, read-only one asks from the --bootstrap points given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from dht_torrent.cli import view as view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, json_option, running_node_if_any
from dht_torrent.cli.options import PLACE
from dht_torrent.errors import ControlError, InputError

PATIENCE = 30.0
"""Seconds a node of our own tries to get into the DHT."""
KEY_SIZE = 32
Answer = dict[str, Any]
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


@click.group()
def dht() -> None:
    """Query the DHT, inspect it and put items into it."""


def _ask(ctx: click.Context, action: str, **arguments: Any) -> Answer:
    """Through the running node, or else one of our own."""
    # Not `in (None, False)`: 0 equals False, and is a sequence number.
    given = {key: value for key, value in arguments.items() if value is not None}
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            return client.dht(action, **given)
    return _ask_alone(Options.of(ctx), action, given)


def _ask_alone(options: Options, action: str, given: dict[str, Any]) -> Answer:
    config = options.config()
    from dht_torrent.cli.logs import log_to_stderr

    log_to_stderr(options.log_level, options.log_format)
    points = config.bootstrap_points()
    if not points and action != "ping":
        raise ControlError("no node is running; give a --bootstrap point to ask through")
    import random
    import secrets
    from dataclasses import replace

    import trio

    from dht_torrent.daemon.dht_api import ask
    from dht_torrent.engine.access import open_access
    from dht_torrent.engine.dht.dual_stack import DualStack
    from dht_torrent.engine.dht.node import Dht
    from dht_torrent.engine.torrent.disk import Disk
    from dht_torrent.errors import DhtTorrentError
    from dht_torrent.ids import Address

    wanted = config.listen_addresses()

    async def run() -> Answer | DhtTorrentError:
        rng = random.Random(secrets.randbits(128))
        way = await open_access(config, None, Disk(config.disk), rng=rng)
        network, proxy = way.network, way.proxy
        dhts: list[Dht] = []
        result: Answer | DhtTorrentError = ControlError("no DHT node answers")
        async with trio.open_nursery() as nursery:
            for address in wanted:
                bind = Address("::" if address.is_ipv6 else "0.0.0.0", 0)  # noqa: S104 - for answers
                try:
                    socket = await network.open_udp(bind)
                except OSError:
                    if not dhts:
                        raise
                    continue  # no IPv6 here
                dht = Dht(
                    network,
                    socket,
                    # BEP 43: gone in a moment, it should not become a contact.
                    replace(config.dht, read_only=True),
                    rng=random.Random(secrets.randbits(128)),
                    bootstrap=points,
                    forbids=way.filtering.forbids,
                    send_to_name=None if proxy is None else proxy.sender_to_names(socket.address),
                )
                dhts.append(dht)
            if proxy is not None:
                nursery.start_soon(proxy.run)
                with trio.move_on_after(PATIENCE):
                    await proxy.tried()
                trouble = proxy.status().udp_trouble
                if trouble is not None:
                    result = ControlError(f"there is no DHT behind the proxy: {trouble}")
                    nursery.cancel_scope.cancel()
            for dht in dhts:
                await nursery.start(dht.run)
            node = DualStack(dhts)
            with trio.move_on_after(PATIENCE):
                await node.bootstrapped()
            if any(status.good for status in node.status()) or not points:
                try:
                    result = await ask(node, action, given)
                except DhtTorrentError as error:
                    result = error  # raised outside, or the nursery would wrap it in a group
            nursery.cancel_scope.cancel()
        return result

    answer = trio.run(run)
    if isinstance(answer, DhtTorrentError):
        raise answer
    return answer


def _show(answer: Answer, as_json: bool, lines: Iterable[str]) -> None:
    view.show(answer, as_json)
    if not as_json:
        for line in lines:
            click.echo(view.clean(line))


def _question(
    action: str, **arguments: str
) -> Callable[[Callable[[Answer], Iterable[str]]], click.Command]:
    """A command that asks one thing, given these arguments (name and metavar). The function says,
    in lines, how people read the answer."""

    def command(lines: Callable[[Answer], Iterable[str]]) -> click.Command:
        def ask(ctx: click.Context, as_json: bool, **given: str) -> None:
            answer = _ask(ctx, action, **given)
            _show(answer, as_json, lines(answer))

        made = json_option(node_options(ask))
        for name, metavar in arguments.items():
            made = click.argument(name, metavar=metavar)(made)
        return dht.command(action, help=lines.__doc__)(made)

    return command


@_question("ping", address="IP:PORT")
def ping(answer: Answer) -> Iterable[str]:
    """Ask one node for its id."""
    yield f"{answer['id']}  {answer['milliseconds']} ms"


@_question("lookup", target="ID")
def lookup(answer: Answer) -> Iterable[str]:
    """Find the nodes closest to an id (40 hex digits)."""
    for node in answer["nodes"]:
        yield f"{node['id']}  {node['address']}"


@_question("peers", info_hash="INFOHASH")
def peers(answer: Answer) -> Iterable[str]:
    """Find the peers of a torrent."""
    yield from answer["peers"]


@dht.command("get")
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--key", metavar="HEX", help="The owner's public key, instead of TARGET.")
@click.option("--salt", metavar="TEXT", help="The salt of a mutable item.")
@click.option("--seq", type=int, metavar="N", help="Only what is newer.")
@click.option("--all", "everything", is_flag=True, help="Every variant, and who has which.")
@json_option
@node_options
def get_item(
    ctx: click.Context,
    target: str | None,
    key: str | None,
    salt: str | None,
    seq: int | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Get an item (BEP 44) and print its value; exit code 1 if no node has it."""
    if (target is None) == (key is None):
        raise InputError("give either TARGET or --key")
    answer = _ask(ctx, "get", target=target, key=key, salt=_salt(salt), seq=seq, all=everything)
    items = answer["items"] if everything else [answer["item"]] if answer["item"] else []
    _show(answer, as_json, map(_value, items))
    if not items:
        if not as_json:
            newer = "a newer one" if seq is not None else "it"
            click.echo(f"dhtnode: no node has {newer}", err=True)
        ctx.exit(1)


@dht.command("put")
@click.argument("value", metavar="TEXT")
@click.option("--bencoded", is_flag=True, help="TEXT is bencode already, not a string.")
@click.option(
    "--key",
    type=PLACE,
    metavar="FILE",
    help="Make it mutable, signed with the seed in FILE (64 hex digits); made if not there.",
)
@click.option("--salt", metavar="TEXT", help="One key may have an item for each salt.")
@click.option("--seq", type=int, metavar="N", help="Default: one more than the newest found.")
@click.option("--cas", type=int, metavar="N", help="Only where sequence number N is stored now.")
@json_option
@node_options
def put_item(
    ctx: click.Context,
    value: str,
    bencoded: bool,
    key: str | None,
    salt: str | None,
    seq: int | None,
    cas: int | None,
    as_json: bool,
) -> None:
    """Put an item (BEP 44) and print its target. A running node keeps it there."""
    if key is None and (salt, seq, cas) != (None, None, None):
        raise InputError("--salt, --seq and --cas are for mutable items: give --key as well")
    raw = os.fsencode(value)
    content = {"bencoded": raw.hex()} if bencoded else {"value": value}
    seed = _seed(Path(key)) if key is not None else None
    answer = _ask(ctx, "put", **content, seed=seed, salt=_salt(salt), seq=seq, cas=cas)
    _show(answer, as_json, [answer["target"]])
    if not as_json:
        count, refused = len(answer["stored"]), answer["refused"]
        codes = ", ".join(sorted({str(node["code"]) for node in refused}))
        why = f"; {len(refused)} refused it ({codes})" if refused else ""
        click.echo(f"stored on {view.counted(count, 'node')}{why}", err=True)
    if not answer["stored"] and answer["refused"]:
        ctx.exit(1)


@_question("scrape", info_hash="INFOHASH")
def scrape(answer: Answer) -> Iterable[str]:
    """Estimate how many seeds and downloaders a torrent has (BEP 33)."""
    seeds, others = round(answer["seeds"]), round(answer["downloaders"])
    yield f"seeds {seeds}  downloaders {others}  told by {view.counted(answer['answered'], 'node')}"


@_question("sample", address="IP:PORT")
def sample(answer: Answer) -> Iterable[str]:
    """Ask a node for infohashes it stores (BEP 51)."""
    yield from answer["samples"]


@_question("table")
def table(answer: Answer) -> Iterable[str]:
    """List the contacts in the routing table."""
    for contact in answer["contacts"]:
        state = "good" if contact["good"] else "questionable"
        yield (
            f"{contact['id']}  {contact['address']:<21}  {state}  {contact['seconds']:.0f} s ago"
        )


@_question("size")
def size(answer: Answer) -> Iterable[str]:
    """Estimate how many nodes the DHT has."""
    networks = [(answer[key], f" {name}") for key, name in _FAMILIES.items() if key in answer]
    for one, name in networks or [(answer, "")]:
        yield f"{'about ' if one['estimated'] else ''}{one['size']}{name} nodes"


def _salt(text: str | None) -> str | None:
    return os.fsencode(text).hex() if text is not None else None


def _value(item: dict[str, Any]) -> str:
    value = item["value"]
    import json

    text = value if isinstance(value, str) else json.dumps(value)
    return f"{item['seq']}  {text}" if item["mutable"] else text


def _seed(path: Path) -> str:
    """The seed in `path`, which is made, for its owner's eyes only, if it is not there. Raises
    InputError, OSError."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        import secrets

        text = secrets.token_bytes(KEY_SIZE).hex()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        click.echo(f"made a new key: {path}", err=True)
        sys.stderr.flush()
    if len(text) != 2 * KEY_SIZE or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise InputError(f"{path} must hold a seed of {2 * KEY_SIZE} hex digits")
    return text
