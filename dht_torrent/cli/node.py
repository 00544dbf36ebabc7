"""The node a command means: the one that runs for its state directory, or one in this process. The
options that say which may stand before the command or after it; there they win.
"""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from dht_torrent.errors import ControlError, InputError

if TYPE_CHECKING:
    import signal

    from dht_torrent.config import Config, CrawlConfig
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.daemon.web_app import WebOptions
    from dht_torrent.engine.node import Node

_PASSWORD = re.compile(r"://[^/@]*:[^/]*@|[?&]password=")
"""In a URL."""
_LOG_LEVELS = ("debug", "info", "warning", "error")

Command = TypeVar("Command", bound=Callable[..., Any])
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which node, and how it is to be."""

    bootstrap: tuple[str, ...] | None = None
    listen: tuple[str, ...] | None = None
    tls_listen: tuple[str, ...] | None = None
    interface: str | None = None
    state_dir: Path
    download_dir: Path | None = None
    control: str | None = None
    limit_up: str | None = None
    limit_down: str | None = None
    no_pex: bool = False
    encryption: str | None = None
    dht_unlimited: bool = False
    no_lsd: bool = False
    no_port_mapping: bool = False
    no_tcp: bool = False
    no_utp: bool = False
    catalogue: str | None = None
    crawl: bool = False
    crawl_rate: float | None = None
    deny: str | None = None
    proxy: str | None = None
    web: str | None = None
    rpc_auth: str | None = None
    rpc_auth_file: str | None = None
    web_dir: tuple[str, ...] = ()
    web_host: tuple[str, ...] = ()
    web_tls: tuple[str, str] | None = None
    web_insecure: bool = False
    ip_filter: str | None = None
    log_level: str = "warning"

    @classmethod
    def of(cls, ctx: click.Context) -> Options:
        given = dict(ctx.find_object(dict) or {})
        given.setdefault("state_dir", None)
        if given["state_dir"] is None:
            import platformdirs

            folder = _at_home(lambda: platformdirs.user_state_path("dhtnode"))
            if folder is None:
                raise InputError("there is no home directory; name a folder with --state-dir")
            given["state_dir"] = folder
        else:
            given["state_dir"] = Path(given["state_dir"]).absolute()
        return cls(**given)

    def config(self) -> Config:
        """Raises InputError naming the option that is wrong."""
        from dht_torrent.config import Config

        download_dir = self.download_dir
        if download_dir is None:
            import platformdirs

            download_dir = _at_home(platformdirs.user_downloads_path)
            if download_dir is None or not download_dir.is_dir():
                download_dir = Path.cwd()
        options: dict[str, Any] = {}
        if self.bootstrap is not None:
            options["bootstrap"] = () if self.bootstrap == ("none",) else self.bootstrap
        options |= {f"limit_{way}": rate for way, rate in self.rates().items()}
        if self.no_pex:
            options["pex"] = False
        if self.no_tcp:
            options["tcp"] = False
        if self.no_utp:
            from dht_torrent.config import UtpConfig

            options["utp"] = UtpConfig(enabled=False)
        if self.dht_unlimited:
            from dht_torrent.config import DhtConfig

            options["dht"] = DhtConfig(unlimited=True)
        if self.listen is not None:
            options["listen"] = self.listen
        if self.tls_listen is not None:
            options["tls_listen"] = () if self.tls_listen == ("none",) else self.tls_listen
        if self.interface is not None:
            options["interface"] = self.interface
        if self.encryption is not None:
            options["encryption"] = self.encryption
        if self.catalogue is not None:
            from dht_torrent.config import CatalogueConfig

            options["catalogue"] = CatalogueConfig(url=self.catalogue)
        if self.deny is not None:
            options["deny_list"] = Path(self.deny).absolute()
        if self.proxy is not None:
            options["proxy"] = self.proxy
        if self.ip_filter is not None:
            options["ip_filter"] = Path(self.ip_filter).absolute()
        if self.crawl:
            options["crawl"] = self._crawl()
        elif self.crawl_rate is not None:
            raise InputError("--crawl-rate is for --crawl")
        config = Config(
            state_dir=self.state_dir,
            download_dir=Path(download_dir).absolute(),
            lsd=not self.no_lsd,
            port_mapping=not self.no_port_mapping,
            **options,
        )
        config.check_transports()
        config.bootstrap_points()
        config.listen_addresses()
        config.tls_addresses()
        config.proxy_server()
        return config

    def _crawl(self) -> CrawlConfig:
        from dht_torrent.config import CrawlConfig

        config = CrawlConfig(enabled=True)
        if self.crawl_rate is None:
            return config
        if not 0 < self.crawl_rate <= config.max_rate:
            raise InputError(f"--crawl-rate is above 0 and at most {config.max_rate:g} queries/s")
        return replace(config, rate=self.crawl_rate)

    def rates(self) -> dict[str, int | None]:
        """The limits given, by direction. Raises InputError."""
        return parse_rates(self.limit_up, self.limit_down)


def _at_home(find: Callable[[], Path]) -> Path | None:
    """A folder below the user's home, or None where there is no home."""
    try:
        folder = find()
    except (RuntimeError, KeyError):  # newer versions of platformdirs; older ones leave the "~"
        return None
    return folder if folder.is_absolute() else None


def parse_rates(up: str | None, down: str | None) -> dict[str, int | None]:
    """Bytes per second by direction, of what was given. Raises InputError."""
    from dht_torrent.rates import parse_rate

    given = {"up": up, "down": down}
    return {way: parse_rate(text) for way, text in given.items() if text is not None}


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep what an option was given for `Options.of`."""
    if value is not None and value != ():
        given = ctx.ensure_object(dict)
        # Before the command and after it: the environment is heard twice, and goes before neither.
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.ENVIRONMENT:
            given.setdefault(param.name, value)
        else:
            given[param.name] = value


def _remember_secret(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        name = str(param.name)
        given = ctx.get_parameter_source(name)
        if given is ParameterSource.COMMANDLINE and _PASSWORD.search(value):
            also = ", or in ~/.pgpass" if name == "catalogue" else ""
            click.echo(
                f"dhtnode: everybody on this machine can read the password in --{name}; give it"
                f" in DHTNODE_{name.upper()}{also}",
                err=True,
            )
    remember(ctx, param, value)


def option(name: str, **attributes: Any) -> Callable[[Command], Command]:
    """One that is remembered for `Options.of`."""
    return click.option(name, expose_value=False, **{"callback": remember, **attributes})


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that says where a node's files are. The command gets its context."""
    made = option("--state-dir", metavar="DIR", help="The folder of the node's own files.")
    return made(click.pass_context(command))


def which_node(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that find a running node. The command gets its context, for `Options.of`."""
    command = click.pass_context(command)
    for made in (
        option("--control", metavar="unix:PATH|ADDR:PORT", help="Where the node takes commands."),
        option("--state-dir", metavar="DIR", help="The folder of the node's own files."),
    ):
        command = made(command)
    return command


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`which_node`, and the options of a node in this process."""
    for made in (
        option(
            "--limit-down",
            metavar="RATE",
            help="Receive at most this rate, such as 500K or 1.5MiB/s.",
        ),
        option(
            "--limit-up", metavar="RATE", help="Send at most this rate; 0 or 'none' for no limit."
        ),
        option(
            "--no-pex",
            is_flag=True,
            default=None,
            help="Neither tell peers of other peers nor hear of them (PEX, BEP 11).",
        ),
        option(
            "--no-utp",
            is_flag=True,
            default=None,
            help="Connect with peers over TCP only, and not over uTP (BEP 29).",
        ),
        option(
            "--no-tcp",
            is_flag=True,
            default=None,
            help="Connect with peers over uTP only, and not over TCP.",
        ),
        option(
            "--dht-unlimited",
            is_flag=True,
            default=None,
            help="For labs: lift the DHT's limits on queries, bytes, items and signatures.",
        ),
        option(
            "--no-lsd",
            is_flag=True,
            default=None,
            help="Do not look for peers in the local network by multicast (BEP 14).",
        ),
        option(
            "--no-port-mapping",
            is_flag=True,
            default=None,
            help="Do not ask the router to let peers in (PCP, NAT-PMP, UPnP).",
        ),
        option(
            "--crawl",
            is_flag=True,
            default=None,
            help="Look through the DHT for torrents, to know them in searches (BEP 51).",
        ),
        option(
            "--crawl-rate",
            type=float,
            metavar="N",
            help="With --crawl: at most N queries a second, of 20; 10 by default.",
        ),
        option(
            "--catalogue",
            metavar="URL",
            envvar="DHTNODE_CATALOGUE",
            callback=_remember_secret,
            help="The catalogue in a PostgreSQL database, postgresql://[USER@]HOST/DATABASE,"
            " which several nodes may share, instead of a file. Also DHTNODE_CATALOGUE.",
        ),
        option(
            "--deny",
            metavar="FILE",
            help="Words and infohashes, a line each, of torrents that are neither stored, published"
            " nor shown. Read again when it changes.",
        ),
        option(
            "--proxy",
            metavar="URL",
            envvar="DHTNODE_PROXY",
            callback=_remember_secret,
            help="Everything through this SOCKS5 proxy or not at all,"
            " socks5://[USER:PASSWORD@]HOST[:PORT]; nobody can connect to the node then. Also"
            " DHTNODE_PROXY.",
        ),
        option(
            "--ip-filter",
            metavar="FILE",
            help="IP addresses this node has nothing to do with: P2P, DAT, CIDR or plain ranges, a"
            " line each. Read again when it changes.",
        ),
        option(
            "--log-level",
            type=click.Choice(_LOG_LEVELS),
            help="The least severe messages to log on stderr.",
        ),
        option(
            "--encryption",
            type=click.Choice(["prefer", "require", "allow", "off"]),
            envvar="DHTNODE_ENCRYPTION",
            help="MSE with peers: dial with it first (prefer, the default), never do without it "
            "(require), only accept it (allow), or never. Also DHTNODE_ENCRYPTION.",
        ),
        option(
            "--interface",
            metavar="NAME|ADDR",
            help="Reach other nodes through this network interface only; wait while it is away.",
        ),
        option("--download-dir", metavar="DIR", help="Where downloads go."),
        option(
            "--listen",
            metavar="ADDR:PORT",
            multiple=True,
            help="For peers, TCP and UDP; port 0 means any. Twice: IPv4 and IPv6, the default.",
        ),
        option(
            "--tls-listen",
            metavar="ADDR:PORT",
            multiple=True,
            help="For peers of SSL torrents; by default any port, once there is one; or 'none'.",
        ),
        option(
            "--bootstrap",
            metavar="HOST:PORT",
            multiple=True,
            help="An entry point to the DHT (repeatable); 'none' for a network's first node.",
        ),
    ):
        command = made(command)
    return which_node(command)


def tls_options(*, ca: bool) -> Callable[[Command], Command]:
    """Those of an SSL torrent, which a command gets as absolute paths."""

    def absolute(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
        return Path(value).absolute() if value is not None else None

    whose = {
        "--tls-key": "The private key of that certificate.",
        "--tls-cert": "Our certificate, for an SSL torrent.",
    }
    if ca:
        whose["--tls-ca"] = "Make it an SSL torrent, for those whose certificate this one signed."

    def wrapped(command: Command) -> Command:
        for name, text in whose.items():
            command = click.option(name, metavar="FILE.pem", help=text, callback=absolute)(command)
        return command

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def run_node(
    options: Options,
    job: Callable[[Node, Control], Awaitable[None]],
    web: WebOptions | None = None,
) -> signal.Signals | None:
    """A node in this process, until `job` ends, a signal or a client's stop. Returns the signal."""
    with _staying():
        config = options.config()
        log_to_stderr(options.log_level)
        import trio

        from dht_torrent.daemon.run import run

    return trio.run(run, config, options.control, job, web)


@contextlib.contextmanager
def _staying() -> Iterator[None]:
    """What is made in the block stays for as long as the process. The garbage collector does not
    look for what might go of it, neither meanwhile nor ever after, the end of the process included.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def log_to_stderr(level: str) -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("hypercorn").setLevel(logging.WARNING)


def running_node(ctx: click.Context) -> Client:
    """A client of the running node. Raises NoNode."""
    from dht_torrent.daemon.client import connect

    options = Options.of(ctx)
    return connect(options.state_dir, options.control)


def running_node_if_any(ctx: click.Context) -> Client | None:
    """The same, or None where no node runs."""
    from dht_torrent.daemon.presence import NoNode, find

    options = Options.of(ctx)
    with contextlib.suppress(NoNode):
        find(options.state_dir, options.control)  # before a client is imported for nothing
        return running_node(ctx)
    return None


def ask(
    ctx: click.Context,
    through: Callable[[Client], Answer],
    alone: Callable[[Node], Awaitable[Answer]],
) -> Answer:
    """Of the running node, or of one of our own that asks nothing of the network."""
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            return through(client)
    answers: list[Answer] = []

    async def job(node: Node) -> None:
        answers.append(await alone(node))

    run_alone(ctx, job)
    return answers[0]


def run_alone(ctx: click.Context, job: Callable[[Node], Awaitable[None]]) -> None:
    """Do `job` with a node of our own that asks nothing of the network. Exits if it is stopped."""
    done = False

    async def all_of_it(node: Node, control: Control) -> None:
        nonlocal done
        await job(node)
        done = True

    ended_by = run_node(replace(Options.of(ctx), bootstrap=("none",)), all_of_it)
    if not done:
        if ended_by is not None:
            ctx.exit(128 + ended_by)
        raise ControlError("the node was stopped before this was done")
