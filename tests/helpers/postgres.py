"""A PostgreSQL server for the tests, of Debian's packages: private, on a Unix socket in a folder of
its own, and one for all workers of a run.

Whoever comes first starts it, through this file as a program that stays beside it. Everybody who
uses it holds a shared lock on a file; the program waits for the exclusive one, which it gets when
the last user has ended, however that came about. Then it stops the server and removes the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

SUPERUSER: Final = "postgres"
KEYED: Final = "keyed"
PASSWORD: Final = "p@ss/w%rd:1?#"
"""Of the role `KEYED`, which must give it."""
_START_PATIENCE: Final = 60.0
_OPTIONS: Final = (
    *("listen_addresses=", "fsync=off", "full_page_writes=off", "synchronous_commit=off"),
    *("max_connections=200", "shared_buffers=32MB", "max_wal_size=256MB", "logging_collector=off"),
)


def binaries() -> Path | None:
    """Where Debian has the newest server's programs."""
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if (path.parent / "postgres").exists()
    ]
    return max(found, key=lambda path: float(path.parent.name), default=None)


@contextlib.contextmanager
def server(shared: Path) -> Iterator[Path]:
    """The folder of a running server's socket. All who share it give the same `shared`."""
    lock = shared / "postgresql.lock"
    place = shared / "postgresql.place"
    beside: subprocess.Popen[bytes] | None = None
    with (shared / "postgresql.start").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        using = lock.open("w")
        try:
            fcntl.flock(using, fcntl.LOCK_SH | fcntl.LOCK_NB)
            running = place.exists()
        except BlockingIOError:  # the last user has just ended
            fcntl.flock(using, fcntl.LOCK_SH)
            running = False
        if not running:
            beside = subprocess.Popen(
                [sys.executable, __file__, str(lock), str(place)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "TMPDIR": tempfile.gettempdir()},
            )
            assert beside.stdout is not None
            said = beside.stdout.readline()
            beside.stdout.close()
            if said != b"ready\n":
                beside.wait(60)
                raise RuntimeError("PostgreSQL did not start")
    try:
        yield Path(place.read_text())
    finally:
        using.close()
        if beside is not None:
            beside.wait()  # for the others


def run_beside(lock: Path, place: Path) -> None:
    """Run a server for as long as somebody holds the lock."""
    folder = Path(tempfile.mkdtemp(prefix="dht-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        process = start(folder)
        place.write_text(str(folder))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with lock.open("w") as ours:
            fcntl.flock(ours, fcntl.LOCK_EX)
            place.unlink(missing_ok=True)
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # nothing in it is worth saving
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, options: Sequence[str] = _OPTIONS) -> subprocess.Popen[bytes]:
    """A server that takes connections, whose data and socket are in the folder. What is not among
    the options is as Debian has it."""
    programs = binaries()
    assert programs is not None
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # which it refuses
        try:
            account = pwd.getpwnam(SUPERUSER)
        except KeyError:
            account = pwd.getpwnam("nobody")
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    quiet: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **user}
    subprocess.run(
        [
            *(programs / "initdb", "-D", data, "-U", SUPERUSER, "--auth=trust", "--no-sync"),
            *("--encoding=UTF8", "--locale=C", "--no-instructions"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        **quiet,
    )
    access = data / "pg_hba.conf"
    access.write_text(f"local all {KEYED} scram-sha-256\nlocal all all trust\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(programs / "postgres", "-D", data, "-c", f"unix_socket_directories={folder}"),
                *(text for option in options for text in ("-c", option)),
            ],
            stdout=log,
            stderr=log,
            **quiet,
        )
    end = time.monotonic() + _START_PATIENCE
    import psycopg

    while True:
        try:
            with psycopg.connect(host=str(folder), user=SUPERUSER, dbname="postgres") as db:
                db.execute(f"CREATE ROLE {KEYED} LOGIN PASSWORD '{PASSWORD}'")
                return process
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                sys.stderr.write((folder / "log").read_text())
                raise
            time.sleep(0.02)


if __name__ == "__main__":
    run_beside(Path(sys.argv[1]), Path(sys.argv[2]))
