"""Words of titles and of queries. The rule: the same text gives the same words in every version of
this program, of Python and of Unicode, for ever; else what one node publishes another cannot find.

So everything is taken from Unicode 3.2, which every Python has (`unicodedata.ucd_3_2_0`), from
properties that Unicode promises never to change, or from the short tables here. There is no
transliteration by a library and no stemming: their tables change.

- Compatibility forms are decomposed (NFKD). Marks that spelling can do without, such as accents,
  points and tones, are dropped; vowel signs, viramas and voicing marks are letters of their scripts
  and stay. What is left is composed again, so that Korean has syllables, and casefolded. A few
  Latin letters that are not decomposed have a spelling in a table, and all decimal digits are 0-9.
- A *run* is what stands between characters that are neither letters, numbers nor such marks.
- A run of a script that is written without spaces gives each character and each pair of neighbours.
  Characters that Unicode 3.2 does not know are treated like that, too. A query asks for the pairs.
- Any other run gives itself, its parts where letters meet digits, if all of them have two
  characters (`ubuntu2204`, `ubuntu`, `2204`, but only `s01e02`) and else those of three letters or
  more (`windows7`, `windows`), and the parts of camel case on the same condition (`libreoffice`,
  `libre`, `office`). A query asks for the parts between letters and digits, but not for those of
  camel case, since titles are often written in small letters.

Whatever `query_words` gives for a text is among its `title_words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Final
from unicodedata import ucd_3_2_0 as unicode

MAX_WORD: Final = 24
"""Bytes of UTF-8 of a word. Longer ones are cut at the end of a character."""
MAX_TEXT: Final = 256
"""Characters of a text that are looked at, as it comes and again when it is decomposed. So a text
has at most twice as many words."""
MAX_QUERY: Final = 16
"""Words of a query; what follows is ignored."""
MIN_PART: Final = 2
"""Characters of every part, or a run is not taken apart."""
MIN_LONE_PART: Final = 3
"""Letters of a part that counts even if another part is too short."""

# Invisible characters that Unicode 3.2 does not know as such: they would separate words.
_LATER_INVISIBLE = re.compile(
    "[\xad\u034f\u0600-\u0605\u061c\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U000e0000-\U000e0fff]"
)
# The marks of a trade would be letters when decomposed.
_SIGNS = {0x2122: " ", 0x2120: " "}
_TATWEEL = "\u0640"
"""Stretches an Arabic word, and is not one of its letters."""
_SPELLINGS = {
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "ħ": "h",
    "ŧ": "t",
    "ı": "i",
}
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Han
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
    "\u3041-\u30ff\u31f0-\u31ff\u3100-\u312f\u31a0-\u31bf]"  # kana, bopomofo
)

# The classes of characters: capital, other letter, digit, of a spaceless script, separator.
_RUN = re.compile("[Uld]+|s+")
_ASCII_RUN = re.compile("[0-9A-Za-z]+")
_NUMBERED = re.compile("d+|[Ul]+")
_CAMEL = re.compile("U+(?!l)|U?l+")


def title_words(text: str) -> tuple[str, ...]:
    """All words under which a title can be found, each once, in the order of the text."""
    return tuple(dict.fromkeys(word for run in title_runs(text) for word in run))


def title_runs(text: str) -> list[tuple[str, ...]]:
    """The words of a title, those of one place in it together: for ranking by order."""
    found: list[tuple[str, ...]] = []
    for run in _runs(text):
        if is_spaceless(run):
            found += [(char, char + after) for char, after in pairwise(run)] + [(run[-1],)]
        else:
            found.append(_forms(run))
    return found


def query_words(text: str) -> tuple[str, ...]:
    """The words a title must have to be found by this text, each once, in its order."""
    words: list[str] = []
    for run in _runs(text):
        if not is_spaceless(run):
            words += _finest(run)
        else:
            words += map("".join, pairwise(run)) if len(run) > 1 else run
    return tuple(dict.fromkeys(words))[:MAX_QUERY]


def is_spaceless(word: str) -> bool:
    """Whether it is of a script without spaces, where one character can be a word."""
    return word != "" and _class(word[0]) == "s"


Part = tuple[str, str]
"""A stretch of the text, and the classes of its characters."""


@lru_cache(maxsize=8192)
def _forms(run: str) -> tuple[str, ...]:
    words = [_word(run)]
    parts = _parts(_NUMBERED, run)
    apart = _apart(parts)
    for part, classes in parts:
        if apart or (classes[0] != "d" and len(part) >= MIN_LONE_PART):
            words.append(_word(part))
            camel = _parts(_CAMEL, part)
            if _apart(camel):
                words += [_word(hump) for hump, _ in camel]
    return tuple(dict.fromkeys(words))


@lru_cache(maxsize=8192)
def _finest(run: str) -> tuple[str, ...]:
    parts = _parts(_NUMBERED, run)
    return tuple(_word(part) for part, _ in parts) if _apart(parts) else (_word(run),)


def _parts(pattern: re.Pattern[str], text: str) -> list[Part]:
    found = pattern.finditer("".join(map(_class, text)))
    return [(text[match.start() : match.end()], match.group()) for match in found]


def _apart(parts: Iterable[Part]) -> bool:
    return all(len(part) >= MIN_PART for part, _ in parts)


def _runs(text: str) -> list[str]:
    plain = _plain(text[:MAX_TEXT])[:MAX_TEXT]
    if plain.isascii():
        return _ASCII_RUN.findall(plain)
    return [run for run, _ in _parts(_RUN, plain)]


def _plain(text: str) -> str:
    """`text` with compatibility forms decomposed and without what words do not have."""
    if text.isascii():
        return text
    text = _LATER_INVISIBLE.sub("", text).translate(_SIGNS)
    plain: list[str] = []
    # What Unicode 3.2 does not know is left alone: whether a later one reorders or composes it
    # depends on the version.
    for known, group in groupby(text, _is_known):
        if known:
            letters = "".join(filter(_stays, unicode.normalize("NFKD", "".join(group))))
            plain += map(_digit, unicode.normalize("NFC", letters))
        else:
            plain += group
    return "".join(plain)


def _word(part: str) -> str:
    folded = part.lower() if part.isascii() else "".join(map(_fold, part))
    if len(folded) * 4 <= MAX_WORD:
        return folded
    return folded.encode()[:MAX_WORD].decode("utf-8", "ignore")


@lru_cache(maxsize=4096)
def _is_known(char: str) -> bool:
    return unicode.category(char) != "Cn"


@lru_cache(maxsize=4096)
def _stays(char: str) -> bool:
    category = unicode.category(char)
    if category in ("Mn", "Mc"):
        # A combining class never changes. 0: vowel signs; 7 to 9: nukta, kana voicing, virama.
        return unicode.combining(char) in (0, 7, 8, 9)
    return category not in ("Me", "Cf") and char != _TATWEEL


@lru_cache(maxsize=4096)
def _digit(char: str) -> str:
    value = unicode.decimal(char, None)
    return char if value is None else str(int(value))


@lru_cache(maxsize=4096)
def _fold(char: str) -> str:
    # Unicode promises never to change how an assigned character is folded. Where the small letter
    # came later than the capital (Georgian), the capital stays.
    folded = char.casefold()
    if not all(map(_is_known, folded)):
        folded = char
    return "".join(_SPELLINGS.get(letter, letter) for letter in folded)


@lru_cache(maxsize=4096)
def _class(char: str) -> str:
    category = unicode.category(char)
    if category == "Cn" or (category[0] in "LNM" and _SPACELESS.match(char)):
        return "s"
    if "0" <= char <= "9":
        return "d"
    if category == "Lu":
        return "U"
    return "l" if category[0] in "LNM" else " "
