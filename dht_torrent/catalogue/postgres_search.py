"""A search in the PostgreSQL catalogue: the same torrents in the same order as in SQLite's.

The rule: no part of a query is ever part of a statement. The words go into the full-text query as
quoted lexemes, which is bound as a value.

The order is BM25 as FTS5 computes it: how rare a word is (of all torrents, from the table
`lexeme`), how often the torrent has it (in its title, weighted, and elsewhere), and how long it is.
How many torrents have a word of some beginning is counted up to a bound where it matters, beside
other words; else it is the sum over these words, so that a torrent with two of them counts twice.

Of very many matches the newest are ranked. As an index of words has no order, these are read in
runs, by the marks that the index has for them, newest first: so many runs as should have enough.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from dht_torrent.catalogue.entries import CatalogueQuery
from dht_torrent.catalogue.postgres_schema import MARK, RUNS, Connection
from dht_torrent.catalogue.rows import limits
from dht_torrent.config import CatalogueConfig

TITLE_WEIGHT: Final = 4.0
"""A word in the title counts as much as four in the names of files and in tags."""
_K1: Final = 1.2
_B: Final = 0.75
"""FTS5's constants of BM25."""
_COMMON: Final = 1e-6
"""FTS5's weight of a word that more than half of all torrents have."""
_COUNTED: Final = 2000
"""Torrents with a word of some beginning that are counted exactly, in a few milliseconds."""
_MARGIN: Final = 1.1
"""So many more than are wanted are expected in the runs that are read first."""
_WHOLE: Final = 1.3
"""If all rows are less than so many times those wanted, they are all read."""
_MOST_MARKS: Final = 9
"""In one query."""


class Word(NamedTuple):
    text: str
    prefix: bool
    hits: int
    """Torrents that have it, about."""

    @property
    def lexeme(self) -> str:
        """As the text of a full-text query."""
        doubled = self.text.replace(MARK, MARK * 2).replace("\\", "\\\\").replace("'", "''")
        return f"'{doubled}'" + (":*" if self.prefix else "")

    @property
    def counted(self) -> str:
        """What each of it has in words with two spaces between them and around them."""
        return f" {self.text}" if self.prefix else f" {self.text} "


def best(
    db: Connection, words: Sequence[str], query: CatalogueQuery, limit: int, config: CatalogueConfig
) -> list[tuple[int, float]]:
    """The numbers of the best torrents that have all words, and how well they match."""
    asked = [
        _word(db, word, query.prefix and place == len(words) - 1, alone=len(words) == 1)
        for place, word in enumerate(words)
    ]
    rarest = min(word.hits for word in asked)
    if rarest == 0:
        return []
    torrents, tokens, last = db.execute("SELECT torrents, tokens, last FROM total").fetchone()
    score, values = _score(asked, torrents, max(1, tokens))
    where, bounds = limits(query, "%s")
    text = " & ".join(dict.fromkeys(word.lexeme for word in asked))
    looked_at = config.max_looked_at if where else config.max_ranked
    found: list[tuple[float, int]] = []
    ranked, end = config.max_ranked, last + 1
    # If words had nothing to do with each other, so many of the rows would match.
    share = math.prod(word.hits / torrents for word in set(asked)) * torrents / end
    fitting = "(SELECT * FROM looked)"
    if where:
        fitting = "MATERIALIZED (SELECT * FROM looked WHERE fits ORDER BY id DESC LIMIT %s)"
    while ranked > 0 and looked_at > 0 and end > 0:
        wanted = looked_at if where else ranked
        begin, marks = newest(end, _MARGIN * wanted / share, rarest)
        marked = f"({text}) & ({'|'.join(marks)})" if marks else text
        # In an order that no index of rows has: the planner cannot know how rare a word is.
        statement = f"""WITH looked AS MATERIALIZED (
                SELECT id, words, more, tokens, {where or "true"} AS fits FROM torrent t
                WHERE lexemes(words, more, id) @@ %s::tsquery AND id + 0 >= %s AND id + 0 < %s
                ORDER BY id + 0 DESC LIMIT %s),
            fitting AS {fitting},
            scored AS (SELECT id, {score} AS score FROM (
                    SELECT id, tokens, ' ' || replace(words, ' ', '  ') || ' ' AS words,
                    CASE more WHEN '' THEN '' ELSE ' ' || replace(more, ' ', '  ') || ' ' END
                    AS more
                    FROM fitting OFFSET 0) spaced
                ORDER BY score DESC, id DESC LIMIT %s)
            SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM fitting),
                array(SELECT id FROM scored ORDER BY score DESC, id DESC),
                array(SELECT score FROM scored ORDER BY score DESC, id DESC)"""  # noqa: S608
        looked, came, ids, scores = db.execute(
            statement,
            (
                *(*bounds, marked, begin, end, min(looked_at, wanted)),
                *([ranked] if where else []),
                *(*values, limit),
            ),
        ).fetchone()
        found += zip(scores, ids, strict=True)
        ranked -= came
        looked_at -= looked
        # What remains is as dense as this was, and a good deal is read of what has nothing.
        share = max(looked / (end - begin), share / 8)
        end = begin
    return [(number, score) for score, number in heapq.nlargest(limit, found)]


def newest(end: int, rows: float, rarest: int) -> tuple[int, list[str]]:
    """Where the last `rows` rows before `end` begin, about, and the marks of runs that have them
    all, and perhaps more; none if all rows should be read.

    The index goes through the rarest of what it is asked for, a word or a mark, and looks for the
    others: marks of runs that are larger than all matches cost it nothing, and where the matches
    are more than these rows, a few smaller ones do best."""
    if rows * _WHOLE > end:
        return 0, []
    for kind, bits in RUNS.items():
        first, last = (end - math.ceil(rows)) >> bits, (end - 1) >> bits
        few = last - first < _MOST_MARKS
        if first > 0 and few and (rows < rarest or 1 << bits > rarest):
            return first << bits, [f"'{MARK}{kind}{run}'" for run in range(first, last + 1)]
    return 0, []


def _word(db: Connection, text: str, prefix: bool, alone: bool) -> Word:
    """How many torrents have it. What is asked for alone is as rare in all that is found."""
    stored = text.replace(MARK, MARK * 2)
    if not prefix:
        row = db.execute("SELECT torrents FROM lexeme WHERE word = %s", (stored,)).fetchone()
        return Word(text, prefix, row[0] if row else 0)
    one = Word(text, prefix, 0)
    kinds, hits, most = db.execute(
        """SELECT count(*), coalesce(sum(l.torrents), 0), (SELECT torrents FROM total)
            FROM lexeme l WHERE word >= %s AND (word < %s OR %s)""",
        (stored, *_after(stored)),
    ).fetchone()
    if kinds > 1 and hits <= _COUNTED and not alone:
        (hits,) = db.execute(
            "SELECT count(*) FROM torrent WHERE lexemes(words, more, id) @@ %s::tsquery",
            (one.lexeme,),
        ).fetchone()
    return one._replace(hits=min(int(hits), most))


def _after(text: str) -> tuple[str, bool]:
    """The first text, by code points, that is behind all which begin so; or that there is none."""
    while text:
        last = ord(text[-1])
        if last < 0x10FFFF:
            return text[:-1] + chr(0xE000 if last == 0xD7FF else last + 1), False
        text = text[:-1]
    return "", True


def _score(words: Sequence[Word], torrents: int, tokens: int) -> tuple[str, list[Any]]:
    """BM25 as SQL, and what is bound in it."""
    parts: list[str] = []
    values: list[Any] = []
    mean = tokens / max(1, torrents)
    for word in words:
        rarity = math.log((torrents - word.hits + 0.5) / (word.hits + 0.5))
        rarity = rarity if rarity > 0 else _COMMON
        # r * f / (f + k), where f, how often it has the word, is in it once, and never zero.
        parts.append(
            f"""%s::float8 / (1 + %s::float8 * ({1 - _B} + tokens * %s::float8)
                / ({TITLE_WEIGHT} * (octet_length(words) - octet_length(replace(words, %s, '')))
                    + octet_length(more) - octet_length(replace(more, %s, ''))))"""
        )
        length = len(word.counted.encode())
        values += [rarity * (_K1 + 1), _K1 * length, _B / mean, word.counted, word.counted]
    return " + ".join(parts), values
