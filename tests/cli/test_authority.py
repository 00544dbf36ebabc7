"""`tls-ca`, and SSL torrents from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dht_torrent.cli.main import cli
from dht_torrent.metainfo import Magnet, parse_torrent

ALONE = ("--bootstrap", "none", "--listen", "127.0.0.1:0")


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="dhtnode")


def the_line(result: Result) -> str:
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert result.stdout == ""
    return line


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    assert run("tls-ca", "new", folder).exit_code == 0
    return folder


def sign(ca: Path, member: str, *more: object) -> tuple[object, ...]:
    result = run("tls-ca", "sign", ca, member, *more)
    certificate, key = result.stdout.split()
    assert (certificate, key) == (f"{ca}/{member}.pem", f"{ca}/{member}.key"), result.stderr
    return ("--tls-cert", certificate, "--tls-key", key)


def test_keys_are_their_owners_only_and_where_they_are_is_told(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        result = run("tls-ca", "new", tmp_path / "ca")
        sign(tmp_path / "ca", "bob")
    finally:
        os.umask(old)
    assert result.stdout.split() == [f"{tmp_path}/ca/ca.pem", f"{tmp_path}/ca/ca.key"]
    files = sorted((tmp_path / "ca").iterdir())
    assert [file.name for file in files] == ["bob.key", "bob.pem", "ca.key", "ca.pem"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700


def test_nothing_is_replaced(ca: Path) -> None:
    sign(ca, "bob")
    (ca / "eve.pem").write_text("hers")
    before = {file.name: file.read_bytes() for file in ca.iterdir()}
    assert "ca.key is there already" in the_line(run("tls-ca", "new", ca))
    assert "bob.key is there already" in the_line(run("tls-ca", "sign", ca, "bob"))
    assert "eve.pem is there already" in the_line(run("tls-ca", "sign", ca, "eve"))
    assert {file.name: file.read_bytes() for file in ca.iterdir()} == before


def test_a_link_is_not_followed(ca: Path, tmp_path: Path) -> None:
    (ca / "bob.key").symlink_to(tmp_path / "elsewhere")
    assert "bob.key is there already" in the_line(run("tls-ca", "sign", ca, "bob"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("sign", "CA", "a/b"), "'a/b' cannot be the name of a file"),
        (("sign", "CA", "ca"), "'ca' cannot be the name of a file"),
        (("sign", "CA", "bob", "--torrent", "ü" * 65), "no certificate can name"),
        (("sign", "CA", "bob", "--torrent", ""), "no certificate can name"),
        (("sign", "CA", "bob", "--days", "0"), "1 to 36500 days, not 0"),
        (("sign", "/no/such", "bob"), "cannot read /no/such/ca.pem: no such file or directory"),
        (("new", "/dev/null/x"), "cannot make /dev/null/x: not a directory"),
    ],
)
def test_each_failure_is_one_clear_line(ca: Path, args: tuple[str, ...], told: str) -> None:
    line = the_line(run("tls-ca", *(ca if arg == "CA" else arg for arg in args)))
    assert told in line
    assert sorted(file.name for file in ca.iterdir()) == ["ca.key", "ca.pem"]


def test_a_broken_authority_is_told_by_its_file(ca: Path) -> None:
    key = (ca / "ca.key").read_bytes()
    (ca / "ca.key").write_bytes(b"nothing")
    assert "ca.key is not a private key (PEM)" in the_line(run("tls-ca", "sign", ca, "bob"))
    (ca / "ca.key").write_bytes(key)
    (ca / "ca.pem").write_bytes(b"nothing")
    assert "ca.pem is not a certificate (PEM)" in the_line(run("tls-ca", "sign", ca, "bob"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tls-ca", "ca.pem"), "needs --tls-ca, --tls-cert and --tls-key"),
        (("--tls-cert", "bob.pem", "--tls-key", "bob.key"), "needs --tls-ca"),
        (("--tls-ca", "none.pem", "--tls-cert", "bob.pem", "--tls-key", "bob.key"), "cannot read"),
        (
            ("--tls-ca", "other.pem", "--tls-cert", "bob.pem", "--tls-key", "bob.key"),
            "bob.pem was not signed by the torrent's root certificate",
        ),
        (
            ("--tls-ca", "ca.pem", "--tls-cert", "bob.pem", "--tls-key", "ca.key"),
            "ca.key is not the private key of the certificate",
        ),
        (
            ("--tls-ca", "ca.pem", "--tls-cert", "eve.pem", "--tls-key", "eve.key"),
            "eve.pem is for 'elsewhere', 'elsewhere', not for 'content' or '*'",
        ),
    ],
)
def test_what_cannot_seed_is_refused_before_anything_is_hashed(
    ca: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    (tmp_path / "content").write_bytes(b"x")
    sign(ca, "bob")
    sign(ca, "eve", "--torrent", "elsewhere")
    run("tls-ca", "new", tmp_path / "two")
    (ca / "other.pem").write_bytes((tmp_path / "two" / "ca.pem").read_bytes())
    given = [option if option[0] == "-" else ca / option for option in options]
    result = run("share", tmp_path / "content", *ALONE, "--state-dir", tmp_path / "s", *given)
    assert told in the_line(result)


def test_create_and_show_know_ssl_torrents(ca: Path, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"x" * 50_000)
    made = tmp_path / "x.torrent"
    run("create", tmp_path / "content", "-o", made, "--tls-ca", ca / "ca.pem")
    assert parse_torrent(made.read_bytes()).ssl_cert == (ca / "ca.pem").read_bytes()
    assert json.loads(run("show", made, "--json").stdout)["ssl"] is True
    assert "ssl" in run("show", made).stdout.lower()
    result = run("get", made, *ALONE, "--state-dir", tmp_path / "s")
    assert "content is an SSL torrent, for members only" in the_line(result)
    plain = tmp_path / "y.torrent"
    run("create", tmp_path / "content", "-o", plain)
    result = run("get", plain, *ALONE, "--state-dir", tmp_path / "s", *sign(ca, "bob"))
    assert "content is not an SSL torrent" in the_line(result)


def test_share_and_get_an_ssl_torrent(ca: Path, tmp_path: Path) -> None:
    """Each in a node of its own, by the magnet link and the DHT; and the seed once more after a
    restart, which remembers where its certificate is."""
    (tmp_path / "content").write_bytes(b"x" * 500_000)
    one, two = tmp_path / "one", tmp_path / "two"
    alice, bob = sign(ca, "alice", "--torrent", "content"), sign(ca, "bob")

    def dhtnode(*args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "dht_torrent", *map(str, args)]
        return subprocess.Popen(command, stdout=-1, stderr=-1, stdin=subprocess.DEVNULL, text=True)

    def fetched(magnet: str, into: Path, state: Path) -> None:
        status = json.loads(run("status", "--json", "--state-dir", one).stdout)
        assert status["tls_listen"] == [secured] or not secured
        assert f"tls:       {status['tls_listen'][0]}" in run("status", "--state-dir", one).stdout
        entry = ("--bootstrap", status["listen"], "--listen", "127.0.0.1:0")
        getting = dhtnode("get", magnet, *entry, "--state-dir", state, "--output", into, *bob)
        out, err = getting.communicate(timeout=60)
        assert getting.returncode == 0, err
        assert Path(out.strip()).read_bytes() == b"x" * 500_000

    secured = ""
    sharing = dhtnode(
        *("share", tmp_path / "content", *ALONE, "--state-dir", one),
        *("--tls-ca", ca / "ca.pem", *alice),
    )
    try:
        assert sharing.stdout is not None
        magnet = sharing.stdout.readline().strip()
        assert Magnet.parse(magnet).name == "content"
        fetched(magnet, tmp_path / "got", two)
    finally:
        sharing.send_signal(signal.SIGINT)
        assert sharing.communicate(timeout=30)[1] == ""
    again = dhtnode(*ALONE, "--state-dir", one, "--tls-listen", "127.0.0.1:0")
    try:
        assert again.stdout is not None
        found = re.search(r" tls=(127\.0\.0\.1:[0-9]+)$", again.stdout.readline().strip())
        assert found is not None
        secured = found[1]
        fetched(magnet, tmp_path / "got2", tmp_path / "three")
    finally:
        again.send_signal(signal.SIGINT)
        assert again.communicate(timeout=30)[1] == ""
    for record in one.rglob("*"):
        if record.is_file():
            assert b"PRIVATE KEY" not in record.read_bytes()
