"""HTTP to a running node, plain and blocking, over its Unix socket or a loopback port.

A connection serves one request at a time, and is kept for the next one. What fails raises NoNode,
when the node is not there or has gone, or ControlError, when it is silent for too long.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dht_torrent.daemon.control import HEADER, Control
from dht_torrent.daemon.presence import NoNode, open_socket
from dht_torrent.errors import ControlError

TIMEOUT: Final = 30.0
"""Seconds a node may take to accept a connection, to read of a request and to go on with an answer.
"""
QUEUE_PAUSE: Final = 0.05
"""Seconds before a node is tried again whose queue of connections is full."""
_API: Final = "/api/v1/"
_KEPT: Final = 8
"""Connections that HttpClient keeps for later requests; others are closed when they are done."""
KEPT_FOR: Final = 5.0
"""Seconds for which they are. The node keeps them for longer (`control.KEEP_ALIVE`), or it would
close one just when that is used again."""
_PART: Final = 1 << 16
"""Bytes of an answer handed on at once, at most."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the node said."""

    status: int
    content: bytes

    @property
    def is_success(self) -> bool:
        return _is_success(self.status)


class HttpClient:
    """The connections to one node. `close` it at last."""

    def __init__(self, control: Control, token: str | None = None) -> None:
        self._control = control
        self._headers = {HEADER: "1"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._kept: list[_Connection] = []

    def close(self) -> None:
        """Close those that are not in use. Idempotent."""
        while self._kept:
            self._kept.pop().close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        patience: float | None = TIMEOUT,
    ) -> HttpAnswer:
        """One request and its whole answer. The node may be silent for `patience` seconds; None
        means for ever."""
        with self._asked(method, path, body, headers or {}, patience) as response:
            return HttpAnswer(response.status, response.read())

    def stream(
        self, path: str, *, patience: float | None = TIMEOUT
    ) -> Generator[bytes, None, HttpAnswer | None]:
        """The parts of an answer as they come. Of one that is not a success none is yielded: it is
        returned. To close the generator before its end closes the connection."""
        with self._asked("GET", path, None, {}, patience) as response:
            if not _is_success(response.status):
                return HttpAnswer(response.status, response.read())
            while part := response.read1(_PART):
                yield part
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        return None

    @contextlib.contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        patience: float | None,
    ) -> Iterator[http.client.HTTPResponse]:
        """A request, and the beginning of its answer. What was not read of it in the block is not
        read any more."""
        with self._errors():
            connection = self._take()
            try:
                given = {**self._headers, **headers}
                try:
                    response = connection.ask(method, path, body, given, patience)
                except ConnectionError:
                    if connection.used_at is None or method != "GET":
                        raise
                    # Closed in spite of all, and no harm is done by asking twice (RFC 9110, 9.2.2).
                    connection.close()
                    connection = self._make()
                    response = connection.ask(method, path, body, given, patience)
                yield response
            except BaseException:
                connection.close()
                raise
            if response.isclosed() and len(self._kept) < _KEPT and connection.sock is not None:
                connection.used_at = time.monotonic()
                self._kept.append(connection)
            else:
                connection.close()

    def _take(self) -> _Connection:
        """One that is kept and still there, or else a new one."""
        while self._kept:
            kept = self._kept.pop()
            if kept.is_idle():
                return kept
            kept.close()
        return self._make()

    def _make(self) -> _Connection:
        """A new one. A node with a full queue is waited for."""
        made, end = _Connection(self._control), time.monotonic() + TIMEOUT
        while True:
            try:
                made.connect()
            except BlockingIOError as error:  # Linux refuses at once what a full queue cannot hold
                if time.monotonic() > end:
                    raise self._none_there() from error
            except OSError as error:
                raise self._none_there() from error
            else:
                return made
            time.sleep(QUEUE_PAUSE)

    def _none_there(self) -> NoNode:
        return NoNode(f"no node answers at {self._control}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What a connection raises, as the package's own."""
        try:
            yield
        except NoNode as error:
            raise error from None
        except TimeoutError:
            raise ControlError(f"the node at {self._control} does not answer") from None
        except (ConnectionError, http.client.HTTPException):
            raise NoNode(f"the node at {self._control} has gone") from None
        except OSError as error:
            raise NoNode(f"the node at {self._control} has gone ({error})") from None


class _Connection(http.client.HTTPConnection):
    """One that is told where the node is, not by a name."""

    sock: socket.socket | None

    def __init__(self, control: Control) -> None:
        address = control.address
        super().__init__(*(("localhost",) if address is None else (address.host, address.port)))
        self._control = control
        self.used_at: float | None = None
        """When its last answer ended, on the monotonic clock. None while it is new."""

    def connect(self) -> None:
        self.sock = open_socket(self._control, TIMEOUT)

    def is_idle(self) -> bool:
        """Whether the node has kept it as well. It says nothing unasked, but for goodbye."""
        if self.sock is None or self.used_at is None or time.monotonic() > self.used_at + KEPT_FOR:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        patience: float | None,
    ) -> http.client.HTTPResponse:
        assert self.sock is not None
        self.sock.settimeout(TIMEOUT)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # A node that has read enough to refuse closes, but has said why.
            self.request(method, f"{_API}{path}", body, dict(headers))
        self.sock.settimeout(patience)
        return self.getresponse()


def _is_success(status: int) -> bool:
    return 200 <= status < 300
