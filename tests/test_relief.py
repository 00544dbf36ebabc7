"""Who lacks a descriptor gets one from who can spare it, or the error it would have had."""

from __future__ import annotations

import errno
import resource

import pytest

from dht_torrent.relief import descriptors_left, no_relief, raise_descriptor_limit, relieved
from tests.helpers.scarce import few_left


class Scarce:
    """A call that fails until something was closed `needed` times; `files` can be."""

    def __init__(self, needed: int, files: int, code: int = errno.EMFILE) -> None:
        self.needed = needed
        self.files = files
        self.code = code
        self.calls = 0

    def relief(self) -> bool:
        if not self.files:
            return False
        self.files -= 1
        self.needed -= 1
        return True

    def call(self, value: str) -> str:
        self.calls += 1
        if self.needed > 0:
            raise OSError(self.code, "none left")
        return value


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_call_is_repeated_until_enough_was_closed(code: int) -> None:
    scarce = Scarce(needed=3, files=5, code=code)
    assert relieved(scarce.relief, scarce.call, "done") == "done"
    assert scarce.calls == 4
    assert scarce.files == 2


def test_the_error_is_raised_when_nothing_can_be_closed() -> None:
    scarce = Scarce(needed=3, files=2)
    with pytest.raises(OSError) as caught:
        relieved(scarce.relief, scarce.call, "done")
    assert caught.value.errno == errno.EMFILE
    assert scarce.calls == 3
    with pytest.raises(OSError):
        relieved(no_relief, scarce.call, "done")


def test_other_errors_close_nothing() -> None:
    scarce = Scarce(needed=1, files=1, code=errno.EACCES)
    with pytest.raises(OSError):
        relieved(scarce.relief, scarce.call, "done")
    assert (scarce.calls, scarce.files) == (1, 1)


def test_descriptors_left_are_those_below_the_limit() -> None:
    with few_left(17):
        # The look itself takes one for a moment.
        assert 16 <= descriptors_left() <= 17


def test_the_limit_is_raised_to_what_the_system_allows() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(256, wanted // 2), hard))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
