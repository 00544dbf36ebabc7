"""The node a command means: the one that runs for its state directory, or one in this process."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from dht_torrent.cli.declared import default_download_dir, default_state_dir, seed_idle, seed_ratio
from dht_torrent.cli.options import PLACE, Given, declared, parse_command, parse_count
from dht_torrent.cli.remembered import said_first
from dht_torrent.cli.settings import Setting, file_of, setting_of, settings
from dht_torrent.errors import ControlError, InputError

if TYPE_CHECKING:
    import signal

    from dht_torrent.config import Config, CrawlConfig, EncryptionPolicy
    from dht_torrent.config.alternative import AlternativeLimits
    from dht_torrent.config.node import AfterSeeding
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.daemon.web_app import WebOptions
    from dht_torrent.engine.node import Node


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
    download_dir: str | None = None
    control: str | None = None
    limit_up: str | None = None
    limit_down: str | None = None
    alt_limit_up: str | None = None
    alt_limit_down: str | None = None
    alt_hours: str | None = None
    min_free: str | None = None
    watch: str | None = None
    on_complete: str | None = None
    active_downloads: str | None = None
    active_seeds: str | None = None
    seed_ratio: str | None = None
    seed_idle: str | None = None
    after_seeding: AfterSeeding | None = None
    pex: bool = True
    encryption: EncryptionPolicy | None = None
    dht_unlimited: bool = False
    lsd: bool = True
    port_mapping: bool = True
    tcp: bool = True
    utp: bool = True
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
    web_read_only: bool = False
    ip_filter: str | None = None
    log_level: str = "warning"
    log_format: str = "text"
    fixed: frozenset[str] = frozenset()
    """Fields of the configuration that the command line or the environment has said."""

    @classmethod
    def of(cls, ctx: click.Context) -> Options:
        """Those of a command. Raises InputError naming what is wrong, and where it was said."""
        return cls.from_settings(settings(ctx))

    @classmethod
    def from_settings(cls, found: Mapping[str, Setting]) -> Options:
        """Raises InputError for those that do not go together."""
        rate = found.get("crawl_rate")
        if rate is not None and rate.source == "command line" and not found["crawl"].value:
            raise InputError("--crawl-rate is for --crawl")
        known = {one.name for one in fields(cls)} - {"state_dir", "fixed"}
        values = {
            name: setting.value
            for name, setting in found.items()
            if name in known and setting.value is not None
        }
        return cls(state_dir=_state_dir(found["state_dir"]), fixed=said_first(found), **values)

    @property
    def has_rpc(self) -> bool:
        """It answers Transmission's RPC."""
        return self.web is not None and bool(self.rpc_auth or self.rpc_auth_file)

    def config(self) -> Config:
        """Raises InputError naming the option that is wrong."""
        from dht_torrent.config import Config

        download_dir = self.download_dir
        options: dict[str, Any] = {}
        if self.bootstrap is not None:
            options["bootstrap"] = () if self.bootstrap == ("none",) else self.bootstrap
        options |= {f"limit_{way}": rate for way, rate in self.rates().items()}
        options["alternative_limits"] = self._alternative()
        if self.min_free is not None:
            from dht_torrent.rates import parse_size

            options["min_free"] = parse_size(self.min_free)
        for name, parse in _KEEPING.items():
            if (text := getattr(self, name)) is not None:
                options[name] = parse(text)
        for name in ("listen", "interface", "encryption", "proxy", "after_seeding"):
            if (given := getattr(self, name)) is not None:
                options[name] = given
        if not self.utp:
            from dht_torrent.config import UtpConfig

            options["utp"] = UtpConfig(enabled=False)
        if self.dht_unlimited:
            from dht_torrent.config import DhtConfig

            options["dht"] = DhtConfig(unlimited=True)
        if self.tls_listen is not None:
            options["tls_listen"] = () if self.tls_listen == ("none",) else self.tls_listen
        if self.catalogue is not None:
            from dht_torrent.config import CatalogueConfig

            options["catalogue"] = CatalogueConfig(url=self.catalogue)
        if self.watch is not None:
            options["watch_folder"] = Path(self.watch).absolute()
        if self.on_complete is not None:
            options["on_complete"] = parse_command(self.on_complete)
        if self.deny is not None:
            options["deny_list"] = Path(self.deny).absolute()
        if self.ip_filter is not None:
            options["ip_filter"] = Path(self.ip_filter).absolute()
        if self.crawl:
            options["crawl"] = self._crawl()
        config = Config(
            state_dir=self.state_dir,
            download_dir=Path(download_dir or default_download_dir()).absolute(),
            lsd=self.lsd,
            port_mapping=self.port_mapping,
            pex=self.pex,
            tcp=self.tcp,
            **options,
        )
        config.check_transports()
        config.bootstrap_points()
        config.listen_addresses()
        config.tls_addresses()
        config.proxy_server()
        return config

    def _alternative(self) -> AlternativeLimits:
        from dht_torrent.config.alternative import AlternativeLimits, parse_hours

        given: dict[str, Any] = parse_rates(self.alt_limit_up, self.alt_limit_down)
        if self.alt_hours is not None:
            given |= {"by_clock": True, "hours": parse_hours(self.alt_hours)}
        return AlternativeLimits(**given)

    def _crawl(self) -> CrawlConfig:
        from dht_torrent.config import CrawlConfig

        config = CrawlConfig(enabled=True)
        return config if self.crawl_rate is None else replace(config, rate=self.crawl_rate)

    def rates(self) -> dict[str, int | None]:
        """The limits given, by direction. Raises InputError."""
        return parse_rates(self.limit_up, self.limit_down)


_KEEPING: Final[Mapping[str, Callable[[str], float | None]]] = {
    "active_downloads": parse_count,
    "active_seeds": parse_count,
    "seed_ratio": seed_ratio,
    "seed_idle": seed_idle,
}


def _state_dir(setting: Setting) -> Path:
    return Path(setting.value or default_state_dir()).absolute()


def place_of(ctx: click.Context) -> tuple[Path, str | None]:
    """The state directory of the node that is meant, and the control address if one is told.

    Where the first is named, the node of it says itself where it answers, and no file is read; of
    one that is read, the rest may be wrong. Raises InputError."""
    given, options = ctx.ensure_object(Given), declared(ctx)
    file = None
    if not given.values.get("state_dir"):
        file = file_of(given)
    state_dir = setting_of(given, options["state_dir"], file)
    control = setting_of(given, options["control"], file).value if "control" in options else None
    return _state_dir(state_dir), control


def parse_rates(up: str | None, down: str | None) -> dict[str, int | None]:
    """Bytes per second by direction, of what was given. Raises InputError."""
    from dht_torrent.rates import parse_rate

    given = {"up": up, "down": down}
    return {way: parse_rate(text) for way, text in given.items() if text is not None}


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
            command = click.option(
                name, type=PLACE, metavar="FILE.pem", help=text, callback=absolute
            )(command)
        return command

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def run_node(
    options: Options,
    job: Callable[[Node, Control], Awaitable[None]],
    web: WebOptions | None = None,
    reload: Reload | None = None,
) -> signal.Signals | None:
    """A node in this process, until `job` ends, a signal or a client's stop. Returns the signal."""
    with _staying():
        from dht_torrent.cli.logs import log_to_stderr

        config = options.config()
        log_to_stderr(options.log_level, options.log_format)
        import trio

        from dht_torrent.daemon.run import run

    return trio.run(run, config, options.control, job, web, reload)


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


def running_node(ctx: click.Context) -> Client:
    """A client of the running node. Raises NoNode."""
    from dht_torrent.daemon.client import connect

    return connect(*place_of(ctx))


def running_node_if_any(ctx: click.Context) -> Client | None:
    """The same, or None where no node runs."""
    from dht_torrent.daemon.presence import NoNode, find

    with contextlib.suppress(NoNode):
        find(*place_of(ctx))  # before a client is imported for nothing
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
