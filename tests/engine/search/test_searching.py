"""Searches in an index that several people have written, some of them liars."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.catalogue import Entry, Proof, PublisherTrust, Source, SwarmHealth
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.search import label
from dht_torrent.search.choice import ENOUGH_READS
from dht_torrent.search.titles import preview_of
from tests.engine.search.world import CONFIG, Titled, World, clock, people

SERVER = "Ubuntu 22.04 LTS server amd64"
DESKTOP = "Ubuntu 22.04 LTS desktop amd64"
DEBIAN = "Debian 12 netinst amd64"


async def test_what_one_publishes_another_finds_verified(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER, DESKTOP, DEBIAN)
        await alice.settle()
        (result,) = await bob.search("ubuntu SERVER")
        assert result.name == SERVER
        assert result.trust == "verified"
        assert result.verified
        assert result.publisher == alice.key.public.hex()
        assert (result.publishers, result.source) == (1, "network")
        assert (result.size, result.files) == (1 << 20, 1)
        assert result.published == pytest.approx(clock(), abs=700)
        assert result.id == Titled(SERVER).infohash.hex()
        assert result.magnet.startswith(f"magnet:?xt=urn:btih:{result.id}&dn=Ubuntu")
        assert set(await bob.names("amd64 ubuntu")) == {SERVER, DESKTOP}
        assert await bob.names("ubuntu netinst") == []
        assert await bob.names("windows") == []


async def test_what_was_verified_is_found_at_once_the_next_time(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        await alice.settle()
        assert [one.source for one in await bob.search("server")] == ["network"]
        begun = trio.current_time()
        (result,) = await bob.search("server", network=False)
        assert trio.current_time() == begun
        assert (result.source, result.trust) == ("local", "verified")
        assert result.publisher == alice.key.public.hex()
        # Once, although the network has it as well.
        assert [one.source for one in await bob.search("server")] == ["local"]


async def test_who_searches_again_sees_what_is_new(autojump_clock: MockClock) -> None:
    async with people(World(), 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        await alice.settle()
        assert await bob.names("ubuntu") == [SERVER]
        await carol.publish(DESKTOP)
        await carol.settle(20)
        assert set(await bob.names("ubuntu")) == {SERVER, DESKTOP}
        # With the same words in another order, too.
        await bob.names("amd64 22")
        await alice.publish(Titled("22 amd64"))
        await alice.settle(20)
        assert "22 amd64" in await bob.names("22 amd64")


async def test_another_search_sees_what_is_new_after_half_a_minute(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        await alice.settle()
        assert await bob.names("ubuntu") == [SERVER]
        await carol.publish(DESKTOP)
        await carol.settle(CONFIG.slot_search_time)
        assert set(await bob.names("ubuntu", prefix=True)) == {SERVER, DESKTOP}


async def test_a_search_in_a_loop_reads_anew_once_in_five_seconds(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        await alice.settle()
        await bob.search("ubuntu")
        before = bob.items.gets
        for _ in range(4):
            await trio.sleep(1)
            await bob.search("ubuntu")
        assert bob.items.gets == before
        await trio.sleep(2)
        await bob.search("ubuntu")
        assert bob.items.gets > before


async def test_a_word_typed_letter_by_letter_costs_few_gets_a_letter(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        words = [f"{start}{end}" for start in ("ubu", "ubi", "ura", "web") for end in range(12)]
        await alice.publish(*[f"{word} ubuntu{n % 3}" for n, word in enumerate(words)])
        await alice.settle(3600)
        await bob.search("ub", prefix=True)
        for typed in ("ubu", "ubun", "ubunt", "ubuntu", "ubuntu1"):
            before = bob.items.gets
            await bob.search(typed, prefix=True)
            assert bob.items.gets - before <= 3
            await trio.sleep(1)


async def test_our_own_shares_are_strong_and_local(autojump_clock: MockClock) -> None:
    async with people(World(), 1) as (alice,):
        await alice.publish(SERVER)
        (result,) = await alice.search("ubuntu")
        assert (result.source, result.trust, result.name) == ("local", "strong", SERVER)
        assert type(result.published) is float  # as from the network: JSON has one form of it


async def test_an_unfinished_word_finds_all_that_begin_with_it(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER, "Ubuntustudio manual", "Ubiquity handbook", DEBIAN)
        await alice.settle()
        assert set(await bob.names("ubuntu", prefix=True)) == {SERVER, "Ubuntustudio manual"}
        assert set(await bob.names("ubi", prefix=True)) == {"Ubiquity handbook"}
        assert await bob.names("ubi") == []
        assert set(await bob.names("server ubu", prefix=True)) == {SERVER}
        assert await bob.names("xyz", prefix=True) == []
        assert bob.cost.gets <= 14


async def test_a_size_finds_all_within_it_and_nothing_else(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        sizes = [10, 1000, 10**6, 10**9 + 1, 5 * 10**9]
        await alice.publish(*[Titled(f"file{n} number", size=n) for n in sizes])
        await alice.settle()
        found = await bob.search(min_size=1000, max_size=10**9 + 1)
        assert {one.size for one in found} == {1000, 10**6, 10**9 + 1}
        # 16 bits do not tell these apart, the record does.
        assert {one.size for one in await bob.search(min_size=10**9 + 2)} == {5 * 10**9}
        assert {one.size for one in await bob.search("number", max_size=10)} == {10}


async def test_a_date_finds_what_was_published_since(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        now = clock()
        await alice.publish(
            *[Titled(f"day{days} log", published=now - days * 86_400) for days in (0, 2, 9, 40)]
        )
        await alice.settle()
        assert set(await bob.names(since=now - 3 * 86_400)) == {"day0 log", "day2 log"}
        assert set(await bob.names("log", since=now - 10 * 86_400)) == {
            "day0 log",
            "day2 log",
            "day9 log",
        }
        assert set(await bob.names(since=now - 86_400, max_size=1)) == set()


async def test_tags_are_found_though_they_are_not_in_the_title(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(Titled(SERVER, tags=("linux", "jammy")))
        await alice.settle()
        assert await bob.names("jammy ubuntu") == [SERVER]


async def test_words_beyond_the_preview_are_found(autojump_clock: MockClock) -> None:
    title = "The collected lectures on experimental physics of the winter term with exercises"
    async with people(World(), 2) as (alice, bob):
        await alice.publish(title)
        await alice.settle()
        assert await bob.names("exercises lectures") == [title]


async def test_each_torrent_is_given_once_whoever_publishes_it(autojump_clock: MockClock) -> None:
    async with people(World(), 4) as (alice, bob, carol, dave):
        for one in (alice, bob, carol):
            await one.publish(SERVER)
            await one.settle()
        (result,) = await dave.search("ubuntu")
        assert result.publishers == 3


async def test_no_more_are_given_than_asked_for(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(60)])
        await alice.settle(3600)
        found = await bob.search("common", limit=20)
        assert len(found) == 20
        assert all(one.verified for one in found)
        everything = await bob.search("common", limit=100, patience=20.0)
        assert len({one.id for one in everything}) == 60


async def test_a_publisher_who_is_blocked_is_never_shown(autojump_clock: MockClock) -> None:
    async with people(World(), 4) as (alice, mallory, bob, carol):
        await alice.publish(SERVER)
        await mallory.publish(SERVER, DESKTOP)
        await alice.settle()
        await mallory.settle()
        await bob.catalogue.set_trust(mallory.key.public, PublisherTrust.BLOCKED, int(clock()))
        (result,) = await bob.search("ubuntu")
        assert (result.name, result.publisher) == (SERVER, alice.key.public.hex())

        # Not even as somebody whose record cannot be had.
        async def none(target: bytes, salt: bytes) -> None:
            return None

        carol.records.get = none  # type: ignore[method-assign]
        await carol.catalogue.set_trust(mallory.key.public, PublisherTrust.BLOCKED, int(clock()))
        assert [(one.name, one.trust) for one in await carol.search("ubuntu")] == [
            (preview_of(SERVER) + "\u2026", "unverified")
        ]


async def test_a_publisher_who_is_trusted_vouches_first_and_ranks_higher(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 4) as (alice, bob, carol, dave):
        await alice.publish(SERVER, "ubuntu one")
        await bob.publish(SERVER, "ubuntu two")
        await alice.settle()
        await bob.settle()
        for friend in (alice, bob):
            reader = carol if friend is alice else dave
            await reader.catalogue.set_trust(
                friend.key.public, PublisherTrust.TRUSTED, int(clock())
            )
            found = {one.name: one for one in await reader.search("ubuntu")}
            assert found[SERVER].publisher == friend.key.public.hex()
            assert found[SERVER].trusted
            best, worst = ("one", "two") if friend is alice else ("two", "one")
            assert found[f"ubuntu {best}"].score > found[f"ubuntu {worst}"].score
            assert not found[f"ubuntu {worst}"].trusted


async def test_what_the_torrent_itself_says_is_stronger(autojump_clock: MockClock) -> None:
    async with people(World(), 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        await alice.settle()
        bob.swarms.names[Titled(SERVER).infohash] = SERVER + " iso"
        (result,) = await bob.search("ubuntu")
        assert (result.trust, result.name) == ("strong", SERVER + " iso")
        # Whoever publishes garbage under a good name is found out by those who know it.
        carol.swarms.names[Titled(SERVER).infohash] = "garbage"
        assert await carol.search("ubuntu") == []
        entry = Entry(
            infohash=Titled(SERVER).infohash,
            title="garbage",
            words="garbage",
            sources=Source.NETWORK,
            proof=Proof.STRONG,
        )
        await bob.catalogue.put([entry], int(clock()))
        bob.swarms.names.clear()
        assert await bob.search("server", network=True) == []


async def test_peers_are_those_we_saw_and_it_is_said_how(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER, DESKTOP)
        await alice.settle()
        at = int(clock())
        bob.swarms.counts[Titled(SERVER).infohash] = SwarmHealth(3, 7, at, "bep33")
        bob.swarms.here[Titled(DESKTOP).infohash] = SwarmHealth(1, 2, at, "joined")
        found = {one.name: one for one in await bob.search("ubuntu")}
        server, desktop = found[SERVER], found[DESKTOP]
        assert (server.seeds, server.peers, server.peers_how, server.peers_at) == (
            3,
            7,
            "bep33",
            at,
        )
        assert (desktop.seeds, desktop.peers, desktop.peers_how) == (1, 2, "joined")
        (again,) = await bob.search("server", network=False)
        assert (again.peers, again.peers_how) == (7, "bep33")


async def test_swarms_are_looked_at_of_the_first_few_only(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common part{n}" for n in range(8)])
        await alice.settle()
        assert len(await bob.search("common")) == 8
        assert bob.swarms.looked == CONFIG.peers_looked_up


async def test_an_entry_without_a_record_comes_last_and_unverified(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with people(world, 3) as (alice, mallory, bob):
        await alice.publish(SERVER)
        await alice.settle()

        async def keep_silent(*args: object) -> bool:
            return True

        mallory.records.put = keep_silent  # type: ignore[assignment, method-assign]
        await mallory.publish(DESKTOP)
        await mallory.settle()
        found = await bob.search("ubuntu")
        assert [(one.name, one.trust) for one in found] == [
            (SERVER, "verified"),
            (preview_of(DESKTOP) + "\u2026", "unverified"),
        ]
        assert found[1].publisher is None
        assert [one.name_is_cut for one in found] == [False, True]
        # Its beginning is not its name, neither here nor for who fetches it.
        assert found[1].magnet == f"magnet:?xt=urn:btih:{found[1].id}"
        assert "&dn=" in found[0].magnet
        assert found[1].size == pytest.approx(1 << 20, rel=0.001)
        assert found[0].score > found[1].score
        # It is not put into the catalogue.
        assert [one.name for one in await bob.search("ubuntu", network=False)] == [SERVER]


async def test_a_short_title_is_whole_though_nobody_vouches_for_it(
    autojump_clock: MockClock,
) -> None:
    async with people(World(seconds=2.0), 2) as (alice, bob):
        await alice.publish(Titled("Ubuntu", tags=("jammy",)))
        await alice.settle(3600)
        (result,) = await bob.search("ubuntu", patience=3.0)
        assert (result.name, result.trust, result.name_is_cut) == ("Ubuntu", "unverified", False)
        assert result.magnet.endswith("&dn=Ubuntu")


async def test_a_search_ends_when_its_patience_is_up(autojump_clock: MockClock) -> None:
    async with people(World(seconds=2.0), 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        await alice.settle(3600)
        begun = trio.current_time()
        found = await bob.search("ubuntu", patience=3.0)
        assert trio.current_time() - begun == pytest.approx(3.0)
        # The entry came after two seconds, its record would have after four.
        assert [(one.name, one.trust) for one in found] == [
            (preview_of(SERVER) + "\u2026", "unverified")
        ]
        assert await carol.search("ubuntu", patience=1.0) == []


async def test_results_come_as_soon_as_they_are_checked(autojump_clock: MockClock) -> None:
    async with people(World(seconds=1.0), 2) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(5)])
        await alice.settle(3600)
        begun = trio.current_time()
        times: list[float] = []

        def emit(result: SearchResult) -> None:
            times.append(trio.current_time() - begun)

        await bob.searcher.run(SearchQuery(text="common", patience=30.0), emit)
        assert times[0] == pytest.approx(2.0, abs=0.6)  # a slot and a record


async def test_a_search_reads_no_more_than_it_may(autojump_clock: MockClock) -> None:
    config = replace(CONFIG, max_gets=5)
    async with people(World(), 2, config=config) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(90)])
        await alice.settle(7200)
        bob.items.gets = 0
        await bob.search("common", limit=1000, patience=60.0)
        assert bob.cost.gets <= 5
        assert bob.items.gets - bob.cost.records <= 6


async def test_an_unfinished_word_of_many_titles_costs_fourteen_gets_at_most(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common{n % 7} word{n % 5} part{n:03}" for n in range(90)])
        await alice.settle(7200)
        found = await bob.search("wo", prefix=True, limit=1000, patience=60.0)
        assert len(found) > 20
        assert 10 < bob.cost.gets <= 14


async def test_no_more_is_read_when_what_is_being_checked_will_do(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(60)])
        await alice.settle(3600)
        assert len(await bob.search("common", limit=5)) == 5
        assert bob.cost.gets == 1
        assert bob.items.gets - bob.cost.records <= 2  # two, where epochs overlap


async def test_how_common_words_are_is_remembered(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(5)])
        await alice.settle()
        await bob.search("common part003")
        counts = await bob.catalogue.counts([b"common", b"part", b"003"], int(clock()) - 60)
        assert counts[b"common"] == 5
        bob.items.gets = 0
        await bob.search("common part003", limit=1)
        assert bob.items.gets <= 2


async def test_without_the_network_nothing_is_asked(autojump_clock: MockClock) -> None:
    async with people(World(), 1) as (bob,):
        assert await bob.search("ubuntu", network=False) == []
        assert bob.items.gets == 0


async def test_what_was_imported_is_given_last_unless_the_network_verifies_it(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        await alice.settle()
        imported = [
            Entry(
                infohash=Titled(title).infohash,
                title=title,
                words=" ".join(title.lower().split()),
                sources=Source.IMPORT,
            )
            for title in (SERVER, DESKTOP)
        ]
        await bob.catalogue.put(imported, int(clock()))
        found = await bob.search("ubuntu")
        assert [(one.name, one.trust, one.source) for one in found] == [
            (SERVER, "verified", "network"),
            (DESKTOP, "unverified", "local"),
        ]
        at_once = await bob.search("desktop", network=False)
        assert [one.trust for one in at_once] == ["unverified"]


async def test_a_page_of_a_common_word_is_not_read_further_than_it_fills(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"popular {number}" for number in range(90)])
        await alice.settle()
        bob.items.gets = 0
        assert len(await bob.names("popular", limit=50)) == 50
        # Each node has twelve entries at most, and those above are below as well: read eight at a
        # time, it would be thirteen.
        assert 5 <= bob.cost.gets <= 9


LONG = "Ubuntu " + "long words of one title " * 12


@pytest.mark.parametrize("size", [155, 156, 160, 161, 250])
async def test_a_title_of_which_a_record_may_have_only_the_beginning_ends_in_an_ellipsis(
    autojump_clock: MockClock, size: int
) -> None:
    title = LONG[: size - 1] + "x"
    shown = title if size < 156 else title[:160].rstrip() + "\u2026"
    async with people(World(), 2) as (alice, bob):
        await alice.publish(title)
        await alice.settle()
        for network in (True, False):  # what was verified is in our own catalogue from now on
            (result,) = await bob.search("ubuntu", network=network)
            assert (result.name, result.trust) == (shown, "verified")
            assert result.name_is_cut == (size >= 156)
            assert ("&dn=" in result.magnet) == (size < 156)
        # Of our own torrents, the catalogue has no more; but the torrent itself does.
        (own,) = await alice.search("ubuntu")
        assert (own.name, own.trust) == (shown, "strong")
        alice.swarms.names[Titled(title).infohash] = title
        (own,) = await alice.search("ubuntu")
        assert (own.name, own.trust, own.name_is_cut) == (title, "strong", False)


async def test_a_slot_on_its_way_to_the_next_epoch_counts_as_the_two_lookups_it_takes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label, "OVERLAP", label.EPOCH)  # all of them are, all the time
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"alpha{n % 8} part{n:03}" for n in range(320)])
        await alice.settle(1500)
        for text, prefix, most in (
            ("alph", True, CONFIG.prefix_gets + CONFIG.prefix_words),
            ("alpha1", False, ENOUGH_READS),
        ):
            before = bob.items.gets
            assert len(await bob.search(text, prefix=prefix)) > 10
            assert bob.items.gets - before == bob.cost.gets <= most


@pytest.mark.parametrize("most", [2, 3, 4, 5])
async def test_a_search_ends_when_what_is_left_is_too_little_for_another_slot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(label, "OVERLAP", label.EPOCH)
    async with people(World(), 2, config=replace(CONFIG, max_gets=most)) as (alice, bob):
        await alice.publish(*[f"alpha part{n:03}" for n in range(40)])
        await alice.settle(1500)
        assert len(await bob.search("alpha")) >= 10
        assert bob.items.gets == bob.cost.gets == most // 2 * 2
