"""Over what a peer is dialled, and when."""

from __future__ import annotations

import pytest

from dht_torrent.config import PeerConfig
from dht_torrent.ids import Transport
from dht_torrent.torrent.ways import Race, Ways, race

TCP, UTP = Transport.TCP, Transport.UTP
CONFIG = PeerConfig(connect_timeout=15, race_delay=0.25, blind_race_delay=1, blind_utp_timeout=2)


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        (Ways(), Race((TCP, UTP), 1, 2)),
        (Ways(encrypted=True, transport=TCP), Race((TCP, UTP), 1, 2)),
        (Ways(speaks_utp=True), Race((TCP, UTP), 0.25, 15)),
        (Ways(transport=TCP, speaks_utp=True), Race((TCP, UTP), 0.25, 15)),
        (Ways(transport=UTP), Race((UTP, TCP), 0.25, 15)),
        (Ways(transport=UTP, speaks_utp=True), Race((UTP, TCP), 0.25, 15)),
    ],
)
def test_what_worked_last_goes_first_and_else_tcp(ways: Ways, expected: Race) -> None:
    assert race(ways, (TCP, UTP), CONFIG) == expected


@pytest.mark.parametrize("ways", [Ways(), Ways(transport=TCP), Ways(transport=UTP)])
def test_what_is_off_is_not_tried(ways: Ways) -> None:
    assert race(ways, (TCP,), CONFIG).order == (TCP,)
    alone = race(ways, (UTP,), CONFIG)
    assert alone.order == (UTP,)
    assert alone.utp_patience == CONFIG.connect_timeout


def test_who_disappointed_is_dialled_the_other_way_first() -> None:
    ways = Ways(encrypted=True, transport=TCP, speaks_utp=True)
    assert ways.disappointed(TCP) == ways._replace(transport=UTP)
    assert ways.disappointed(UTP) == ways
    assert Ways().disappointed(UTP).transport is TCP
