"""Members that do not play fair do exactly what their names say, and nothing else."""

from __future__ import annotations

from pathlib import Path

from dht_torrent.config import Config, DiskConfig
from dht_torrent.lab.population.roles import free_rider, poisoned
from dht_torrent.storage.making import make
from tests.helpers.content import KIB, make_file


def test_a_free_rider_has_no_slot_for_any_peer_and_is_like_others_in_all_else() -> None:
    honest = Config(limit_up=1000)
    rider = free_rider(honest)
    assert (rider.torrent.unchoke_slots, rider.torrent.optimistic_slots) == (0, 0)
    assert rider.peer.allowed_fast == 0
    assert rider.limit_up == 1000
    assert rider.torrent.max_connections == honest.torrent.max_connections


def test_a_poisoner_spoils_one_bit_of_each_block_it_reads(tmp_path: Path) -> None:
    path = make_file(tmp_path / "film.bin", 64 * KIB)
    content, before = path.read_bytes(), path.stat().st_mtime_ns
    storage = poisoned(Config(disk=DiskConfig(threads=1)))(make(path), path, True)
    spoiled = bytes([content[100] ^ 1]) + content[101:200]
    assert storage.read(100, 100) == spoiled
    first, second = bytearray(100), bytearray(50)
    storage.read_into(100, memoryview(first))
    assert first == spoiled
    assert storage.try_read_into(100, memoryview(first), memoryview(second))
    assert first == spoiled
    assert second == bytes([content[200] ^ 1]) + content[201:250]
    storage.close()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, before)


def test_what_a_poisoner_fetches_itself_is_kept_as_it_is(tmp_path: Path) -> None:
    path = make_file(tmp_path / "film.bin", 64 * KIB)
    metainfo = make(path)
    storage = poisoned(Config())(metainfo, tmp_path / "got", False)
    storage.create()
    storage.write(0, path.read_bytes())
    assert storage.read(0, 64 * KIB) == path.read_bytes()
    storage.close()
