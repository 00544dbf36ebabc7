"""Whom to dial next, whatever liars say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import Address, PeerKey, Transport
from dht_torrent.torrent.candidates import PEX_SHARE, USELESS_PAUSE, Candidates
from dht_torrent.torrent.outlook import Outlook, Trouble
from dht_torrent.torrent.parole import Parole
from dht_torrent.torrent.priority import priority
from dht_torrent.torrent.ways import Ways

P1, P2 = map(PeerKey, (1, 2))

CONFIG = TorrentConfig(reconnect_delay=60.0, local_reconnect_delay=2.0, max_dial_fails=3)
FAR = Address("8.8.4.4", 6881)
NEAR = Address("127.0.0.1", 6881)


def far(number: int) -> Address:
    return Address(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}", 6881)


def candidates(config: TorrentConfig = CONFIG) -> Candidates:
    return Candidates(config, random.Random(5))


def fail(subject: Candidates, address: Address, now: float) -> None:
    assert subject.take(now) == address
    subject.failed(address, now)


def test_an_address_is_dialled_once_at_a_time() -> None:
    subject = candidates()
    assert subject.take(0.0) is None
    assert subject.add(FAR, "dht", 0.0)
    assert not subject.add(FAR, "pex", 0.0)
    assert subject.source(FAR) == "dht"
    assert subject.take(0.0) == FAR
    assert subject.take(0.0) is None
    subject.connected(FAR, 0.0)
    assert subject.take(9999.0) is None
    assert subject.next_time(0.0) is None


@pytest.mark.parametrize(("address", "delay"), [(FAR, 60.0), (NEAR, 2.0)])
def test_the_pause_grows_with_each_failure(address: Address, delay: float) -> None:
    subject = candidates()
    subject.add(address, "dht", 0.0)
    fail(subject, address, 0.0)
    assert subject.take(delay - 0.1) is None
    assert subject.next_time(1.0) == delay
    fail(subject, address, delay)
    assert subject.next_time(delay) == 3 * delay


def test_after_three_failures_an_address_waits_until_it_is_named_anew() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    for now in (0.0, 60.0, 180.0):
        fail(subject, FAR, now)
    assert subject.next_time(180.0) is None
    subject.add(FAR, "dht", 419.0)  # too soon: naming it again does not shorten the pause
    assert subject.take(9999.0) is None
    subject.add(FAR, "dht", 420.0)
    fail(subject, FAR, 420.0)
    assert subject.take(9999.0) is None


def test_what_the_user_named_is_tried_for_ever() -> None:
    subject = candidates()
    subject.add(NEAR, "magnet", 0.0)
    now = 0.0
    for _ in range(50):
        fail(subject, NEAR, now)
        wake = subject.next_time(now)
        assert wake is not None
        assert wake - now <= 20.0
        now = wake


def test_a_connection_wipes_failures_out() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    fail(subject, FAR, 0.0)
    fail(subject, FAR, 60.0)
    assert subject.take(180.0) == FAR
    subject.connected(FAR, 180.0)
    subject.disconnected(FAR, 200.0)
    assert subject.next_time(200.0) == 260.0


def test_fewest_failures_come_first_then_the_most_trusted_source() -> None:
    subject = candidates()
    for number, source in enumerate(["pex 1.2.3.4:5", "dht", "resume", "magnet", "elsewhere"]):
        subject.add(far(number), source, 0.0)
    subject.add(FAR, "user", 0.0)
    fail(subject, FAR, 0.0)
    order = [subject.take(60.0) for _ in range(6)]
    assert order == [far(3), far(2), far(1), far(0), far(4), FAR]


@pytest.mark.parametrize(
    "address",
    [Address("0.0.0.0", 1), Address("8.8.8.8", 0), Address("224.0.0.1", 5), Address("x", 5)],
)
def test_an_address_no_peer_can_listen_on_is_not_kept(address: Address) -> None:
    assert not candidates().add(address, "dht", 0.0)


def test_one_source_cannot_flush_the_others() -> None:
    subject = candidates()
    subject.add(FAR, "magnet", 0.0)
    for number in range(600):
        subject.add(far(number), "incoming", 0.0)
    for number in range(2000):
        subject.add(far(100_000 + number), "dht", 0.0)
    assert len(subject) <= CONFIG.max_candidates
    assert subject.source(FAR) == "magnet"
    assert sum(subject.source(far(number)) == "incoming" for number in range(600)) >= 499


def test_fifty_addresses_of_each_peers_exchange_are_kept() -> None:
    subject = candidates()
    for number in range(2000):
        subject.add(far(number), f"pex {number % 3}", 0.0)
    assert len(subject) == 3 * PEX_SHARE


def test_when_full_the_failed_go_first_and_the_connected_stay() -> None:
    subject = candidates(TorrentConfig(max_candidates=4))
    subject.add(far(0), "dht", 0.0)
    assert subject.take(0.0) == far(0)
    subject.connected(far(0), 0.0)
    subject.add(far(1), "dht", 0.0)
    fail(subject, far(1), 0.0)
    subject.add(far(2), "dht", 0.0)
    assert [subject.source(far(number)) for number in range(3)] == ["dht", None, "dht"]


@pytest.mark.parametrize("address", [FAR, NEAR])
def test_a_ban_is_of_one_address_for_a_day(address: Address) -> None:
    subject = candidates()
    other = address._replace(port=999)
    subject.add(address, "dht", 0.0)
    subject.add(other, "dht", 0.0)
    subject.ban(address, 0.0)
    assert len(subject) == 1
    assert subject.is_banned(address, 24 * 3600.0 - 1)
    assert not subject.add(address, "dht", 1.0)
    assert not subject.is_banned(other, 0.0)
    assert not subject.is_banned(address, 24 * 3600.0)


def test_another_port_of_a_public_host_that_lied_is_dialled_after_a_pause() -> None:
    subject = candidates()
    for port in (1, 2):
        subject.add(FAR._replace(port=port), "magnet", 0.0)
    subject.ban(FAR._replace(port=1), 0.0)
    assert subject.take(CONFIG.parole_delay - 0.1) is None
    assert subject.next_time(0.0) == CONFIG.parole_delay
    assert subject.take(CONFIG.parole_delay) == FAR._replace(port=2)


def test_an_incoming_peer_of_a_public_host_that_lied_waits_longer_than_a_dialled_one() -> None:
    subject = candidates()
    subject.ban(FAR, 0.0)
    other, delay = FAR._replace(port=2), CONFIG.parole_delay
    assert subject.is_resting(other, delay - 0.1, incoming=False)
    assert not subject.is_resting(other, delay, incoming=False)
    assert subject.is_resting(other, 2 * delay - 0.1, incoming=True)
    assert not subject.is_resting(other, 2 * delay, incoming=True)


def test_connections_of_a_local_host_that_lied_are_welcome() -> None:
    subject = candidates()
    subject.ban(NEAR, 0.0)
    other = NEAR._replace(port=2)
    assert not subject.is_resting(other, 0.0, incoming=True)
    subject.add(other, "dht", 0.0)
    assert subject.take(0.0) == other


def test_what_is_remembered_can_be_given_to_the_next_run() -> None:
    subject = candidates()
    for number in range(3):
        subject.add(far(number), "dht", 0.0)
    subject.connected(far(2), 0.0)
    subject.ban(FAR, 0.0)
    subject.ban(NEAR, 0.0)
    known, banned = subject.dump(1.0)
    assert known[0] == far(2)
    assert set(known) == {far(0), far(1), far(2)}
    assert banned == [FAR]
    again = candidates()
    for address in banned:
        again.ban(address, 0.0)
    assert again.is_banned(FAR, 1.0)


def test_an_unknown_address_may_come_and_go() -> None:
    subject = candidates()
    subject.connected(FAR, 0.0)
    subject.disconnected(FAR, 0.0)
    subject.failed(FAR, 0.0)
    assert len(subject) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "take", "connected", "disconnected", "failed", "ban", "wait"]),
            st.integers(0, 12),
            st.sampled_from(["dht", "magnet", "pex 1"]),
        ),
        max_size=60,
    )
)
def test_bounds_hold_whatever_happens(steps: list[tuple[str, int, str]]) -> None:
    config = TorrentConfig(max_candidates=6)
    subject, now = candidates(config), 0.0
    for action, number, source in steps:
        address = far(number)
        match action:
            case "add":
                subject.add(address, source, now)
            case "take":
                expected = subject.next_time(now) == now
                taken = subject.take(now)
                assert (taken is not None) == expected
                assert taken is None or not subject.is_banned(taken, now)
            case "connected":
                subject.connected(address, now)
            case "disconnected":
                subject.disconnected(address, now)
            case "failed":
                subject.failed(address, now)
            case "ban":
                subject.ban(address, now)
            case _:
                now += 10.0 * number
        assert len(subject) <= 6
        counts = [subject.source(far(number)) for number in range(13)]
        assert all(counts.count(one) <= 3 for one in ("dht", "magnet", "pex 1"))


def test_a_seed_we_parted_from_is_left_alone_until_we_need_seeds_again() -> None:
    subject = candidates()
    subject.add(NEAR, "dht", 0.0)
    assert subject.take(0.0) == NEAR
    subject.connected(NEAR, 0.0)
    subject.parted(NEAR, 1.0)
    assert subject.take(600.0) is None
    subject.need_seeds(601.0)
    assert subject.take(601.0) == NEAR


def test_a_host_named_at_ten_thousand_ports_is_dialled_once_a_minute_at_most() -> None:
    """Somebody announces a victim's web server as a thousand peers, and then as a thousand more."""
    subject = candidates()
    tries: list[float] = []
    other = far(7)
    now, port = 0.0, 1
    while now < 3600:
        for _ in range(30):
            subject.add(Address(FAR.host, port), "dht", now)
            port = port % 65000 + 1
        subject.add(other, "dht", now)
        while (address := subject.take(now)) is not None:
            if address == other:
                subject.connected(other, now)
                continue
            assert subject.take(now) in (None, other)  # one at a time
            tries.append(now)
            subject.failed(address, now)
        now += 10
    assert port > 10_000
    assert 10 < len(tries) <= 60
    assert subject.source(other) == "dht"  # others behind other addresses are dialled meanwhile


def test_a_host_the_user_named_is_dialled_whatever_else_fails_there() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    fail(subject, FAR, 0.0)
    named = FAR._replace(port=FAR.port + 1)
    subject.add(named, "magnet", 0.0)
    assert subject.take(0.0) == named
    subject.connected(named, 0.0)
    assert subject.next_time(0.0) is None  # the other port of a connected host is not needed
    subject.disconnected(named, 10.0)
    assert subject.next_time(10.0) == 60.0


def test_a_64_counts_as_one_host() -> None:
    here, there = Address("2001:db8:1:2::3", 1), Address("2001:db8:1:2:4::", 2)
    elsewhere = Address("2001:db8:1:3::3", 1)
    subject = candidates()
    for address in (here, there, elsewhere):
        subject.add(address, "dht", 0.0)
    taken = {subject.take(0.0), subject.take(0.0)}
    assert elsewhere in taken
    assert len(taken) == 2
    assert subject.take(0.0) is None
    subject.ban(here, 0.0)
    assert subject.is_resting(there, 1.0, incoming=False)
    assert not subject.is_resting(elsewhere, 1.0, incoming=False)
    again = candidates()
    (banned,) = subject.dump(1.0)[1]
    again.ban(banned, 1.0)
    assert again.is_resting(there, 2.0, incoming=False)


def test_an_address_known_from_a_claim_alone_is_dialled_when_its_claimant_left() -> None:
    subject = candidates()
    subject.claimed(NEAR, 0.0)
    assert subject.take(0.0) is None
    assert subject.next_time(0.0) is None
    subject.released(NEAR, 10.0)
    assert subject.next_time(10.0) == 12.0
    assert subject.take(12.0) == NEAR


@pytest.mark.parametrize("named_first", [True, False])
def test_a_claim_changes_nothing_for_what_others_name(named_first: bool) -> None:
    subject = candidates()
    if named_first:
        subject.add(NEAR, "dht", 0.0)
    subject.claimed(NEAR, 0.0)
    if not named_first:
        subject.add(NEAR, "dht", 0.0)
    assert subject.next_time(0.0) == 0.0
    subject.released(NEAR, 0.0, parted=True)
    assert subject.take(0.0) == NEAR


def test_a_claim_gives_no_second_chance_to_what_failed() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    for now in (0.0, 60.0, 180.0):
        fail(subject, FAR, now)
    subject.claimed(FAR, 1000.0)
    subject.released(FAR, 1000.0)
    assert subject.next_time(1000.0) is None


def test_a_seed_that_came_and_parted_is_looked_for_when_we_need_seeds() -> None:
    subject = candidates()
    subject.claimed(NEAR, 0.0)
    subject.released(NEAR, 0.0, parted=True)
    assert subject.take(600.0) is None
    subject.need_seeds(600.0)
    assert subject.take(600.0) == NEAR


def test_a_public_host_that_is_here_is_not_dialled_at_another_port() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    subject.arrived(FAR._replace(port=50_000))
    subject.arrived(FAR._replace(port=50_001))
    assert subject.take(0.0) is None
    subject.departed(FAR._replace(port=50_000))
    assert subject.take(0.0) is None
    subject.departed(FAR._replace(port=50_001))
    assert subject.take(0.0) == FAR
    subject.add(NEAR, "dht", 0.0)
    subject.arrived(NEAR._replace(port=50_000))
    assert subject.take(0.0) == NEAR


def test_a_peer_turned_away_for_a_liar_of_its_host_is_dialled_when_that_is_gone() -> None:
    subject = candidates()
    for port in (1, 2):
        subject.add(FAR._replace(port=port), "magnet", 0.0)
        assert subject.take(0.0) is not None
    subject.connected(FAR._replace(port=1), 0.0)
    subject.parted(FAR._replace(port=2), 0.0)  # one host, one connection
    subject.ban(FAR._replace(port=1), 1.0)
    assert subject.next_time(1.0) == 1.0 + CONFIG.parole_delay


@pytest.mark.parametrize(("address", "base"), [(FAR, 60.0), (NEAR, 2.0)])
@pytest.mark.parametrize("trouble", [None, Trouble.CLOSED, Trouble.NO_HANDSHAKE, Trouble.OTHER])
def test_redialling_backs_off_whatever_the_reason(
    address: Address, base: float, trouble: Trouble | None
) -> None:
    subject = candidates()
    subject.add(address, "magnet", 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        assert subject.take(now) == address
        if trouble is None:
            subject.connected(address, now)
            subject.disconnected(address, now)
        else:
            subject.failed(address, now, trouble)
        due = subject.next_time(now)
        assert due is not None
        pauses.append(due - now)
        now = due
    first = min(base, CONFIG.first_reconnect_delay) if trouble is Trouble.CLOSED else base
    assert pauses == [first] + [min(base * 2.0**n, USELESS_PAUSE) for n in range(1, 12)]
    subject.take(now)
    subject.connected(address, now)
    subject.disconnected(address, now, useful=True)
    assert subject.next_time(now) == now + base


@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_client_that_may_be_starting_is_tried_again_soon_but_once(trouble: Trouble) -> None:
    """qBittorrent closes what comes while it checks what it has."""
    subject = candidates()
    subject.add(FAR, "magnet", 0.0)
    assert subject.take(0.0) == FAR
    subject.failed(FAR, 0.0, trouble)
    soon = trouble in (Trouble.CLOSED, Trouble.MAY_INSIST)
    due = CONFIG.first_reconnect_delay if soon else CONFIG.reconnect_delay
    assert subject.next_time(0.0) == due
    assert subject.take(due) == FAR
    subject.failed(FAR, due, trouble)
    assert subject.next_time(due) == due + 2 * CONFIG.reconnect_delay


def test_what_we_interrupt_is_dialled_at_once_on_going_on() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    fail(subject, FAR, 0.0)
    assert subject.take(60.0) == FAR
    subject.interrupted(FAR)
    assert subject.take(61.0) == FAR


def test_what_leads_to_ourselves_is_not_known_any_more() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    subject.is_ourselves(FAR)
    subject.is_ourselves(FAR)
    assert len(subject) == 0
    assert subject.outlook().known == 0


def test_who_is_held_up_is_dialled_then_as_if_nothing_had_happened() -> None:
    subject = candidates()
    subject.add(far(1), "dht", 0.0)
    for now in range(0, 100, 5):
        assert subject.take(float(now)) == far(1)
        subject.held_up(far(1), now + 5.0, Trouble.NO_PROXY)
        assert subject.take(now + 4.9) is None
        assert subject.next_time(now + 1.0) == now + 5.0
        assert subject.outlook().troubles == {Trouble.NO_PROXY: 1}
    subject.held_up(far(2), 1.0, Trouble.NO_PROXY)  # which nobody knows
    assert len(subject) == 1


def test_the_outlook_tells_the_reasons_apart() -> None:
    subject = candidates()
    failed = len(Trouble) + 1
    for number in range(failed + 5):
        subject.add(far(number), "magnet", 0.0)
    order = [subject.take(0.0) for _ in range(failed + 3)]
    names = [address for address in order if address is not None]
    for address, trouble in zip(names, [*Trouble, Trouble.REFUSED], strict=False):
        subject.failed(address, 0.0, trouble)
    subject.connected(names[failed], 0.0)
    subject.connected(names[failed + 1], 0.0)
    subject.disconnected(names[failed + 1], 0.0)
    assert subject.outlook() == Outlook(
        known=failed + 5,
        dialling=1,
        untried=2,
        left=1,
        troubles=dict.fromkeys(Trouble, 1) | {Trouble.REFUSED: 2},
    )
    reached = {one for one in Trouble if one.was_reached}
    assert set(Trouble) - reached == {
        Trouble.REFUSED,
        Trouble.TIMED_OUT,
        Trouble.UNREACHABLE,
        Trouble.NO_PROXY,
        Trouble.FORBIDDEN,
    }


def test_how_a_peer_spoke_is_remembered_while_it_is_known() -> None:
    subject = candidates()
    subject.answered(NEAR, encrypted=True, over=Transport.TCP)
    assert subject.ways(NEAR) == Ways()
    subject.add(NEAR, "dht", 0.0)
    assert subject.ways(NEAR) == Ways()
    for encrypted, over, speaks_utp in (
        (True, Transport.TCP, False),
        (False, Transport.UTP, True),
        (False, Transport.TCP, True),
    ):
        assert subject.take(1e9) == NEAR
        subject.answered(NEAR, encrypted=encrypted, over=over)
        subject.connected(NEAR, 1e9)
        subject.disconnected(NEAR, 0.0)
        assert subject.ways(NEAR) == Ways(encrypted, over, speaks_utp)


def test_a_peer_that_was_reached_in_vain_over_one_transport_is_dialled_over_the_other_first() -> (
    None
):
    subject = candidates()
    subject.add(NEAR, "user", 0.0)
    for over, first in ((Transport.TCP, Transport.UTP), (Transport.UTP, Transport.TCP)):
        assert subject.take(1e9) == NEAR
        subject.failed(NEAR, 0.0, Trouble.CLOSED, over)
        assert subject.ways(NEAR).transport is first
        subject.failed(NEAR, 0.0, Trouble.TIMED_OUT)
        assert subject.ways(NEAR).transport is first


def test_who_is_said_to_speak_utp_is_known_to_while_it_is_known_at_all() -> None:
    subject = candidates()
    subject.speaks_utp(NEAR)
    subject.add(NEAR, "dht", 0.0)
    assert not subject.ways(NEAR).speaks_utp
    subject.speaks_utp(NEAR)
    assert subject.ways(NEAR) == Ways(speaks_utp=True)


def test_a_peer_that_comes_and_goes_for_nothing_is_dialled_ever_later() -> None:
    subject = candidates()
    subject.claimed(NEAR, 0.0)
    subject.released(NEAR, 0.0)
    assert subject.next_time(0.0) == 2.0
    assert subject.take(2.0) == NEAR
    subject.failed(NEAR, 2.0)
    assert subject.next_time(2.0) == 2.0 + 2 * 2.0
    again = candidates()
    again.claimed(NEAR, 0.0)
    again.released(NEAR, 0.0, useful=True)
    assert again.take(2.0) == NEAR
    again.failed(NEAR, 2.0)
    assert again.next_time(2.0) == 2.0 + 2.0


def test_what_leads_to_a_peer_that_is_here_is_left_alone_for_a_while() -> None:
    subject = candidates()
    subject.is_another(NEAR, 0.0)  # unknown
    subject.add(NEAR, "dht", 0.0)
    assert subject.take(0.0) == NEAR
    subject.is_another(NEAR, 10.0)
    assert subject.next_time(10.0) == 10.0 + USELESS_PAUSE
    assert subject.take(10.0 + USELESS_PAUSE) == NEAR
    subject.failed(NEAR, 1000.0)
    assert subject.next_time(1000.0) == 1004.0  # the second time for nothing


def test_what_we_parted_from_counts_as_one_more_time_for_nothing() -> None:
    subject = candidates()
    subject.add(NEAR, "dht", 0.0)
    assert subject.take(0.0) == NEAR
    subject.parted(NEAR, 0.0)
    assert subject.take(USELESS_PAUSE) == NEAR
    subject.failed(NEAR, 1000.0)
    assert subject.next_time(1000.0) == 1004.0


def test_failures_before_a_connection_do_not_count_after_it() -> None:
    subject = candidates()
    subject.add(NEAR, "dht", 0.0)
    for now in (0.0, 100.0):
        fail(subject, NEAR, now)
    assert subject.take(200.0) == NEAR
    subject.connected(NEAR, 200.0)
    assert not subject.outlook().troubles
    subject.disconnected(NEAR, 200.0, useful=True)
    for now in (300.0, 400.0):
        fail(subject, NEAR, now)
    assert subject.take(500.0) == NEAR


def test_a_host_that_answers_at_one_port_does_not_rest_at_the_others() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    fail(subject, FAR, 0.0)
    subject.add(FAR._replace(port=2), "user", 0.0)
    assert subject.take(1.0) == FAR._replace(port=2)
    subject.connected(FAR._replace(port=2), 1.0)
    subject.add(FAR._replace(port=3), "dht", 1.0)
    assert subject.next_time(1.0) is None
    subject.disconnected(FAR._replace(port=2), 2.0)
    assert subject.take(2.0) == FAR._replace(port=3)


def test_a_full_source_gives_up_what_failed_most_or_was_tried_longest_ago() -> None:
    subject = candidates(TorrentConfig(max_candidates=8))
    tried = []
    for number in range(3):
        subject.add(far(number), "dht", 0.0)
        address = subject.take(float(number))
        assert address == far(number)
        tried.append(address)
        if number == 1:
            subject.failed(address, 1.0)
        else:
            subject.interrupted(address)
            subject.is_another(address, 0.0)  # so that it is not taken again
    subject.add(far(3), "dht", 0.0)  # never tried
    left = []
    for number in range(4, 7):
        assert subject.add(far(number), "dht", 3.0)
        left.append([one for one in range(4) if subject.source(far(one))])
    assert left == [[0, 2, 3], [2, 3], [3]]


def test_what_is_in_use_makes_no_room_for_a_new_name() -> None:
    subject = candidates(TorrentConfig(max_candidates=4))
    for number in range(2):
        subject.add(far(number), "dht", 0.0)
        assert subject.take(0.0) is not None
    assert not subject.add(far(2), "dht", 0.0)
    assert subject.source(far(2)) is None
    assert len(subject) == 2


def test_a_source_whose_addresses_are_gone_leaves_nothing_behind() -> None:
    subject = candidates()
    for peer in range(100):
        for number in range(2 * PEX_SHARE):
            subject.add(far(number), f"pex {peer}", 0.0)
        assert len(subject) == PEX_SHARE
        for number in range(2 * PEX_SHARE):
            subject.is_ourselves(far(number))
        assert len(subject) == 0
    assert not subject._counts


def test_hosts_that_failed_are_remembered_as_many_as_candidates() -> None:
    subject = candidates(TorrentConfig(max_candidates=6))
    for number in range(30):
        subject.add(far(number), "dht", 0.0)
        fail(subject, far(number), 0.0)
    assert list(subject._quiet) == [far(number).place for number in range(24, 30)]


def test_needing_seeds_does_not_have_others_dialled_before_their_time() -> None:
    subject = candidates()
    for address in (NEAR, NEAR._replace(port=1)):
        subject.add(address, "dht", 0.0)
        assert subject.take(0.0) == address
    subject.parted(NEAR, 0.0)
    subject.failed(NEAR._replace(port=1), 0.5)
    subject.need_seeds(1.0)
    assert subject.take(1.0) == NEAR
    subject.failed(NEAR, 1.0)
    subject.need_seeds(1.5)  # once is enough
    assert subject.take(2.0) is None
    assert subject.next_time(2.0) == 2.5


def test_a_liar_frees_those_turned_away_at_its_own_host_that_did_not_fail() -> None:
    subject = candidates()
    liar, parted, failed = (FAR._replace(port=port) for port in (1, 2, 3))
    for address in (parted, failed, far(1)):
        subject.add(address, "magnet", 0.0)
        assert subject.take(0.0) == address
    subject.failed(failed, 0.0, Trouble.NO_HANDSHAKE)
    for address in (parted, far(1)):
        subject.parted(address, 0.0)
    subject.ban(liar, 1.0)
    times = {one.address: not_before for one, not_before in subject._ready()}
    assert times[parted] == 1.0 + CONFIG.parole_delay
    assert times[failed] == CONFIG.reconnect_delay
    assert times[far(1)] == USELESS_PAUSE
    subject.take(20.0)
    subject.failed(parted, 20.0)
    subject.need_seeds(21.0)  # what was turned away for the liar was no seed we parted from
    assert subject.next_time(21.0) == 21.0  # far(1)
    assert subject.take(21.0) == far(1)
    assert subject.take(21.0) is None


def test_what_failed_for_good_is_not_remembered_over_a_restart() -> None:
    subject = candidates()
    subject.add(NEAR, "dht", 0.0)
    for now in (0.0, 100.0, 200.0):
        assert subject.dump(now)[0] == [NEAR]
        fail(subject, NEAR, now)
    assert subject.dump(300.0)[0] == []


def test_a_connected_candidate_is_not_being_dialled() -> None:
    subject = candidates()
    for address in (NEAR, FAR, far(1)):
        subject.add(address, "user", 0.0)
        assert subject.take(0.0) == address
    subject.connected(NEAR, 0.0)
    assert subject.outlook() == Outlook(known=3, dialling=2, untried=0, left=0, troubles={})


def test_a_peer_that_proved_itself_is_met_again_whatever_others_of_its_host_did() -> None:
    """An honest seed behind one address with poisoners: it is lost once, and they are many."""
    subject = candidates()
    parole = Parole(subject.bans)
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    subject.connected(FAR, 0.0)
    parole.joined(P1, FAR, 0.0)
    parole.proved(P1)
    parole.left(P1)
    subject.disconnected(FAR, 0.0, useful=True)
    for number in range(10):
        liar = FAR._replace(port=1 + number)
        parole.convicted(PeerKey(100 + number), liar, 0.0)
        subject.convicted(liar, 0.0)
    stranger = FAR._replace(port=999)
    for incoming in (False, True):
        assert not subject.is_resting(FAR, 0.0, incoming=incoming)
        assert subject.is_resting(stranger, 599.0, incoming=incoming)
    assert subject.take(0.0) == FAR
    assert parole.joined(P2, FAR, 60.0)
    assert parole.standing(P2, 60.0) is None
    # No longer than it deserves.
    parole.suspect([P2], 7)
    subject.disconnected(FAR, 60.0, useful=True)
    assert subject.is_resting(FAR, 60.0, incoming=False)
    assert subject.next_time(60.0) == 600.0


OURS = [Address("123.213.32.10", 6881), Address("2001:db8::1", 6881)]


def equals(source: str = "dht", count: int = 40) -> Candidates:
    subject = candidates()
    for number in range(count):
        subject.add(far(number << 8), source, 0.0)
    return subject


def test_between_equals_bep_40_decides_every_second_time() -> None:
    subject = equals()
    taken = [subject.take(0.0, OURS) for _ in range(20)]
    by_priority = sorted(
        (far(number << 8) for number in range(40)), key=lambda one: -priority(OURS[0], one)
    )
    left = list(by_priority)
    for turn, address in enumerate(taken):
        assert address is not None
        if turn % 2 == 0:
            assert address == left[0]
        left.remove(address)
    assert taken[1::2] != [address for address in by_priority if address in taken[1::2]]


def test_a_liar_that_knows_our_address_is_not_always_first() -> None:
    """Addresses can be invented so that their priority is high; chance does not ask for it."""
    ranked = sorted((far(n << 8) for n in range(2000)), key=lambda one: -priority(OURS[0], one))
    invented, honest = ranked[:30], ranked[-30:]
    subject = candidates()
    for address in invented + honest:
        subject.add(address, "dht", 0.0)
    taken = [subject.take(0.0, OURS) for _ in range(30)]
    assert sum(address in honest for address in taken) >= 5


def test_priority_does_not_outweigh_trust_or_failures() -> None:
    by_priority = sorted((far(n << 8) for n in range(9)), key=lambda one: -priority(OURS[0], one))
    subject = candidates()
    subject.add(by_priority[0], "dht", 0.0)
    assert subject.take(0.0, OURS) == by_priority[0]
    subject.failed(by_priority[0], 0.0)
    for address in by_priority[1:5]:
        subject.add(address, f"pex {address}", 0.0)
    for address in by_priority[5:]:
        subject.add(address, "dht", 0.0)
    order = [subject.take(60.0, OURS) for _ in range(9)]
    assert set(order[:4]) == set(by_priority[5:])
    assert set(order[4:8]) == set(by_priority[1:5])
    assert order[8] == by_priority[0]


def test_each_family_is_ordered_by_our_address_there() -> None:
    here = [Address(f"2001:db8:{number:x}::1", 6881) for number in range(1, 30)]
    subject = candidates()
    for address in here:
        subject.add(address, "dht", 0.0)
    assert subject.take(0.0, OURS) == max(here, key=lambda one: priority(OURS[1], one))


def test_a_new_address_of_ours_gives_a_new_order() -> None:
    subject = equals()
    subject.take(0.0, OURS)
    subject.take(0.0, OURS)
    moved = Address("77.66.55.44", 6881)
    left = [far(number << 8) for number in range(40)]
    best = max(left, key=lambda one: priority(moved, one))
    assert subject.take(0.0, [moved]) == best


# -- what peers name of others ----------------------------------------------------------------


def test_what_peers_name_pushes_out_nothing_else() -> None:
    subject = candidates(TorrentConfig(max_candidates=20))
    for number in range(10):
        subject.add(far(number), "dht", 0.0)
    for number in range(10, 15):
        subject.add(far(number), "incoming", 0.0)
    for number in range(1000):
        subject.add(far(1000 + number), f"pex {number % 70}", 0.0)
    assert len(subject) == 20
    assert all(subject.source(far(number)) for number in range(15))
    for number in range(15, 20):  # it is the first to go
        assert subject.add(far(number), "incoming", 0.0)
    assert not any(map(subject.source, map(far, range(1000, 2000))))
    assert not subject.add(far(2000), "pex 1", 0.0)
    assert subject.add(far(20), "magnet", 0.0)
    assert len(subject) == 20


def test_what_peers_name_is_a_part_of_what_is_known_however_many_they_are() -> None:
    subject = candidates()
    for number in range(3000):
        subject.add(far(number), f"pex {number % 100}", 0.0)
    assert len(subject) == 300


def test_half_of_the_dials_are_kept_from_what_peers_name() -> None:
    subject = candidates(TorrentConfig(max_dialing=16))
    for number in range(100):
        subject.add(far(number), f"pex {number}", 0.0)
    taken = [subject.take(0.0) for _ in range(8)]
    assert None not in taken
    assert subject.take(0.0) is None
    assert subject.next_time(0.0) is None  # not before one of them is over
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    assert taken[0] is not None
    subject.failed(taken[0], 1.0)
    assert subject.next_time(1.0) == 1.0
    assert subject.take(1.0) is not None


def dial_in_vain(subject: Candidates, now: float) -> int:
    """Dial all there is, where nobody is. Returns how many."""
    count = 0
    while (address := subject.take(now)) is not None:
        subject.failed(address, now)
        count += 1
    return count


def test_a_referrer_that_names_only_inventions_is_tried_ever_more_seldom() -> None:
    subject, now, dials = candidates(), 0.0, []
    for minute in range(240):
        for number in range(50):
            subject.add(far(minute * 50 + number), "pex liar", now)
        dials.append(dial_in_vain(subject, now))
        now += 60.0
    assert dials[0] == 5
    assert sum(dials[:10]) < 10
    assert sum(dials[60:]) <= 13  # one in fifteen minutes


def test_a_referrer_that_names_some_real_peers_is_believed_more() -> None:
    subject, now = candidates(), 0.0
    for number in range(40):
        subject.add(far(number), "pex honest", now)
    tried = 0
    while (address := subject.take(now)) is not None:
        tried += 1
        if tried % 3 == 0:
            subject.connected(address, now)
        else:
            subject.failed(address, now)
    assert tried == 40


def test_the_referrer_with_the_least_in_vain_comes_first() -> None:
    subject = candidates()
    for number in range(3):
        subject.add(far(number), "pex liar", 0.0)
    assert dial_in_vain(subject, 0.0) == 3
    for number in range(40):
        subject.add(far(100 + number), "pex liar", 1.0)
        subject.add(far(200 + number), "pex honest", 1.0)
    for _ in range(20):
        address = subject.take(1.0)
        assert address is not None
        assert subject.source(address) == "pex honest"
        subject.connected(address, 1.0)


def test_a_dial_that_told_nothing_is_not_held_against_its_referrer() -> None:
    subject = candidates()
    for number in range(40):
        subject.add(far(number), "pex one", 0.0)
    for number in range(40):
        address = subject.take(0.0)
        assert address is not None
        match number % 3:
            case 0:
                subject.is_ourselves(address)
            case 1:
                subject.disconnected(address, 0.0)
            case _:
                subject.parted(address, 0.0)
                subject.ban(address, 0.0)


def test_no_referrer_makes_little_of_an_address_by_naming_it_first() -> None:
    subject = candidates()
    for number in range(10):
        subject.add(far(number), "pex liar", 0.0)
    assert dial_in_vain(subject, 0.0) == 5
    left = [number for number in range(10) if far(number) not in tried_of(subject)]
    one, two, three = map(far, left[:3])
    assert subject.take(1.0) is None
    assert not subject.add(one, "dht", 1.0)
    assert subject.source(one) == "dht"
    assert subject.take(1.0) == one
    subject.add(two, "pex honest", 1.0)
    assert subject.source(two) == "pex honest"
    assert subject.take(1.0) == two
    subject.connected(two, 1.0)
    subject.add(three, "magnet", 1.0)
    subject.add(three, "pex liar", 1.0)
    assert subject.source(three) == "magnet"
    assert subject.take(1.0) == three
    subject.add(two, "pex liar", 1.0)
    assert subject.source(two) == "pex honest"


def tried_of(subject: Candidates) -> list[Address]:
    return [one.address for one in subject._known.values() if one.fails]


def test_an_address_named_by_the_dht_while_it_is_dialled_is_the_dhts() -> None:
    subject = candidates()
    subject.add(FAR, "pex 1", 0.0)
    assert subject.take(0.0) == FAR
    subject.add(FAR, "dht", 0.0)
    subject.failed(FAR, 0.0)
    assert subject.source(FAR) == "dht"
    for number in range(5):
        subject.add(far(number), "pex 1", 0.0)
    assert dial_in_vain(subject, 0.0) == 4  # it was on the word of that peer that it was dialled


def test_what_its_namer_takes_back_is_not_dialled() -> None:
    subject = candidates()
    for number in range(3):
        subject.add(far(number), "pex 1", 0.0)
    subject.withdraw(far(0), "pex 2")
    subject.withdraw(far(5), "pex 1")
    assert subject.source(far(0)) == "pex 1"
    subject.withdraw(far(0), "pex 1")
    assert subject.source(far(0)) is None
    first = subject.take(0.0)
    assert first is not None
    subject.withdraw(first, "pex 1")  # it is being dialled
    assert subject.source(first) == "pex 1"
    subject.connected(first, 0.0)
    subject.disconnected(first, 1.0)
    subject.withdraw(first, "pex 1")  # it has been there
    assert subject.source(first) == "pex 1"


def test_what_only_peers_named_is_not_remembered_over_a_restart() -> None:
    subject = candidates()
    subject.add(far(0), "pex 1", 0.0)
    subject.add(far(1), "dht", 0.0)
    subject.add(far(2), "pex 1", 0.0)
    subject.connected(far(2), 0.0)
    assert subject.dump(0.0)[0] == [far(2), far(1)]


def test_a_claim_that_was_confirmed_is_as_good_as_dialled() -> None:
    subject = candidates()
    subject.claimed(FAR, 0.0)
    subject.confirmed(FAR, 5.0)
    assert subject.take(9999.0) is None  # it is connected
    assert subject.dump(6.0)[0] == [FAR]
    subject.disconnected(FAR, 10.0)
    subject.released(FAR, 10.0)
    assert subject.next_time(10.0) == 70.0
    subject.confirmed(NEAR, 10.0)  # unknown
    assert subject.source(NEAR) is None


def test_a_claim_that_is_confirmed_while_we_dial_it_changes_nothing() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    subject.confirmed(FAR, 0.0)
    assert subject.outlook().dialling == 1


# -- our network failed, not they ------------------------------------------------------------------


def test_when_the_network_is_back_nobody_is_waited_for() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    fail(subject, FAR, 0.0)
    assert subject.take(1.0) is None
    subject.forgive(1.0)
    assert subject.next_time(1.0) == 1.0
    assert subject.take(1.0) == FAR


def test_who_was_given_up_has_one_more_chance_when_the_network_is_back() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    now = 0.0
    for _ in range(CONFIG.max_dial_fails):
        now += 10_000
        fail(subject, FAR, now)
    assert subject.take(now + 10_000) is None
    subject.forgive(now)
    fail(subject, FAR, now)
    assert subject.take(now + 10_000) is None


def test_who_was_reached_once_has_all_chances_when_the_network_is_back() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    subject.connected(FAR, 0.0)
    subject.disconnected(FAR, 0.0)
    now = 0.0
    for _ in range(CONFIG.max_dial_fails):
        now += 10_000
        fail(subject, FAR, now)
    subject.forgive(now)
    for _ in range(CONFIG.max_dial_fails):
        fail(subject, FAR, now)
        now = subject.next_time(now) or now
    assert subject.take(now + 10_000) is None


def test_the_pause_begins_anew_when_the_network_is_back() -> None:
    subject = candidates()
    subject.add(FAR, "user", 0.0)
    now = 0.0
    for _ in range(6):
        fail(subject, FAR, now)
        now = subject.next_time(now) or now
    subject.forgive(now)
    fail(subject, FAR, now)
    assert (subject.next_time(now) or 0.0) - now == 2 * CONFIG.reconnect_delay


def test_at_first_only_those_who_were_reached_once_are_dialled_again() -> None:
    subject = candidates()
    subject.add(FAR, "dht", 0.0)
    subject.add(far(1), "dht", 0.0)
    for _ in range(2):
        one = subject.take(0.0)
        assert one is not None
        if one == FAR:
            subject.connected(FAR, 0.0)
            subject.disconnected(FAR, 0.0)
        else:
            subject.failed(one, 0.0)
    subject.forgive(1.0, worked=True)
    assert subject.take(1.0) == FAR
    assert subject.take(1.0) is None


def test_those_connected_and_seeds_that_parted_are_left_alone_when_the_network_is_back() -> None:
    subject = candidates()
    for address in (FAR, far(1)):
        subject.add(address, "dht", 0.0)
    first, second = subject.take(0.0), subject.take(0.0)
    assert first is not None
    assert second is not None
    for address in (first, second):
        subject.connected(address, 0.0)
    subject.parted(second, 0.0)
    subject.forgive(1.0)
    assert subject.take(1.0) is None


def test_the_address_a_lost_peer_claims_is_dialled_at_once_unless_it_fails() -> None:
    subject = candidates()
    subject.lost(FAR, 0.0)  # nobody named it
    assert subject.take(0.0) is None
    subject.add(FAR, "dht", 0.0)
    assert subject.take(0.0) == FAR
    subject.is_another(FAR, 0.0)
    assert subject.take(10.0) is None
    subject.lost(FAR, 10.0)
    assert subject.take(10.0) == FAR
    subject.lost(FAR, 10.0)  # it is being dialled
    assert subject.take(10.0) is None
    subject.failed(FAR, 10.0)
    subject.lost(FAR, 11.0)
    assert subject.take(11.0) is None
