"""Where the nodes of the trees are: the same for everybody, for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.label import (
    EPOCH,
    OVERLAP,
    Index,
    Label,
    day_root,
    epoch_of,
    epochs_of,
    salt_of,
    seed_of,
    tree_root,
)

labels = st.builds(
    Label,
    st.sampled_from(Index),
    st.binary(max_size=255),
    st.lists(st.integers(0, 3), max_size=8).map(bytes),
)
moments = st.integers(0, 2**32)


# The protocol. Whoever changes one of these cannot find what others have published.
@pytest.mark.parametrize(
    ("label", "epoch", "seed"),
    [
        (
            Label(Index.WORDS, b"ubuntu"),
            0,
            "41baf73d204c90ba4b5d7ac49552f7edb1e0ab7728892654e2a5dcbdfd57a0da",
        ),
        (
            Label(Index.WORDS, b"ubuntu", b"\3\0"),
            20_000,
            "276bcf0616ae05d09655311a0e1a5b9385c2a07d47af82c078a427e2af7863c3",
        ),
        (
            Label(Index.PAIRS, b"server\0ubuntu", b"\1"),
            20_000,
            "e5f524f49a73aa804e733664a8fe27643cb49d2fd49d0d212f31b66946e276b8",
        ),
        (
            Label(Index.DICTIONARY, b"", b"\2\1\0\3"),
            20_000,
            "3abe1d806d5e9e1fdf6464b051c0b6ed88c181e0650375a4e0448f4ae96d6b6d",
        ),
        (
            Label(Index.DAYS, day_root(1_800_000_000)),
            20_000,
            "5143795dca1359864b85685ad8d12e14d374545891c9547d496c2669684fe275",
        ),
        (
            Label(Index.SIZES, b""),
            20_000,
            "01bf1aa3cd96787e0312bc08d503841a0c44d57aa10446937089f3a2a8eef652",
        ),
        (
            Label(Index.FILES, bytes(16)),
            20_000,
            "e1b3b1fc1e7ce8225c7e00b11172c9c3617458fd6d39221617816bcf917aa2fb",
        ),
        (
            Label(Index.CONTENT, tree_root(7), b"\x0f\1"),
            20_000,
            "2658fbdb849c14f85ac9d2dead9c9b45dec7c802a3432f85a2d4b63bb53b51a0",
        ),
        (
            Label(Index.NAMES, tree_root(0)),
            20_000,
            "4059ca868f9889a8250563b7899329909e87626f3a09f4874d5198c963a755da",
        ),
    ],
)
def test_seeds_are_those_of_the_protocol(label: Label, epoch: int, seed: str) -> None:
    assert seed_of(label, epoch).hex() == seed


def test_the_salt_is_the_code_of_the_index() -> None:
    codes = [salt_of(Label(index, b"")) for index in Index]
    assert codes == [b"w", b"p", b"d", b"y", b"z", b"r", b"c", b"n"]


def test_the_epoch_of_a_label_is_that_of_the_protocol() -> None:
    label = Label(Index.WORDS, b"ubuntu")
    turns = next(now for now in range(EPOCH) if epoch_of(label, now) == 1)
    assert turns == 63_161


@given(labels, moments)
def test_an_epoch_lasts_a_day_and_the_one_before_is_read_at_its_start(
    label: Label, now: int
) -> None:
    epoch = epoch_of(label, now)
    assert epoch_of(label, now + EPOCH) == epoch + 1
    in_overlap = epoch_of(label, now - OVERLAP) < epoch
    assert epochs_of(label, now) == ((epoch, epoch - 1) if in_overlap else (epoch,))


@given(labels, labels, moments)
def test_no_two_labels_or_epochs_share_a_seed(one: Label, other: Label, now: int) -> None:
    epoch = epoch_of(one, now)
    assert seed_of(one, epoch) != seed_of(one, epoch + 1)
    assert (one == other) == (seed_of(one, epoch) == seed_of(other, epoch))


def test_a_root_and_digits_do_not_run_into_each_other() -> None:
    one = Label(Index.WORDS, b"a\0", b"\1")
    assert seed_of(one, 1) != seed_of(Label(Index.WORDS, b"a", b"\0\1"), 1)


def test_labels_turn_at_different_times_of_the_day() -> None:
    turned = [epoch_of(Label(Index.WORDS, b"%d" % n), EPOCH // 2) for n in range(1000)]
    assert 400 < sum(turned) < 600


@given(labels)
def test_a_child_knows_its_parent(label: Label) -> None:
    assert label.child(2).parent == label
    assert label.child(2).depth == label.depth + 1
    assert label.top == Label(label.index, label.root)
    assert label.at(b"\1") == Label(label.index, label.root, b"\1")
    assert label.is_deepest == (label.depth == label.index.levels)


def test_a_day_has_one_root() -> None:
    assert day_root(86_400 * 20_000) == day_root(86_400 * 20_001 - 0.5) == (20_000).to_bytes(2)
