"""Tests of `peer.runs`; what is found in a stream is tested with the connection."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent.geometry import BLOCK
from dht_torrent.peer.messages import RequestRun, encode, encode_requests
from dht_torrent.peer.runs import SPAN, encode_run


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**18 - 1), st.integers(1, 40) | st.just(SPAN))
@example(7, SPAN - 5, 5)
@example(7, SPAN - 5, 6)
@example(0x01020304, 3 * SPAN, SPAN)
def test_a_run_is_the_bytes_of_its_requests(index: int, first: int, blocks: int) -> None:
    run = encode_run(index, first * BLOCK, blocks)
    if first // SPAN != (first + blocks - 1) // SPAN:
        assert run == b""  # no template fits
    else:
        requests = RequestRun(index, first * BLOCK, blocks).requests()
        assert run == encode_requests(requests) == b"".join(map(encode, requests))


@pytest.mark.parametrize("begin", [1, BLOCK - 1, BLOCK + 1, 2**32 - 1])
def test_no_template_fits_blocks_that_begin_elsewhere(begin: int) -> None:
    assert encode_run(0, begin, 1) == encode_run(0, begin, 3) == b""
