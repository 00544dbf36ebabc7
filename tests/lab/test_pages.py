"""Large pages: advice that changes nothing but speed."""

from __future__ import annotations

import mmap
import sys

import pytest

from dht_torrent.lab.pages import use_large_pages

LARGE = 2 * 1024 * 1024


def test_memory_is_unchanged_by_advice_about_its_pages() -> None:
    held = [bytes([number % 256]) * 1000 for number in range(20_000)]
    done = use_large_pages()
    assert done >= 0
    assert done % LARGE == 0
    assert all(one == bytes([number % 256]) * 1000 for number, one in enumerate(held))


def test_it_may_be_asked_for_again_and_again() -> None:
    for _ in range(3):
        assert use_large_pages() >= 0


@pytest.mark.parametrize("lacking", ["linux", "advice"])
def test_a_system_without_large_pages_is_left_alone(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking == "linux":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert use_large_pages() == 0
