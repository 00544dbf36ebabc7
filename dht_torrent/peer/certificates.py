"""Who belongs to an SSL torrent: its root certificate is in the info dict, and a member has a
certificate that this one signed, with the torrent's name in it or `*`, as libtorrent wants it.

What is checked here is what the owner of a certificate gives, so that a mistake is a line of text
and not a download that never begins. Peers are verified by TLS, but for the name.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dht_torrent.errors import InputError

ANY: Final = "*"
"""The name in a certificate that is good for every torrent of its authority."""
MAX_CHAIN: Final = 8
"""Certificates from a member's own to the root."""
MAX_SIZE: Final = 16 * 1024
"""Bytes of a member's certificate (DER). TLS takes 100 KB: names enough to stop the node for 14 ms,
where these take 3."""
_MAX_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name
_SKEW: Final = datetime.timedelta(days=1)
"""Certificates are valid from so long before they are made: the clocks of others differ."""

UNREADABLE: Final = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    Warning,  # what will be an error one day is one already where warnings are
)
"""What certificates of strangers raise: some when they are parsed, some when they are looked at."""

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, as PEM. The key is not encrypted."""

    certificate: bytes
    key: bytes


# -- those of others ------------------------------------------------------------------------------


def root_of(pem: bytes) -> x509.Certificate:
    """The first certificate, which is the one that libtorrent takes. Raises InputError."""
    return _chain(pem)[0]


def der_of(pem: bytes) -> bytes:
    """The same in DER."""
    return root_of(pem).public_bytes(serialization.Encoding.DER)


def check_key(pem: bytes, key_pem: bytes) -> None:
    """That `key_pem` is the private key of this certificate. Raises InputError with what is wrong
    with the key, beginning with a verb."""
    certificate = root_of(pem)
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except TypeError:
        raise InputError(
            "is encrypted with a passphrase, which nobody is here to type: store it without one"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("is not a private key (PEM)") from None
    try:
        fits = key.public_key() == certificate.public_key()
    except UNREADABLE:
        fits = False
    if not fits:
        raise InputError("is not the private key of the certificate")


def check_member(
    pem: bytes, root_pem: bytes | None, name: str | None, now: datetime.datetime
) -> None:
    """That this certificate, with the chain that follows it if there is one, makes a member of the
    torrent `name` with this root. None is not known yet. Raises InputError with what is wrong with
    the certificate, beginning with a verb."""
    try:
        _check_member(_chain(pem), root_pem, name, now)
    except UNREADABLE as error:
        raise InputError(
            f"cannot be read, or the torrent's root certificate cannot: {error}"
        ) from None


def _check_member(
    chain: Sequence[x509.Certificate],
    root_pem: bytes | None,
    name: str | None,
    now: datetime.datetime,
) -> None:
    own = chain[0]
    if len(own.public_bytes(serialization.Encoding.DER)) > MAX_SIZE:
        raise InputError(f"has more than {MAX_SIZE} bytes, and no peer would take it")
    if now > own.not_valid_after_utc:
        raise InputError(f"expired on {own.not_valid_after_utc:%Y-%m-%d}")
    if now < own.not_valid_before_utc:
        raise InputError(f"is not valid before {own.not_valid_before_utc:%Y-%m-%d}")
    if root_pem is not None:
        root = root_of(root_pem)
        if now > root.not_valid_after_utc:
            raise InputError(
                "is of no use: the torrent's root certificate expired on "
                f"{root.not_valid_after_utc:%Y-%m-%d}"
            )
        _check_signed(chain, root)
    if name is not None and not _has_name(chain[0], name):
        found = ", ".join(map(repr, _names(chain[0]))) or "nobody"
        raise InputError(f"is for {found[:200]}, not for {name!r} or {ANY!r}")


def is_for(der: bytes, name: str) -> bool:
    """Whether the certificate of a peer has this torrent's name, or `*`. False for one that cannot
    be read, or is too long to be read."""
    try:
        return len(der) <= MAX_SIZE and _has_name(x509.load_der_x509_certificate(der), name)
    except UNREADABLE:
        return False


def _chain(pem: bytes) -> Sequence[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        found = []
    if not found:
        raise InputError("is not a certificate (PEM)")
    if len(found) > MAX_CHAIN:
        raise InputError(f"has more than {MAX_CHAIN} certificates")
    return found


def _check_signed(chain: Sequence[x509.Certificate], root: x509.Certificate) -> None:
    here = chain[0]
    others = [*chain[1:], root]
    for _ in range(MAX_CHAIN):
        if _is_signed(here, root):
            return
        above = next((one for one in others if one != here and _is_signed(here, one)), None)
        if above is None:
            break
        here = above
    raise InputError("was not signed by the torrent's root certificate")


def _is_signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _has_name(certificate: x509.Certificate, name: str) -> bool:
    # The whole of it: older versions of libtorrent take any beginning of the name for it.
    return any(found in (ANY, name) for found in _names(certificate))


def _names(certificate: x509.Certificate) -> list[str]:
    """Alternative names first, then the common name. Raises ValueError."""
    found: list[str] = []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    else:
        found += alternatives.value.get_values_for_type(x509.DNSName)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            found.append(attribute.value)
    return found


# -- our own --------------------------------------------------------------------------------------


def make_authority(now: datetime.datetime, days: int) -> Issued:
    """A root certificate for SSL torrents. Its name is random: it says nothing about anybody."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{serial:040x}"[-16:])])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key, serial, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
    )
    return _issued(builder.sign(key, hashes.SHA256()), key)


def check_name(torrent: str) -> None:
    """That a certificate has room for this name. Raises InputError."""
    if not torrent or (len(torrent) > _MAX_COMMON_NAME and not torrent.isascii()):
        raise InputError(
            f"no certificate can name {torrent!r}: there is room for 1 to {_MAX_COMMON_NAME} "
            f"characters, or more of them in ASCII; {ANY!r} is good for every torrent"
        )


def sign_member(
    authority: Issued, now: datetime.datetime, days: int, *, torrent: str = ANY
) -> Issued:
    """A certificate for one member, good for the torrent of this name, by default for all that have
    the authority's as their root. Raises InputError when `authority` is not one, or the name does
    not fit into a certificate."""
    check_name(torrent)
    root = root_of(authority.certificate)
    check_key(authority.certificate, authority.key)
    if now > root.not_valid_after_utc:
        raise InputError(f"expired on {root.not_valid_after_utc:%Y-%m-%d}")
    if not _may_sign(root):
        raise InputError("is not a certificate authority's")
    root_key = serialization.load_pem_private_key(authority.key, None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = []
    if len(torrent) <= _MAX_COMMON_NAME:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, torrent))
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        root.public_key()  # type: ignore[arg-type]  # what it cannot sign with, `sign` refuses
    )
    builder = (
        _builder(x509.Name(names), root.subject, key, x509.random_serial_number(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(issuer, critical=False)
    )
    if torrent.isascii():
        alternative = x509.SubjectAlternativeName([x509.DNSName(torrent)])
        builder = builder.add_extension(alternative, critical=not names)
    try:
        signed = builder.sign(root_key, hashes.SHA256())  # type: ignore[arg-type]  # as above
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"cannot sign: {error}") from None
    return _issued(signed, key)


def _may_sign(root: x509.Certificate) -> bool:
    try:
        return root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*UNREADABLE, x509.ExtensionNotFound):
        return False


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    serial: int,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(**used: bool) -> x509.KeyUsage:
    kinds = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{kind: used.get(kind, False) for kind in kinds})


def _issued(certificate: x509.Certificate, key: Key) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
