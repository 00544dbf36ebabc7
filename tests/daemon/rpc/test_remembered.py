"""What a client has set is there after a restart, unless somebody else has said more since."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import Config
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.daemon.rpc.remembered import (
    FOLDER,
    NAME,
    READ,
    SUFFIX,
    Remembered,
    alternative,
    decode,
    plain,
)
from dht_torrent.errors import StorageError
from dht_torrent.ids import InfoHash
from tests.daemon.rpc.rpc_client import Rpc, web_client
from tests.helpers.engine import LEECH, World

HASH = "ab" * 20
SET: dict[str, Any] = {
    "speed-limit-down": 500,
    "speed-limit-down-enabled": True,
    "speed-limit-up": 30,
    "alt-speed-up": 20,
    "alt-speed-enabled": True,
    "alt-speed-time-begin": 60,
    "alt-speed-time-day": 62,
    "seedRatioLimit": 3,
    "seedRatioLimited": True,
    "idle-seeding-limit": 10,
    "idle-seeding-limit-enabled": True,
    "download-queue-size": 2,
    "download-queue-enabled": True,
    "seed-queue-size": 7,
    "start-added-torrents": False,
}
rates = st.none() | st.integers(1, 1 << 40)


class House:
    """A node that is started again and again on one state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "state" / FOLDER / f"{NAME}{SUFFIX}"

    async def run(self, work: Any, *, fixed: frozenset[str] = frozenset(), **changes: Any) -> Any:
        downloads = self.folder / "got"
        async with World().node(
            LEECH, download_dir=downloads, state_dir=self.folder / "state", **changes
        ) as node:
            remembered, warnings = await node.records.load(FOLDER, NAME, SUFFIX, decode)
            async with web_client(node, remembered=remembered, fixed=fixed) as client:
                return await work(node, Rpc(client)), warnings


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def session(node: Node, rpc: Rpc) -> dict[str, Any]:
    told = await rpc("session-get")
    return {key: told[key] for key in (*SET, "download-dir")}


async def set_all(node: Node, rpc: Rpc) -> dict[str, Any]:
    folder = str(Path(node.config.download_dir) / "new")
    assert await rpc("session-set", **SET, **{"download-dir": folder}) == {}
    return await session(node, rpc)


async def test_all_that_a_client_can_set_of_the_node_is_there_after_a_restart(
    house: House, autojump_clock: MockClock
) -> None:
    before, _ = await house.run(set_all)
    assert before.items() >= SET.items()

    async def look(node: Node, rpc: Rpc) -> dict[str, Any]:
        assert (node.speed.up, node.speed.down) == (None, 500_000)
        assert node.speed.alternative == AlternativeLimits(
            20_000, on=True, hours=WeeklyHours(60, days=62)
        )
        assert (node.rules.seed_idle, node.rules.active_seeds) == (600.0, None)
        await rpc("torrent-add", filename=HASH)
        assert node.find(HASH).paused
        return await session(node, rpc)

    after, warnings = await house.run(look)
    assert (after, warnings) == (before, [])
    assert (await house.run(session))[0] == before
    assert oct(house.record.stat().st_mode)[-3:] == "600"


async def test_what_is_set_of_torrents_is_there_after_a_restart(
    house: House, autojump_clock: MockClock
) -> None:
    fields = (
        *("downloadLimit", "downloadLimited", "uploadLimit", "uploadLimited", "seedRatioLimit"),
        *("seedRatioMode", "seedIdleLimit", "seedIdleMode", "labels", "queuePosition", "status"),
    )

    async def change(node: Node, rpc: Rpc) -> list[dict[str, Any]]:
        for number in range(3):
            await rpc("torrent-add", filename=f"{number:040x}", paused=number == 1)
        one = f"{0:040x}"
        await rpc("torrent-set", ids=one, downloadLimit=70, downloadLimited=True, labels=["a"])
        await rpc("torrent-set", ids=one, uploadLimit=44, seedRatioLimit=1.5, seedRatioMode=1)
        await rpc("torrent-set", ids=f"{1:040x}", seedIdleMode=2, seedIdleLimit=12)
        await rpc("queue-move-top", ids=f"{2:040x}")
        return await rpc.torrents("hashString", *fields)

    async def look(node: Node, rpc: Rpc) -> list[dict[str, Any]]:
        assert node.find(f"{0:040x}").seeding_limits == SeedingLimits(1.5, "node")
        return await rpc.torrents("hashString", *fields)

    before, _ = await house.run(change)
    assert (before[0]["uploadLimit"], before[0]["uploadLimited"]) == (44, False)
    assert (before[1]["seedIdleLimit"], before[2]["queuePosition"]) == (12, 0)
    after, _ = await house.run(look)
    assert after == before

    async def remove(node: Node, rpc: Rpc) -> None:
        await rpc("torrent-remove")
        await rpc("session-set", **{"speed-limit-up": 1})

    await house.run(remove)
    assert b"0000" not in house.record.read_bytes()


async def test_the_command_line_and_the_environment_go_before(
    house: House, autojump_clock: MockClock
) -> None:
    await house.run(set_all)

    async def look(node: Node, rpc: Rpc) -> None:
        assert node.speed.down is None
        assert node.rules.seed_ratio == 3.0
        assert await rpc("session-set", **{"speed-limit-up-enabled": True}) == {}

    await house.run(look, fixed=frozenset({"limit_down"}))

    async def later(node: Node, rpc: Rpc) -> None:  # it was not forgotten meanwhile
        assert (node.speed.up, node.speed.down) == (30_000, 500_000)

    await house.run(later)


async def test_a_configuration_that_says_something_else_than_before_holds(
    house: House, autojump_clock: MockClock
) -> None:
    await house.run(set_all)

    async def look(node: Node, rpc: Rpc) -> tuple[Any, Any]:
        return node.speed.down, node.rules.active_downloads

    assert (await house.run(look, limit_down=9_000))[0] == (9_000, 2)
    assert (await house.run(look))[0] == (500_000, 2)

    async def reload(node: Node, rpc: Rpc) -> None:
        await node.reload(replace(node.config, limit_down=7_000))
        assert node.speed.down == 7_000
        await rpc("session-set", **{"alt-speed-up": 5})

    await house.run(reload)
    assert (await house.run(look, limit_down=7_000))[0] == (7_000, 2)


async def test_what_is_set_back_is_the_configurations_again(
    house: House, autojump_clock: MockClock
) -> None:
    async def there_and_back(node: Node, rpc: Rpc) -> None:
        await rpc("session-set", **{"speed-limit-up": 5, "speed-limit-up-enabled": True})
        await rpc("session-set", **{"speed-limit-up-enabled": False})

    await house.run(there_and_back)

    async def look(node: Node, rpc: Rpc) -> Any:
        return node.speed.up

    assert (await house.run(look, limit_up=1_000))[0] == 1_000
    assert (await house.run(session))[0]["speed-limit-up"] == 5


async def test_a_broken_record_is_set_aside_and_told(
    house: House, autojump_clock: MockClock
) -> None:
    await house.run(set_all)
    whole = house.record.read_bytes()
    house.record.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told, [warning] = await house.run(session)
    assert "set aside" in warning
    assert not told["speed-limit-down-enabled"]


async def test_that_it_cannot_be_kept_is_told_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def work(node: Node, rpc: Rpc) -> None:
        def full(*_: Any) -> None:
            raise StorageError("no space left", disk_full=True)

        state = node.records._state
        assert state is not None
        monkeypatch.setattr(state, "save_in", full)
        error = await rpc(
            "session-set", **{"speed-limit-down": 5, "speed-limit-down-enabled": True}
        )
        assert error == "it is set, but will not be after a restart: no space left"
        assert node.speed.down == 5_000
        monkeypatch.undo()
        assert await rpc("session-set") == {}  # it is tried again

    await house.run(work)
    assert (await house.run(session))[0]["speed-limit-down"] == 5


@given(
    st.builds(
        Remembered,
        st.fixed_dictionaries(
            {},
            optional={
                **{name: st.tuples(rates, rates) for name in ("limit_up", "active_seeds")},
                "seed_idle": st.tuples(st.none(), st.floats(0, 1e9)),
                "alternative_limits": st.tuples(
                    st.none(),
                    st.builds(
                        AlternativeLimits, rates, rates, on=st.booleans(), by_clock=st.booleans()
                    ).map(plain),
                ),
            },
        ),
        st.booleans(),
        st.dictionaries(st.text(), st.floats(0, 1e9), max_size=5),
        st.dictionaries(
            st.binary(min_size=20, max_size=20).map(InfoHash),
            st.dictionaries(st.text(), st.floats(0, 1e9), max_size=3),
            max_size=3,
        ),
    )
)
def test_what_is_written_is_read(one: Remembered) -> None:
    assert decode(one.encode()) == one
    for name, (_, value) in one.fields.items():
        if name == "alternative_limits":
            assert plain(alternative(value)) == value
    assert set(READ) <= set(Config.__dataclass_fields__)


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["fields", "numbers", "torrents", "starts_added", *READ, "x" * 40]),
                inner,
                max_size=5,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_anything_else_is_one_clear_error(payload: bytes) -> None:
    with contextlib.suppress(StorageError):
        assert isinstance(decode(payload), Remembered)
