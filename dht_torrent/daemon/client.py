"""The other end of `app`: what the command line, scripts and tests use to steer a running node.

It is plain blocking HTTP; the errors the node answers with become the package's own again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self, cast
from urllib.parse import quote, urlencode

from dht_torrent.daemon.control import Control, read_token
from dht_torrent.daemon.http_client import TIMEOUT, HttpAnswer, HttpClient
from dht_torrent.daemon.link_calls import LinkCalls
from dht_torrent.daemon.presence import find, is_held, somebody_listens
from dht_torrent.errors import ControlError, InputError

DHT_TIMEOUT = 180.0
"""Seconds a question to the DHT may take: two lookups of a minute each, and what follows."""

Json = dict[str, Any]


class Client:
    """A connection to a running node. A context manager.

    Each method is one request. Raises InputError for what the node cannot use (400, 404),
    ControlError when it refuses, and NoNode when it is gone.
    """

    def __init__(self, control: Control, *, token: str | None = None) -> None:
        self.control = control
        self._http = HttpClient(control, token)
        self.links = LinkCalls(self._ask, partial(self._ask, patience=None), self._lines)
        """Links whose content changes: following and publishing them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the node, which goes on. Idempotent."""
        self._http.close()

    def status(self) -> Json:
        """NodeStatus."""
        return cast("Json", self._ask("GET", "status"))

    def torrents(self) -> list[Json]:
        """A Summary for each torrent."""
        return cast("list[Json]", self._ask("GET", "torrents"))

    def torrent(self, torrent_id: str) -> Json:
        """Its Summary."""
        return cast("Json", self._ask("GET", _path(torrent_id)))

    def watch(self, torrent_id: str) -> Generator[Json, None, None]:
        """Its Summary now and whenever it changes, at most twice a second; the same one again after
        ten seconds without a change. Ends when the torrent is gone or the node is told to stop.

        It holds a connection until it ends or is closed: use `contextlib.closing` around a loop
        that may be left. Raises what all methods do, also in the middle: NoNode when the node has
        gone, ControlError when it does not answer any more."""
        yield from self._lines(_path(torrent_id, "watch"))

    def peers(self, torrent_id: str) -> list[Json]:
        """A PeerInfo for each connection."""
        return cast("list[Json]", self._ask("GET", _path(torrent_id, "peers")))

    def files(self, torrent_id: str) -> list[Json]:
        """A FileInfo for each file."""
        return cast("list[Json]", self._ask("GET", _path(torrent_id, "files")))

    def torrent_file(self, torrent_id: str) -> bytes:
        """The .torrent, once the metadata is known (ControlError before)."""
        return self._request("GET", _path(torrent_id, "torrent"))

    def get(
        self,
        source: str | bytes,
        *,
        output: Path | None = None,
        select: str | None = None,
        sequential: bool = False,
        paused: bool = False,
        overwrite: bool = False,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        sources: Sequence[Path] = (),
    ) -> Json:
        """Add a download by magnet link or infohash (str) or by the bytes of a .torrent.

        `output` must be absolute; `select` is file indices as `0,2-3`; `overwrite` replaces files
        that lie there and hold something else. `tls_cert` and `tls_key` are for an SSL torrent, and
        absolute. `sources`, absolute too, are files and folders that may hold some of it. Returns
        its Summary.
        """
        body: Json = {"sequential": sequential, "paused": paused, "overwrite": overwrite}
        if isinstance(source, str):
            body["source"] = source
        else:
            body["torrent"] = base64.b64encode(source).decode("ascii")
        if output is not None:
            body["output"] = str(output)
        if select is not None:
            body["select"] = select
        if sources:
            body["sources"] = [str(source) for source in sources]
        body |= _paths(tls_cert=tls_cert, tls_key=tls_key)
        return cast("Json", self._ask("POST", "torrents", body))

    def share(
        self,
        path: Path,
        *,
        piece_length: int | None = None,
        private: bool = False,
        super_seed: bool | None = None,
        tls_ca: Path | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        publish: bool = False,
        tags: Sequence[str] = (),
    ) -> Json:
        """Seed `path` (absolute) in place, as an SSL torrent if the three TLS files, absolute too,
        are given; for `super_seed`, `publish` and `tags` see `Node.share`. Returns its Summary once
        it is hashed: that may take minutes, so there is no time limit on the answer."""
        body: Json = {
            "share": str(path),
            "piece_length": piece_length,
            "private": private,
            "super_seed": super_seed,
            "publish": publish,
            "tags": list(tags),
        }
        body |= _paths(tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key)
        return cast("Json", self._ask("POST", "torrents", body, patience=None))

    def pause(self, torrent_id: str) -> Json:
        """See `Torrent.pause`. `torrent_id` is a prefix of the hex id. Raises ControlError."""
        return cast("Json", self._ask("POST", _path(torrent_id, "pause"), {}))

    def resume(self, torrent_id: str) -> Json:
        """See `Torrent.resume`. Raises ControlError."""
        return cast("Json", self._ask("POST", _path(torrent_id, "resume"), {}))

    def recheck(self, torrent_id: str) -> Json:
        """See `Torrent.recheck`. Raises ControlError."""
        return cast("Json", self._ask("POST", _path(torrent_id, "recheck"), {}))

    def keep(self, torrent_id: str, action: str, **body: object) -> Json:
        """One of `keeping_api.ACTIONS`: `files`, `labels`, `seeding`, `queue`, `announce`,
        `rename`. Returns the Summary. Raises ControlError."""
        return cast("Json", self._ask("POST", _path(torrent_id, action), body))

    def move(self, torrent_id: str, folder: Path, *, data: bool = True, wait: bool = True) -> Json:
        """Have its content in this folder, an absolute one: see `Torrent.move` and, for `data`
        False, `Torrent.look_in`. It may take hours, so there is no time limit on the answer.
        Returns its Summary. Raises ControlError."""
        body = {"folder": str(folder), "data": data, "wait": wait}
        return cast("Json", self._ask("POST", _path(torrent_id, "move"), body, patience=None))

    def limit(
        self,
        torrent_id: str | None = None,
        *,
        up: int | EllipsisType | None = ...,
        down: int | EllipsisType | None = ...,
    ) -> Json:
        """Limit a torrent, or the whole node, to so many bytes per second: None lifts the limit,
        `...` leaves it as it is. Returns the Summary or NodeStatus."""
        rates: Json = {"up": up, "down": down}
        body = {key: rate for key, rate in rates.items() if rate is not ...}
        path = "limits" if torrent_id is None else _path(torrent_id, "limits")
        return cast("Json", self._ask("POST", path, body))

    def limit_node(self, **body: object) -> Json:
        """See `keeping_api.set_node_limits`. Returns NodeStatus. Raises ControlError."""
        return cast("Json", self._ask("POST", "limits", body))

    def dht(self, action: str, **arguments: object) -> Json:
        """Ask the DHT through the node: see `daemon.dht_api` for actions and arguments. A lookup
        may take a minute."""
        given = {key: value for key, value in arguments.items() if value is not None}
        return cast("Json", self._ask("POST", f"dht/{quote(action)}", given, patience=DHT_TIMEOUT))

    def search(
        self,
        text: str = "",
        *,
        prefix: bool = False,
        min_size: int | None = None,
        max_size: int | None = None,
        since: float | None = None,
        limit: int | None = None,
        patience: float | None = None,
        network: bool = True,
    ) -> Generator[Json, None, None]:
        """What `Node.search` finds, each torrent once, as it comes: the fields of SearchResult, and
        `verified`. For the options see SearchQuery.

        It holds a connection until it ends or is closed, which ends the search: use
        `contextlib.closing` around a loop that may be left. Raises what all methods do, also in the
        middle."""
        given = {
            "q": text,
            "prefix": int(prefix) or None,
            "min_size": min_size,
            "max_size": max_size,
            "since": None if since is None else f"{since:.3f}",
            "limit": limit,
            "patience": None if patience is None else f"{patience:.3f}",
            "network": None if network else 0,
        }
        try:
            asked = urlencode({key: value for key, value in given.items() if value is not None})
        except UnicodeEncodeError:
            raise InputError("the words hold half a character (a lone surrogate)") from None
        # The node says nothing as long as it finds nothing.
        waiting = TIMEOUT + (patience or 0)
        with contextlib.closing(self._lines(f"search?{asked}", patience=waiting)) as lines:
            for found in lines:
                if "error" in found:
                    raise _ended_by(found)
                yield found

    def similar(
        self,
        source: str,
        *,
        path: Path | None = None,
        limit: int = 20,
        patience: float = 10.0,
        network: bool = True,
    ) -> Json:
        """What `Node.similar` finds: the fields of SimilarFound. `path`, if it is given, is a file
        or folder, or a .torrent, and stands instead of `source`: a magnet link, an infohash or the
        first digits of a torrent's. A large file takes a while to read."""
        body: Json = {"limit": limit, "patience": float(patience), "network": network}
        body |= {"source": source} if path is None else {"path": str(path)}
        waiting = DHT_TIMEOUT + patience
        return cast("Json", self._ask("POST", "similar", body, patience=waiting))

    def publish(self, torrent_id: str, tags: Sequence[str] = ()) -> Json:
        """See `Node.publish`. Returns the Summary."""
        body: Json = {"tags": list(tags)}
        return cast("Json", self._ask("POST", _path(torrent_id, "publish"), body))

    def unpublish(self, torrent_id: str) -> Json:
        """See `Node.unpublish`, whose answer is `unpublished`."""
        return cast("Json", self._ask("POST", _path(torrent_id, "unpublish"), {}))

    def publishers(self) -> list[Json]:
        """Whom the user trusts, or has blocked: `key`, and `trust`, which is trusted or blocked."""
        return cast("list[Json]", self._ask("GET", "publishers"))

    def trust(self, publisher: str, on: bool = True) -> Json:
        """See `Node.trust`. Of a key that a search has shown, the first digits are enough, eight or
        more. Returns `key` and `trust`."""
        return self._judge(publisher, "trusted" if on else "none")

    def block(self, publisher: str, on: bool = True) -> Json:
        """See `Node.block`, and `trust`."""
        return self._judge(publisher, "blocked" if on else "none")

    def catalogue_status(self) -> Json:
        """CatalogueStatus."""
        return cast("Json", self._ask("GET", "catalogue"))

    def export_catalogue(self) -> Generator[bytes, None, None]:
        """All that the node's catalogue knows as JSON lines, some whole ones at a time. Raises what
        all methods do, also in the middle; it holds a connection, as `search` does."""
        begun = b""
        with contextlib.closing(self._chunks("catalogue/export")) as chunks:
            for chunk in chunks:
                whole, end, begun = (begun + chunk).rpartition(b"\n")
                if (last := whole[whole.rfind(b"\n") + 1 :]).startswith(b'{"error"'):
                    raise _ended_by(cast("Json", self._parsed(partial(json.loads, last))))
                if end:
                    yield whole + end

    def import_catalogue(self, lines: bytes) -> Json:
        """Add what some JSON lines tell, at most 8 MiB at a time. Returns a CatalogueImport."""
        return cast("Json", self._ask("POST", "catalogue/import", lines))

    def _judge(self, publisher: str, verdict: str) -> Json:
        body: Json = {"key": publisher, "trust": verdict}
        return cast("Json", self._ask("POST", "publishers", body))

    def remove(self, torrent_id: str, *, data: bool = False) -> Json:
        """Forget the torrent; with `data`, delete the files it made as well: then what was left is
        told, as in Removal."""
        return cast("Json", self._ask("DELETE", f"{_path(torrent_id)}?data={int(data)}"))

    def reload(self) -> Json:
        """Have the node read its configuration again. Returns a Reloaded. Raises InputError for
        what is wrong with it; then nothing has changed."""
        return cast("Json", self._ask("POST", "reload", {}))

    def stop(self, *, state_dir: Path | None = None, wait: float = 15.0) -> None:
        """Ask the node to end, and wait at most `wait` seconds until it no longer answers and has
        let go of `state_dir`, so that another may start there. Raises ControlError when it has not.
        """
        self._ask("POST", "stop", {})
        self.close()
        end = time.monotonic() + wait
        while somebody_listens(self.control) or (state_dir is not None and is_held(state_dir)):
            if time.monotonic() > end:
                raise ControlError("the node has not stopped yet")
            time.sleep(0.02)

    def _lines(self, path: str, *, patience: float | None = TIMEOUT) -> Generator[Json, None, None]:
        begun = b""
        with contextlib.closing(self._chunks(path, patience=patience)) as chunks:
            for chunk in chunks:
                *lines, begun = (begun + chunk).split(b"\n")
                for line in lines:
                    yield cast("Json", self._parsed(partial(json.loads, line)))
        if begun:
            yield cast("Json", self._parsed(partial(json.loads, begun)))

    def _chunks(
        self, path: str, *, patience: float | None = TIMEOUT
    ) -> Generator[bytes, None, None]:
        refusal = yield from self._http.stream(path, patience=patience)
        if refusal is not None:
            raise _failure(refusal)

    def _ask(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        patience: float | None = TIMEOUT,
    ) -> object:
        content = self._request(method, path, body, patience=patience)
        return self._parsed(partial(json.loads, content))

    def _parsed(self, parse: Callable[[], object]) -> object:
        try:
            return parse()
        except ValueError:
            raise ControlError(f"what answers at {self.control} is not a node") from None

    def _request(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        patience: float | None = TIMEOUT,
    ) -> bytes:
        kind = "application/json"
        if isinstance(body, bytes):
            kind = "application/x-ndjson"
        elif body is not None:
            # In ASCII: a path may hold bytes that are not UTF-8, and so half characters.
            body = json.dumps(body).encode()
        headers = {} if body is None else {"content-type": kind}
        answer = self._http.request(method, path, body, headers, patience=patience)
        if answer.is_success:
            return answer.content
        raise _failure(answer)


def _failure(answer: HttpAnswer) -> InputError | ControlError:
    try:
        text = str(json.loads(answer.content)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"the node answered {answer.status}"
    if answer.status in (400, 404, 413):
        return InputError(text)
    return ControlError(text)


def _ended_by(line: Json) -> InputError | ControlError:
    """What the last line of a body says of its early end."""
    text = str(line["error"])
    return InputError(text) if line.get("status") == 400 else ControlError(text)


def _paths(**paths: Path | None) -> Json:
    return {name: str(path) for name, path in paths.items() if path is not None}


def _path(torrent_id: str, part: str = "") -> str:
    if not torrent_id.isalnum():  # also what would read as another path, like ".."
        raise InputError(f"no such torrent: {torrent_id[:60]!r}")
    return f"torrents/{quote(torrent_id)}" + (f"/{part}" if part else "")


def connect(state_dir: Path, control: str | None = None) -> Client:
    """A client of the node of `state_dir`, or of the one at `control` (`unix:PATH`, `ADDR:PORT`).

    It has answered once. Raises NotRunning when none is there, InputError for a bad address.
    """
    where = find(state_dir, control)
    token = read_token(state_dir) if where.address is not None else None
    client = Client(where, token=token)
    try:
        client.status()
    except BaseException:
        client.close()
        raise
    return client
