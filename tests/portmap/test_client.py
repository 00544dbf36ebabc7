"""The conversation with one gateway, on a clock of the test's own."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import PortMapConfig
from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.portmap.client import GatewayClient
from dht_torrent.portmap.ports import IpProtocol, LocalPort, MappingBy
from tests.helpers.examples import examples
from tests.helpers.fake_gateway import PUBLIC, FakeGateway

GATEWAY, OURS = Address("192.168.1.1", 5351), "192.168.1.2"
TCP, UDP = LocalPort(IpProtocol.TCP, 6881), LocalPort(IpProtocol.UDP, 6881)
CONFIG = PortMapConfig()
SECRET = b"s" * 32


class Talk:
    """A client and a gateway, with a way between them that takes no time."""

    def __init__(
        self,
        gateway: FakeGateway,
        config: PortMapConfig = CONFIG,
        ports: Iterable[LocalPort] = (TCP, UDP),
        seed: int = 1,
    ) -> None:
        self.now = 1000.0
        self.gateway = gateway
        gateway.began = self.now - 5000
        self.sent: list[tuple[float, bytes]] = []
        self.client = GatewayClient(
            config,
            GATEWAY.host,
            OURS,
            ports,
            secret=SECRET,
            rng=random.Random(seed),
            now=self.now,
        )
        self.is_deaf = False
        """What the client says does not arrive."""

    def turn(self) -> None:
        """What is due now goes there and back, until nothing more is."""
        for _ in range(20):
            taken = self.client.take(self.now)
            for data in taken:
                self.sent.append((self.now, data))
                answer = None if self.is_deaf else self.gateway.answer(data, self.now)
                if answer is not None:
                    self.hear(answer)
            if not taken:
                return
        raise AssertionError("it never stops")

    def hear(self, data: bytes) -> None:
        with contextlib.suppress(PortMapError):
            self.client.datagram(data, GATEWAY, self.now)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.turn()
        while not until():
            due = max(self.client.next_time(), self.now)
            if due > end:
                self.now = end
                return
            self.now = due
            self.turn()

    @property
    def outside(self) -> dict[LocalPort, Address]:
        return {one.local: one.external for one in self.client.mappings}


def both(offset: int = 0) -> dict[LocalPort, Address]:
    return {port: Address(PUBLIC, 6881 + offset) for port in (TCP, UDP)}


def test_pcp_maps_both_ports_at_once() -> None:
    talk = Talk(FakeGateway())
    talk.turn()
    assert talk.outside == both()
    assert {one.by for one in talk.client.mappings} == {MappingBy.PCP}
    assert [one.expires for one in talk.client.mappings] == [1000 + 7200] * 2
    assert len(talk.sent) == 2


def test_a_gateway_may_give_another_port() -> None:
    talk = Talk(FakeGateway(offset=100))
    talk.turn()
    assert talk.outside == both(100)


def test_a_gateway_of_natpmp_says_so_and_is_asked_by_it() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False, offset=7))
    talk.turn()
    assert talk.outside == both(7)
    assert {one.by for one in talk.client.mappings} == {MappingBy.NAT_PMP}


def test_a_gateway_that_keeps_silent_to_pcp_is_asked_by_natpmp() -> None:
    gateway = FakeGateway(speaks_pcp=False)
    answer = gateway.answer
    gateway.answer = lambda data, now: answer(data, now) if data[0] == 0 else None  # type: ignore[method-assign]
    talk = Talk(gateway)
    talk.run(6)
    assert talk.outside == both()
    assert {one.by for one in talk.client.mappings} == {MappingBy.NAT_PMP}


def test_a_silent_gateway_is_given_up_after_both_ways_were_tried() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False, speaks_natpmp=False))
    talk.run(60)
    assert talk.client.failed == "PCP: no answer; NAT-PMP: no answer"
    assert talk.client.mappings == []
    times = [(round(when - 1000, 1), data[0]) for when, data in talk.sent]
    assert [when for when, version in times if version == 2][::2] == pytest.approx([0, 3], abs=0.4)
    assert [when for when, version in times if version == 0] == pytest.approx(
        [5, 5.25, 5.75, 6.75, 8.75], abs=0.5
    )
    assert talk.client.next_time() == math.inf


def test_pcp_repeats_a_request_as_rfc_6887_has_it() -> None:
    config = replace(CONFIG, pcp_patience=10_000.0)
    talk = Talk(FakeGateway(speaks_pcp=False, speaks_natpmp=False), config, [TCP])
    talk.run(9_000)
    times = [when for when, _ in talk.sent]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert 2.7 <= waits[0] <= 3.3
    for before, after in itertools.pairwise(waits):
        wanted = min(2 * before, 1024)
        assert 0.9 * wanted <= after <= 1.1 * wanted
    assert waits[-1] > 900


def test_the_nonce_is_one_for_a_mapping_and_each_has_its_own() -> None:
    talk = Talk(FakeGateway())
    talk.run(8000)
    nonces = {(data[36], data[24:36]) for _, data in talk.sent if data[1] == 1}
    assert len(nonces) == 2
    assert len({nonce for _, nonce in nonces}) == 2
    again = Talk(FakeGateway())
    again.turn()
    assert {(data[36], data[24:36]) for _, data in again.sent} == nonces
    other = GatewayClient(
        CONFIG, "192.168.1.254", OURS, [TCP], secret=SECRET, rng=random.Random(1), now=0.0
    )
    assert (6, other.take(0.0)[0][24:36]) not in nonces


def renewals(talk: Talk) -> list[float]:
    return [round(when - 1000) for when, data in talk.sent if len(data) in (12, 60)]


@pytest.mark.parametrize("pcp", [True, False])
def test_a_mapping_is_renewed_at_half_of_its_lifetime(pcp: bool) -> None:
    talk = Talk(FakeGateway(speaks_pcp=pcp, lifetime=1000), ports=[TCP])
    talk.run(1500)
    first, second, *_ = [when for when in renewals(talk) if when]
    assert 500 <= first <= 625
    assert 500 <= second - first <= 625
    assert talk.outside == {TCP: Address(PUBLIC, 6881)}


def test_a_renewal_that_is_lost_is_sent_again_while_there_is_time() -> None:
    talk = Talk(FakeGateway(lifetime=250), ports=[TCP])
    talk.turn()
    talk.is_deaf = True
    talk.run(249)
    times = renewals(talk)[1:]
    assert times[0] in range(125, 158)
    assert times[1] in range(187, 216)
    assert len(times) <= 12
    assert talk.outside
    talk.run(2)
    assert talk.outside == {}
    assert talk.client.troubles == {TCP: "it was not renewed in time"}
    talk.is_deaf = False
    talk.run(40)
    assert talk.outside


@pytest.mark.parametrize("lifetime", [1, 2])
def test_a_short_lifetime_does_not_make_us_ask_all_the_time(lifetime: int) -> None:
    talk = Talk(FakeGateway(lifetime=lifetime), ports=[TCP])
    talk.run(100)
    assert len(talk.sent) <= 40


def test_a_long_lifetime_is_not_believed() -> None:
    talk = Talk(FakeGateway(lifetime=2**32 - 1), ports=[TCP])
    talk.turn()
    assert talk.client.mappings[0].expires == 1000 + 86_400


@pytest.mark.parametrize("pcp", [True, False])
def test_a_gateway_that_starts_again_is_noticed_by_what_it_counts(pcp: bool) -> None:
    talk = Talk(FakeGateway(speaks_pcp=pcp))
    talk.run(100)
    talk.gateway.restart(talk.now)
    talk.run(70)
    assert len(talk.gateway.mappings) == 2
    assert talk.outside == both()


def test_a_gateway_that_tells_that_it_starts_is_believed_within_seconds() -> None:
    talk = Talk(FakeGateway())
    talk.run(100)
    talk.gateway.restart(talk.now)
    talk.hear(talk.gateway.announce(talk.now))
    assert talk.outside == {}
    talk.run(5)
    assert len(talk.gateway.mappings) == 2
    assert talk.outside == both()


def test_a_gateway_that_tells_by_pcp_that_it_starts_may_speak_natpmp_alone() -> None:
    # miniupnpd behind a firewall that drops PCP.
    talk = Talk(FakeGateway(spoil=lambda answer: None if answer[0] == 2 else answer))
    talk.run(1)
    talk.hear(talk.gateway.announce(talk.now))
    talk.run(CONFIG.pcp_patience)
    assert talk.outside == both()
    assert {one.by for one in talk.client.mappings} == {MappingBy.NAT_PMP}


def test_a_gateway_that_tells_of_itself_and_answers_nothing_is_given_up() -> None:
    talk = Talk(FakeGateway())
    talk.is_deaf = True
    for _ in range(20):
        talk.run(1)
        talk.hear(talk.gateway.announce(talk.now))
    assert talk.client.failed == "PCP: no answer; NAT-PMP: no answer"


def falling() -> Callable[[bytes], bytes]:
    """Spoils what a gateway counts."""
    epochs = iter(range(10**6, 0, -1))
    return lambda answer: answer[:8] + next(epochs).to_bytes(4, "big") + answer[12:]


def test_a_gateway_whose_count_always_falls_is_asked_at_a_bounded_rate() -> None:
    spoil = falling()
    gateway = FakeGateway(spoil=spoil)
    talk = Talk(gateway)
    talk.run(600)
    assert len(talk.sent) < 150
    for _ in range(1000):
        talk.hear(spoil(gateway.announce(talk.now)))
        talk.turn()
    assert len(talk.sent) < 160


def test_a_second_restart_soon_after_the_first_is_not_forgotten() -> None:
    talk = Talk(FakeGateway())
    talk.run(100)
    for _ in range(2):
        talk.gateway.restart(talk.now)
        talk.hear(talk.gateway.announce(talk.now))
        talk.run(6)
    assert talk.gateway.mappings == {}
    talk.run(30)
    assert len(talk.gateway.mappings) == 2


@pytest.mark.parametrize("pcp", [True, False])
def test_a_gateway_that_is_silent_for_minutes_is_given_up(pcp: bool) -> None:
    talk = Talk(FakeGateway(speaks_pcp=pcp))
    talk.run(100)
    talk.is_deaf = True
    talk.run(250)
    assert talk.client.failed is None
    assert talk.outside == both()
    talk.run(30)
    assert talk.client.failed is not None
    assert "no answer for 300 seconds" in talk.client.failed
    assert talk.client.mappings == []
    assert len(talk.sent) < 60


def test_what_comes_from_elsewhere_is_not_believed() -> None:
    talk = Talk(FakeGateway())
    (first, _) = talk.client.take(talk.now)
    answer = talk.gateway.answer(first, talk.now)
    assert answer is not None
    with pytest.raises(PortMapError):
        talk.client.datagram(answer, Address("192.168.1.3", 5351), talk.now)
    assert talk.client.mappings == []
    talk.client.datagram(answer, GATEWAY, talk.now)
    assert len(talk.client.mappings) == 1


@pytest.mark.parametrize("at", [24, 36, 41], ids=["nonce", "protocol", "internal port"])
def test_a_pcp_answer_to_anothers_request_is_not_believed(at: int) -> None:
    gateway = FakeGateway()
    gateway.spoil = lambda answer: answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :]
    talk = Talk(gateway)
    talk.turn()
    assert talk.client.mappings == []


def test_a_natpmp_answer_to_what_was_not_asked_is_not_believed() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False), ports=[TCP])
    udp = bytes.fromhex("0081 0000 00001388 1ae1 d431 00000e10")
    talk.turn()
    with pytest.raises(PortMapError):
        talk.client.datagram(udp, GATEWAY, talk.now)
    assert talk.outside == {TCP: Address(PUBLIC, 6881)}


def test_a_mapping_by_natpmp_follows_a_new_address() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False))
    talk.run(10)
    talk.gateway.public = "8.8.4.4"
    talk.run(61)
    assert talk.outside == {port: Address("8.8.4.4", 6881) for port in (TCP, UDP)}


@pytest.mark.parametrize("public", ["0.0.0.0", "255.255.255.255", "224.0.0.1"])
@pytest.mark.parametrize("pcp", [True, False])
def test_an_external_address_that_nobody_can_have_is_not_believed(pcp: bool, public: str) -> None:
    talk = Talk(FakeGateway(speaks_pcp=pcp, public=public))
    talk.run(30)
    assert talk.client.mappings == []
    assert talk.client.failed is not None
    assert public in talk.client.failed


@pytest.mark.parametrize("pcp", [True, False])
def test_a_mapping_to_port_zero_or_for_no_time_is_not_believed(pcp: bool) -> None:
    for gateway in (
        FakeGateway(speaks_pcp=pcp, offset=-6881),
        FakeGateway(speaks_pcp=pcp, lifetime=0),
    ):
        talk = Talk(gateway)
        talk.run(30)
        assert talk.client.mappings == []
        assert talk.client.failed is not None
        assert "it grants" in talk.client.failed


def test_a_gateway_that_refuses_by_pcp_is_asked_by_natpmp_and_then_given_up() -> None:
    talk = Talk(FakeGateway(result=2))
    talk.run(1)
    assert talk.client.failed == "PCP: it does not allow it; NAT-PMP: it does not allow it"


def test_one_port_that_is_refused_leaves_the_other_mapped() -> None:
    gateway = FakeGateway()
    answer = gateway.answer

    def refuse_udp(data: bytes, now: float) -> bytes | None:
        gateway.result = 8 if data[1] == 1 and data[36] == 17 else 0
        return answer(data, now)

    gateway.answer = refuse_udp  # type: ignore[method-assign]
    talk = Talk(gateway)
    talk.run(20)
    assert talk.outside == {TCP: Address(PUBLIC, 6881)}
    assert talk.client.troubles == {UDP: "it has no room for more mappings"}
    assert len(talk.sent) == 2
    gateway.answer = answer  # type: ignore[method-assign]
    gateway.result = 0
    talk.run(15)
    assert talk.outside == both()
    assert talk.client.troubles == {}


def is_asked_again(talk: Talk) -> bool:
    return any(len(data) == 60 and data[36] == 17 for _, data in talk.sent)


def test_a_refusal_is_not_asked_again_sooner_or_later_than_is_sensible() -> None:
    for lifetime, wanted in ((0, 30), (600, 600), (2**32 - 1, 1800)):
        gateway = FakeGateway()
        talk = Talk(gateway)
        talk.turn()
        request = next(data for _, data in talk.sent if data[36] == 17)
        gateway.result = 8
        refusal = bytearray(gateway.answer(request, talk.now) or b"")
        refusal[4:8] = lifetime.to_bytes(4, "big")
        talk.hear(bytes(refusal))
        talk.sent.clear()
        talk.run(2000, partial(is_asked_again, talk))
        assert talk.now - 1000 == wanted


def test_an_answer_by_pcp_that_is_late_is_taken() -> None:
    talk = Talk(FakeGateway())
    requests = talk.client.take(talk.now)
    talk.now += 6
    talk.client.take(talk.now)
    assert str(talk.client.by) == "NAT-PMP"
    for request in requests:
        talk.hear(talk.gateway.answer(request, talk.now) or b"")
    assert str(talk.client.by) == "PCP"
    assert talk.client.mappings


def test_a_gateway_that_changes_its_protocol_all_the_time_is_given_up() -> None:
    talk = Talk(FakeGateway())
    for _ in range(50):
        for request in talk.client.take(talk.now):
            if request[0] == 2:
                talk.hear(bytes.fromhex("0080 0001 00000001"))
                talk.hear(talk.gateway.answer(request, talk.now) or b"")
    assert talk.client.failed is not None
    assert "now this, now that" in talk.client.failed


def test_ports_come_and_go() -> None:
    talk = Talk(FakeGateway(), ports=[TCP])
    talk.run(10)
    talk.client.set_ports([UDP], talk.now)
    talk.run(10)
    assert talk.outside == {UDP: Address(PUBLIC, 6881)}
    assert set(talk.gateway.mappings) == {(17, 6881)}


@pytest.mark.parametrize("pcp", [True, False])
def test_closing_takes_the_mappings_away(pcp: bool) -> None:
    talk = Talk(FakeGateway(speaks_pcp=pcp))
    talk.run(10)
    assert len(talk.gateway.mappings) == 2
    talk.client.close(talk.now)
    assert not talk.client.is_closed
    talk.is_deaf = True  # what is lost is sent again
    talk.turn()
    assert not talk.client.is_closed
    talk.is_deaf = False
    talk.run(1)
    assert talk.gateway.mappings == {}
    assert talk.client.is_closed
    count = len(talk.sent)
    talk.run(1000)
    assert len(talk.sent) == count


def test_closing_before_there_was_an_answer_does_not_wait_for_one() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False, speaks_natpmp=False))
    talk.turn()
    talk.client.close(talk.now)
    assert [data[4:8] for data in talk.client.take(talk.now)] == [bytes(4)] * 2
    assert talk.client.is_closed


def test_closing_a_conversation_that_failed_says_nothing() -> None:
    talk = Talk(FakeGateway(speaks_pcp=False, speaks_natpmp=False))
    talk.run(60)
    talk.client.close(talk.now)
    assert talk.client.is_closed
    assert not talk.client.take(talk.now)


@settings(max_examples=examples(200), deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_whatever_a_gateway_answers_it_is_asked_at_a_bounded_rate(
    data: st.DataObject, seed: int
) -> None:
    dice = random.Random(seed)
    gateway = FakeGateway(
        speaks_pcp=data.draw(st.booleans()),
        lifetime=data.draw(st.none() | st.integers(0, 2**32 - 1)),
    )

    def spoil(answer: bytes) -> bytes | None:
        if dice.random() < 0.3:
            return None
        spoilt = bytearray(answer)
        for _ in range(dice.randrange(3)):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        return bytes(spoilt)

    gateway.spoil = spoil
    talk = Talk(gateway, seed=seed)
    talk.run(1800)
    # Two ports every four seconds at most, a check a minute, and what begins anew.
    assert len(talk.sent) < 2 * 1800 / 4 + 1800 / 60 + 100
    assert all(one.external.is_usable for one in talk.client.mappings)
    assert all(one.expires <= talk.now + 86_400 for one in talk.client.mappings)
