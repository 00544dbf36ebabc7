"""Bytes that wait to be sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.utp.sending import SendQueue
from tests.helpers.utp_link import pattern


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 9)), max_size=40),
)
def test_bytes_come_out_in_order_however_they_went_in(
    writes: list[int], takes: list[tuple[int, int]]
) -> None:
    queue, written, taken = SendQueue(), 0, b""
    for size in writes:
        queue.add(pattern(written, size + 7), size)
        written += size
    for size, asked in takes:
        count = min(asked, queue.size // size)
        parts = queue.take_many(size, count)
        assert [len(part) for part in parts] == [size] * count
        taken += b"".join(parts)
    if queue.size:
        taken += queue.take(queue.size)
    assert queue.size == 0
    assert taken == pattern(0, written)
