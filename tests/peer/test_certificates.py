from __future__ import annotations

import base64
import contextlib
import datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.errors import InputError
from dht_torrent.peer.certificates import (
    MAX_SIZE,
    Issued,
    check_key,
    check_member,
    is_for,
    make_authority,
    root_of,
    sign_member,
)
from tests.helpers.examples import examples

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@cache
def authority() -> Issued:
    return make_authority(NOW, 100)


def der(issued: Issued) -> bytes:
    return root_of(issued.certificate).public_bytes(serialization.Encoding.DER)


def test_a_member_is_what_its_authority_signed() -> None:
    member = sign_member(authority(), NOW, 30)
    check_member(member.certificate, authority().certificate, "any torrent", NOW)
    check_key(member.certificate, member.key)
    assert is_for(der(member), "any torrent")


def test_a_certificate_for_one_torrent_is_for_no_other() -> None:
    member = sign_member(authority(), NOW, 30, torrent="film.bin")
    check_member(member.certificate, authority().certificate, "film.bin", NOW)
    assert is_for(der(member), "film.bin")
    # Older versions of libtorrent take any beginning of a name for it.
    for other in ("film", "film.bin.exe", "FILM.BIN", "*", ""):
        assert not is_for(der(member), other)
    with pytest.raises(InputError, match=r"^is for 'film.bin', .*, not for 'other' or '\*'$"):
        check_member(member.certificate, authority().certificate, "other", NOW)


@pytest.mark.parametrize("name", ["Überfilm", "x" * 64, "y" * 200])
def test_long_names_and_names_not_in_ascii_fit(name: str) -> None:
    member = sign_member(authority(), NOW, 30, torrent=name)
    assert is_for(der(member), name)


def with_names(count: int) -> Issued:
    """A member with so many names beside its own."""
    root, key = root_of(authority().certificate), ec.generate_private_key(ec.SECP256R1())
    signing = serialization.load_pem_private_key(authority().key, None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    names = [x509.DNSName("*"), *(x509.DNSName("a") for _ in range(count))]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(signing, hashes.SHA256())
    )
    return Issued(made.public_bytes(serialization.Encoding.PEM), b"")


def test_a_certificate_that_takes_long_to_read_does_not_make_a_member() -> None:
    short, long = with_names(5000), with_names(5500)
    assert len(der(short)) < MAX_SIZE < len(der(long))
    check_member(short.certificate, authority().certificate, "film.bin", NOW)
    assert is_for(der(short), "film.bin")
    with pytest.raises(InputError, match=r"^has more than 16384 bytes, and no peer would take it$"):
        check_member(long.certificate, authority().certificate, "film.bin", NOW)
    assert not is_for(der(long), "film.bin")


def test_a_name_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(InputError, match="no certificate can name"):
        sign_member(authority(), NOW, 30, torrent="ü" * 65)


def test_a_member_of_another_authority_is_none_here() -> None:
    member = sign_member(make_authority(NOW, 100), NOW, 30)
    with pytest.raises(InputError, match="was not signed by the torrent's root certificate"):
        check_member(member.certificate, authority().certificate, None, NOW)
    check_member(member.certificate, None, None, NOW)  # as far as is known


@pytest.mark.parametrize(
    ("when", "wrong"),
    [
        (NOW - 2 * DAY, "is not valid before 2026-04-30"),
        (NOW + 31 * DAY, "expired on 2026-05-31"),
    ],
)
def test_a_member_out_of_time_is_refused(when: datetime.datetime, wrong: str) -> None:
    member = sign_member(authority(), NOW, 30)
    with pytest.raises(InputError, match=wrong):
        check_member(member.certificate, authority().certificate, None, when)


def test_a_root_out_of_time_is_named() -> None:
    member = sign_member(authority(), NOW, 300)
    with pytest.raises(InputError, match="root certificate expired on 2026-08-09"):
        check_member(member.certificate, authority().certificate, None, NOW + 101 * DAY)
    with pytest.raises(InputError, match="expired on 2026-08-09"):
        sign_member(authority(), NOW + 101 * DAY, 30)


def test_another_key_an_encrypted_one_and_none_are_told_apart() -> None:
    member, other = sign_member(authority(), NOW, 30), sign_member(authority(), NOW, 30)
    with pytest.raises(InputError, match="is not the private key of the certificate"):
        check_key(member.certificate, other.key)
    with pytest.raises(InputError, match=r"is not a private key \(PEM\)"):
        check_key(member.certificate, member.certificate)
    key = serialization.load_pem_private_key(member.key, None)
    hidden = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(InputError, match="is encrypted with a passphrase"):
        check_key(member.certificate, hidden)


def test_a_member_cannot_sign_others() -> None:
    member = sign_member(authority(), NOW, 30)
    with pytest.raises(InputError, match="is not a certificate authority's"):
        sign_member(member, NOW, 30)


def test_a_chain_leads_to_the_root() -> None:
    """As those have it who sign with openssl: root, one between, member."""
    between = rsa.generate_private_key(65537, 2048)
    root = root_of(authority().certificate)
    root_key = serialization.load_pem_private_key(authority().key, None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "between")])
    middle = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root.subject)
        .public_key(between.public_key())
        .serial_number(5)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 50 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, root.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    pem = middle.public_bytes(serialization.Encoding.PEM)
    key = between.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    member = sign_member(Issued(pem, key), NOW, 30)
    check_member(member.certificate + pem, authority().certificate, "x", NOW)
    with pytest.raises(InputError, match="was not signed"):
        check_member(member.certificate, authority().certificate, "x", NOW)


@pytest.mark.parametrize("pem", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n", bytes(999)])
def test_what_is_not_a_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(InputError, match=r"is not a certificate \(PEM\)"):
        root_of(pem)
    assert not is_for(pem, "x")


def test_too_many_certificates_are_refused() -> None:
    with pytest.raises(InputError, match="more than 8"):
        root_of(authority().certificate * 9)


def test_authorities_do_not_make_members() -> None:
    one, two = root_of(authority().certificate), root_of(make_authority(NOW, 100).certificate)
    assert one.subject != two.subject
    assert len(one.subject) == 1


def mutated(der: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(der)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed)


@settings(max_examples=examples(300))
@given(st.data())
def test_a_damaged_certificate_of_a_peer_is_for_a_torrent_or_not(data: st.DataObject) -> None:
    is_for(mutated(der(member()), data), "film.bin")


@settings(max_examples=examples(300))
@given(st.data(), st.booleans())
def test_a_damaged_certificate_is_a_member_or_one_error(data: st.DataObject, root: bool) -> None:
    certificates = {True: authority().certificate, False: member().certificate}
    damaged = mutated(root_of(certificates[root]).public_bytes(serialization.Encoding.DER), data)
    body = base64.encodebytes(damaged)
    certificates[root] = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    with contextlib.suppress(InputError):
        check_member(certificates[False], certificates[True], "film.bin", NOW)


@cache
def member() -> Issued:
    return sign_member(authority(), NOW, 30, torrent="film.bin")
