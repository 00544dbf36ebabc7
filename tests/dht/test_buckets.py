"""The library with the buckets comes without what it runs its own network on."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys
import dht_torrent.dht.buckets
assert "kademlia.routing" in sys.modules
assert "asyncio" not in sys.modules
"""
USED_AFTER_ALL = """
import sys
import dht_torrent.dht.buckets
from kademlia.utils import asyncio as theirs, gather_dict

async def one() -> int:
    await theirs.sleep(0)
    return 1

import asyncio
assert asyncio.run(gather_dict({"a": one()})) == {"a": 1}
assert theirs.ensure_future is asyncio.ensure_future
"""
THERE_BEFORE = """
import asyncio
import dht_torrent.dht.buckets
import kademlia.routing
assert kademlia.routing.asyncio is asyncio
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_it_is_not_imported_for_nothing() -> None:
    run(WITHOUT)


def test_it_is_there_for_whoever_uses_it() -> None:
    run(USED_AFTER_ALL)


def test_it_is_the_library_s_own_where_it_was_imported_before() -> None:
    run(THERE_BEFORE)
