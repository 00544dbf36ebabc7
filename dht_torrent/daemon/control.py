"""Control addresses. Only the owner of the state directory may steer the node: a Unix socket of
mode 0600, or a TCP port on a loopback address with a secret token kept in a file of mode 0600.

The state directory holds `control`, which says where the node answers, and `token`. A `control`
file left behind by a crash is found out by connecting: no program answers, so there is no node.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dht_torrent.errors import InputError
from dht_torrent.ids import Address, parse_host_port
from dht_torrent.syscalls import UNSUPPORTED

MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""Bytes in `sun_path`, less the NUL (unix(7): 108 on Linux, 104 on BSD and macOS)."""
HEADER = "x-dhtnode"
"""A request header no web page of another origin can send without asking first (and no response
says yes): it stands in for a JSON content type on requests without a body."""
KEEP_ALIVE = 20.0
"""Seconds after its last answer at which a node closes a connection, and within which a request has
to be whole. More than the 5 s or 10 that pass between two questions of most programs: one that is
on its way while its connection is closed is lost."""
_MAX_FILE = 4096


@dataclass(frozen=True, slots=True)
class Control:
    """Where a node takes commands: exactly one of the two is set."""

    path: Path | None = None
    """A Unix socket."""
    address: Address | None = None
    """A loopback TCP address."""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else str(self.address)


def parse_control(text: str) -> Control:
    """Reads `unix:PATH` (made absolute) or `ADDR:PORT`.

    Raises InputError; also for a TCP address other machines could reach.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path or "\n" in path:
            raise InputError(f"expected unix:PATH, got {text[:80]!r}")
        return Control(path=Path(os.path.abspath(path)))  # noqa: PTH100 - a symlink must stay one
    host, port = parse_host_port(text)
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise InputError(f"the control address must be loopback (127.0.0.1 or ::1), not {host!r}")
    return Control(address=Address(str(ip), port))


def default_control(state_dir: Path) -> tuple[Control, Path | None]:
    """The node's own socket in its state directory and, when that path is too long for the system
    or on a file system without sockets, one in a new private directory instead. The second value is
    that directory, to be removed."""
    path = state_dir.absolute() / "control.sock"
    if fits(path) and _holds_sockets(path.parent):
        return Control(path=path), None
    before = read_control(state_dir)
    if before is not None and before.path is not None and _is_private(before.path.parent):
        return before, before.path.parent  # left by a node that was killed
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it private
        if parent and len(os.fsencode(parent)) < MAX_SOCKET_PATH - 40:
            with contextlib.suppress(OSError):
                private = Path(tempfile.mkdtemp(prefix="dhtnode-", dir=parent))  # mode 0700
                return Control(path=private / "control.sock"), private
    raise InputError(f"no place for a control socket: the system does not allow one at {path}")


def _holds_sockets(folder: Path) -> bool:
    """Whether the file system has sockets: one shared with Windows, say, does not."""
    path = folder / f".{secrets.token_hex(4)}"  # no longer than the true name
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(os.fspath(path))
        except OSError as error:  # others are told of when the true one is bound
            return error.errno not in UNSUPPORTED
    path.unlink(missing_ok=True)
    return True


def _is_private(folder: Path) -> bool:
    """Whether `folder` is one that `default_control` made: ours alone, and no symlink."""
    try:
        info = folder.lstat()
    except OSError:
        return False
    ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()
    return ours and not info.st_mode & 0o077 and folder.name.startswith("dhtnode-")


def fits(path: Path) -> bool:
    """Whether a Unix socket can have this path."""
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH


def write_control(state_dir: Path, control: Control) -> None:
    """Tell clients where the node answers. Atomic: they see the old address or this one."""
    _write_private(state_dir / "control", f"{control}\n")


def read_control(state_dir: Path) -> Control | None:
    """Where the node of this state directory said it answers; None when it said nothing usable."""
    text = _read_small(state_dir / "control")
    if text is None:
        return None
    try:
        return parse_control(text)
    except InputError:
        return None


def remove_control(state_dir: Path, control: Control, token: str | None = None) -> None:
    """Take back what `write_control` and `make_token` wrote, unless another node has written
    since."""
    with contextlib.suppress(OSError):  # a folder that is read-only by now: they lead nowhere
        if read_control(state_dir) == control:
            (state_dir / "control").unlink(missing_ok=True)
        if token is not None and read_token(state_dir) == token:
            (state_dir / "token").unlink(missing_ok=True)


def make_token(state_dir: Path) -> str:
    """A new random 256-bit secret, written to `token` with mode 0600."""
    token = secrets.token_hex(32)
    _write_private(state_dir / "token", f"{token}\n")
    return token


def read_token(state_dir: Path) -> str | None:
    """The secret of the node of this state directory, if there is one we may read."""
    return _read_small(state_dir / "token")


@contextlib.contextmanager
def said_in(state_dir: Path, link: str) -> Iterator[None]:
    """The secret link of the node's page is in `web` meanwhile, with mode 0600."""
    _write_private(state_dir / "web", f"{link}\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if read_page_link(state_dir) == link:
                (state_dir / "web").unlink(missing_ok=True)


def read_page_link(state_dir: Path) -> str | None:
    """The secret link of the page of the node of this state directory, if there is one."""
    return _read_small(state_dir / "web")


def _read_small(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(_MAX_FILE)).strip() or None
    except OSError:
        return None


def _write_private(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.fsencode(text))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
