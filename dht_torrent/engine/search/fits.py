"""Whether what was found is what a query asks for. The rule: an entry is passed over only when it
certainly is not; whether it is, says the record it points to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dht_torrent.engine.search.views import SearchQuery
from dht_torrent.search.codes import size_codes
from dht_torrent.search.node import MAX_HIDDEN, Posting, hidden_word, minutes_at
from dht_torrent.search.record import PublisherRecord
from dht_torrent.search.words import query_words, title_words


class Fits:
    """Whether what was found is what a query asks for."""

    def __init__(self, query: SearchQuery) -> None:
        words = query_words(query.text)
        self.start = words[-1] if query.prefix and words else None
        """What a word is to begin with."""
        self.words = words[:-1] if self.start is not None else words
        """Those that are to be there as they are."""
        self.query = query
        self.codes: range | None = None
        """Of sizes; None: any."""
        if query.min_size is not None or query.max_size is not None:
            self.codes = size_codes(query.min_size, query.max_size)
        self._hidden = {word: hidden_word(word) for word in self.words}

    @property
    def is_empty(self) -> bool:
        """It asks for nothing at all."""
        no_word = not self.words and self.start is None
        return no_word and self.codes is None and self.query.since is None

    def may_be(self, posting: Posting) -> bool:
        """False: this is certainly not it. Only the record tells for sure."""
        if self.codes is not None and posting.size_code not in self.codes:
            return False
        since = self.query.since
        if since is not None and posting.minutes < minutes_at(since):
            return False
        shown = set(title_words(posting.preview))
        hidden = posting.hidden
        if len(hidden) < MAX_HIDDEN and not all(
            word in shown or number in hidden for word, number in self._hidden.items()
        ):
            return False
        return self.start is None or bool(hidden) or self._begins(shown)

    def is_one(self, record: PublisherRecord) -> bool:
        """Whether a record's torrent is what is asked for."""
        query = self.query
        if query.min_size is not None and record.size < query.min_size:
            return False
        if query.max_size is not None and record.size > query.max_size:
            return False
        if query.since is not None and record.published < query.since:
            return False
        return self.has_words(record.words)

    def has_words(self, words: Collection[str]) -> bool:
        """Whether these are all that is asked for."""
        return set(self.words).issubset(words) and (self.start is None or self._begins(words))

    def _begins(self, words: Iterable[str]) -> bool:
        assert self.start is not None
        return any(word.startswith(self.start) for word in words)
