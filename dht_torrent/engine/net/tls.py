"""TLS as a `Stream`, and what makes us, and others, members of an SSL torrent.

The rule: a connection belongs to the swarm once its certificate was signed by the torrent's root
certificate and has the torrent's name or `*` in it, and nothing of BitTorrent is said before. While
the metadata is not known, nor is the root: then we may dial, and believe nobody; what was said on
such connections must not outlive the metadata's coming.

Certificates are looked at in `peer.certificates`, which is imported when there are some: most nodes
have no SSL torrent.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from dht_torrent.bounds import MAX_CERTIFICATE
from dht_torrent.engine.net.protocols import Encryption, Stream
from dht_torrent.errors import HandshakeError, InputError
from dht_torrent.ids import Address, InfoHash, Transport
from dht_torrent.peer.tls import torrent_named

_CHUNK: Final = 128 * 1024
"""Bytes encrypted at once: eight records, and as much is copied for it."""
_HANDSHAKE_CHUNK: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Where our certificate for an SSL torrent lies, with its private key: absolute paths to PEM
    files. Only these are remembered, never what is in them."""

    certificate: Path
    key: Path


class Membership:
    """Our side of the TLS handshakes of one torrent. Made by `join`."""

    def __init__(
        self,
        info_hash: InfoHash,
        dialling: ssl.SSLContext,
        answering: ssl.SSLContext | None,
        name: str | None,
    ) -> None:
        """`answering` and `name` are None as long as the metadata is not known."""
        self._info_hash = info_hash
        self._dialling = dialling
        self._answering = answering
        self._name = name

    async def dial(self, stream: Stream) -> TlsStream:
        """The handshake on a connection that we dialled. Raises OSError, or HandshakeError for
        somebody who is not a member. The caller sets the time limit and closes `stream`."""
        tls = TlsStream(stream, self._dialling, server_name=self._info_hash.hex())
        return await self._agree(tls)

    async def answer(self, stream: Stream, hello: bytes) -> TlsStream:
        """The same on one that came in; `hello` has been received already."""
        if self._answering is None:
            raise HandshakeError("the metadata, and so its root certificate, is not known yet")
        return await self._agree(TlsStream(stream, self._answering, received=hello))

    async def _agree(self, tls: TlsStream) -> TlsStream:
        from dht_torrent.peer.certificates import is_for

        await tls.handshake()
        if self._name is not None and not is_for(tls.certificate or b"", self._name):
            raise HandshakeError("its certificate is for another torrent")
        return tls


def join(
    identity: Identity, info_hash: InfoHash, root: bytes | None, name: str | None
) -> Membership:
    """Take part in the SSL torrent `name` with this root certificate; None is not known yet. Reads
    files: blocking. Raises InputError as `check_files`."""
    check_files(identity, root, name)
    dialling = _context(ssl.PROTOCOL_TLS_CLIENT, identity, root)
    answering = _context(ssl.PROTOCOL_TLS_SERVER, identity, root) if root is not None else None
    return Membership(info_hash, dialling, answering, name)


def check_files(identity: Identity, root: bytes | None, name: str | None) -> None:
    """That these files are good for that. Blocking. Raises InputError with one line that names the
    file and what is wrong with it."""
    from dht_torrent.peer.certificates import check_key, check_member

    certificate, key = read_pem(identity.certificate), read_pem(identity.key)
    with about(identity.certificate):
        check_member(certificate, root, name, datetime.datetime.now(datetime.UTC))
    with about(identity.key):
        check_key(certificate, key)


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Around what is found out about a file: an InputError names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def read_root(path: Path) -> bytes:
    """A root certificate from a file: blocking. Raises InputError."""
    from dht_torrent.peer.certificates import root_of

    pem = read_pem(path)
    with about(path):
        root_of(pem)
    return pem


def read_pem(path: Path) -> bytes:
    """A file of certificates, or of a key: blocking. Raises InputError."""
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_CERTIFICATE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {path}: {reason.lower()}") from None
    if len(pem) > MAX_CERTIFICATE:
        raise InputError(f"{path} has more than {MAX_CERTIFICATE} bytes")
    return pem


async def receive_hello(stream: Stream) -> tuple[InfoHash, bytes]:
    """Which torrent a TLS connection is for, before anything is sent, and what was received for
    `Membership.answer`. Raises OSError or HandshakeError. The caller sets the time limit."""
    buffer = memoryview(bytearray(_HANDSHAKE_CHUNK))
    received = bytearray()
    while True:
        size = await stream.receive_into(buffer)
        if not size:
            raise HandshakeError("closed before its TLS handshake")
        received += buffer[:size]
        named = torrent_named(received)
        if named is not None:
            return named, bytes(received)


class TlsStream:
    """A `Stream` in TLS. What has been received and not yet read is bounded: a record, and what
    came with it into the last buffer."""

    encryption: Encryption | None = Encryption.TLS

    def __init__(
        self,
        stream: Stream,
        context: ssl.SSLContext,
        *,
        server_name: str | None = None,
        received: bytes = b"",
    ) -> None:
        """With a `server_name` we are the client, else the server, and the client's first bytes
        have been `received`."""
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(received)
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._may_have_more = True  # what came right behind the handshake
        self._closed = False

    @property
    def local(self) -> Address:
        return self._stream.local

    @property
    def remote(self) -> Address:
        return self._stream.remote

    @property
    def transport(self) -> Transport:
        return self._stream.transport

    @property
    def certificate(self) -> bytes | None:
        """The other side's (DER), once there was a handshake."""
        return self._tls.getpeercert(binary_form=True)

    async def handshake(self) -> None:
        """Before all else. Raises OSError; the caller sets the time limit."""
        buffer = memoryview(bytearray(_HANDSHAKE_CHUNK))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                await self._flush()  # the alert, or the other side would not know why
                raise
            else:
                await self._flush()
                return
            size = await self._stream.receive_into(buffer)
            if not size:
                raise ConnectionResetError("closed during the TLS handshake")
            self._incoming.write(buffer[:size])

    @property
    def scattered(self) -> None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            raise ValueError("an empty buffer would look like the end of the stream")
        if self._may_have_more:
            await trio.lowlevel.checkpoint()
            taken = None if self._closed else self._decrypted(buffer)
            if taken is not None:
                return taken
        while True:
            # It lands where the payload will: nothing else runs until it is deciphered, and then
            # it is shorter than it was.
            size = await self._stream.receive_into(buffer)
            if not size:
                return 0
            self._incoming.write(buffer[:size])
            taken = self._decrypted(buffer)
            if taken is not None:
                return taken

    async def send(self, *buffers: bytes | memoryview) -> None:
        # First, or what is encrypted might never be sent, and all that follows be garbage.
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("closed here")
        chunk: list[bytes | memoryview] = []
        room = _CHUNK
        for buffer in buffers:
            left = memoryview(buffer)
            while left:
                chunk.append(left[:room])
                left = left[room:]
                room -= len(chunk[-1])
                if not room:
                    await self._encrypt(chunk)
                    chunk, room = [], _CHUNK
        if chunk:
            await self._encrypt(chunk)

    def close(self) -> None:
        self._closed = True
        self._stream.close()

    def _decrypted(self, buffer: memoryview) -> int | None:
        """Fill `buffer` with what has come; 0 is the end, None: no record is complete."""
        taken = 0
        self._may_have_more = True
        try:
            while taken < len(buffer):
                size = self._read(buffer[taken:])
                if not size:
                    break
                taken += size
        except ssl.SSLWantReadError:
            self._may_have_more = False
            return taken or None
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError:
            if not taken:  # else the next one raises it again
                raise
        return taken

    def _read(self, buffer: memoryview) -> int:
        size: object = self._tls.read(len(buffer), buffer)
        assert isinstance(size, int)  # as it is given a buffer
        return size

    async def _encrypt(self, chunk: list[bytes | memoryview]) -> None:
        self._tls.write(chunk[0] if len(chunk) == 1 else b"".join(chunk))
        await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._stream.send(self._outgoing.read())


def _context(protocol: int, identity: Identity, root: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # the server name is an infohash, and stands in no certificate
    context.verify_mode = ssl.CERT_NONE if root is None else ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A resumed session would not look at certificates again.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    try:
        if root is not None:
            # None but the first: what else a torrent brings along is not its root.
            context.load_verify_locations(cadata=_der(root))
        context.load_cert_chain(identity.certificate, identity.key, password=lambda: b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise InputError(f"{identity.certificate} cannot be used: {reason}") from None
    return context


def _der(pem: bytes) -> bytes:
    from dht_torrent.peer.certificates import der_of

    return der_of(pem)
