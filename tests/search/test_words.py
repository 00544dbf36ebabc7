from __future__ import annotations

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.words import (
    MAX_QUERY,
    MAX_TEXT,
    MAX_WORD,
    is_spaceless,
    query_words,
    title_runs,
    title_words,
)

# Frozen: what one version publishes another must find. Title, its words, the words of the same
# text as a query. Never change a line; add some.
VECTORS = [
    ("", "", ""),
    ("   ", "", ""),
    (
        "Ubuntu 22.04 Desktop (64-bit).iso",
        "ubuntu 22 04 desktop 64 bit iso",
        "ubuntu 22 04 desktop 64 bit iso",
    ),
    ("ubuntu2204", "ubuntu2204 ubuntu 2204", "ubuntu 2204"),
    ("ubuntu-2204", "ubuntu 2204", "ubuntu 2204"),
    ("LibreOffice_7.5", "libreoffice libre office 7 5", "libreoffice 7 5"),
    ("libreoffice", "libreoffice", "libreoffice"),
    ("HTTPServer", "httpserver http server", "httpserver"),
    ("getURLForID", "geturlforid get url for id", "geturlforid"),
    ("iPhone", "iphone", "iphone"),
    ("eBook", "ebook", "ebook"),
    ("McDonald", "mcdonald mc donald", "mcdonald"),
    ("LaTeX", "latex", "latex"),
    ("S01E02", "s01e02", "s01e02"),
    ("s01e02.1080p.x264", "s01e02 1080p x264", "s01e02 1080p x264"),
    ("mp3 mp4 h265", "mp3 mp4 h265", "mp3 mp4 h265"),
    ("Windows7", "windows7 windows", "windows7"),
    ("windows 10", "windows 10", "windows 10"),
    ("PlayStation5Pro", "playstation5pro playstation play station pro", "playstation5pro"),
    ("sha256sum", "sha256sum sha 256 sum", "sha 256 sum"),
    ("2001ASpaceOdyssey", "2001aspaceodyssey 2001 aspaceodyssey", "2001 aspaceodyssey"),
    ("don't stop", "don t stop", "don t stop"),
    ("C++ & C#", "c", "c"),
    ("AT&T", "at t", "at t"),
    ("a_b-c.d", "a b c d", "a b c d"),
    ("foo\u200bbar soft\xadhyphen", "foobar softhyphen", "foobar softhyphen"),
    ("\u202egpj.exe\u2066", "gpj exe", "gpj exe"),
    ("\ufeffbom", "bom", "bom"),
    ("Foo™ Bar® Baz℠", "foo bar baz", "foo bar baz"),
    ("ＦＵＬＬｗｉｄｔｈ１２", "fullwidth12 fullwidth ful lwidth 12", "fullwidth 12"),
    ("ﬁnal ﬂow", "final flow", "final flow"),
    ("Ⅻ ② ½ m²", "xii 2 1 m2", "xii 2 1 m2"),
    ("𝐌𝐚𝐭𝐡 𝔘𝔫𝔦", "math uni", "math uni"),
    ("caf\xe9 cafe\u0301 CAF\xc9", "cafe", "cafe"),
    ("Łódź", "lodz", "lodz"),
    ("straße STRASSE", "strasse", "strasse"),
    ("Œuvre Ærø", "oeuvre aero", "oeuvre aero"),
    ("Þórr", "thorr", "thorr"),
    ("İstanbul ısı", "istanbul isi", "istanbul isi"),
    ("Việt Nam", "viet nam", "viet nam"),
    ("ΣΊΣΥΦΟΣ σίσυφος", "σισυφοσ", "σισυφοσ"),
    ("Война и мир", "воина и мир", "воина и мир"),
    ("ЁЖИК йод", "ежик иод", "ежик иод"),
    ("Ӏ", "Ӏ", "Ӏ"),
    ("Հայաստան", "հայաստան", "հայաստան"),
    ("საქართველო Ⴀ", "საქართვე Ⴀ", "საქართვე Ⴀ"),
    ("ᏣᎳᎩ", "ᏣᎳᎩ", "ᏣᎳᎩ"),
    (
        "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u05e9\u05dc\u05d5\u05dd",
    ),
    (
        "\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f \u0623\u062d\u0645\u062f",
        "\u0645\u062d\u0645\u062f \u0627\u062d\u0645\u062f",
        "\u0645\u062d\u0645\u062f \u0627\u062d\u0645\u062f",
    ),
    (
        "\u0643\u0640\u062a\u0627\u0628 \u0661\u0669\u0668\u0664",
        "\u0643\u062a\u0627\u0628 1984",
        "\u0643\u062a\u0627\u0628 1984",
    ),
    (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06f1\u06f2",
        "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645 12",
        "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645 12",
    ),
    (
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0967\u0968\u0969",
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 123",
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 123",
    ),
    ("বাংলা", "বাংলা", "বাংলা"),
    (
        "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
        "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
        "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
    ),
    (
        "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41",
        "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41",
        "\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41",
    ),
    ("ภาษาไทย", "ภ ภา า าษ ษ ษา าไ ไ ไท ท ทย ย", "ภา าษ ษา าไ ไท ทย"),
    ("ລາວ", "ລ ລາ າ າວ ວ", "ລາ າວ"),
    (
        "\u1019\u103c\u1014\u103a\u1019\u102c",
        "\u1019 \u1019\u103c \u103c \u103c\u1014 \u1014 \u1014\u103a \u103a \u103a\u1019 \u1019\u102c \u102c",  # noqa: E501
        "\u1019\u103c \u103c\u1014 \u1014\u103a \u103a\u1019 \u1019\u102c",
    ),
    (
        "\u1781\u17d2\u1798\u17c2\u179a",
        "\u1781 \u1781\u17d2 \u17d2 \u17d2\u1798 \u1798 \u1798\u17c2 \u17c2 \u17c2\u179a \u179a",
        "\u1781\u17d2 \u17d2\u1798 \u1798\u17c2 \u17c2\u179a",
    ),
    ("한국 영화", "한국 영화", "한국 영화"),
    ("한국", "한국", "한국"),
    ("你好吗", "你 你好 好 好吗 吗", "你好 好吗"),
    ("第3話", "第 3 話", "第 3 話"),
    ("ガンダム ｶﾞﾝﾀﾞﾑ", "ガ ガン ン ンダ ダ ダム ム", "ガン ンダ ダム"),
    (
        "ゼルダの伝説BotW",
        "ゼ ゼル ル ルダ ダ ダの の の伝 伝 伝説 説 botw",
        "ゼル ルダ ダの の伝 伝説 botw",
    ),
    ("東京Tower2020", "東 東京 京 tower2020 tower 2020", "東京 tower 2020"),
    ("𠀀𠀁", "𠀀 𠀀𠀁 𠀁", "𠀀𠀁"),
    ("🎬 film 🎬🎥", "🎬 film 🎬🎥 🎥", "🎬 film 🎬🎥"),
    ("ⵜⵉⴼⵉⵏⴰⵖ", "ⵜ ⵜⵉ ⵉ ⵉⴼ ⴼ ⴼⵉ ⵉⵏ ⵏ ⵏⴰ ⴰ ⴰⵖ ⵖ", "ⵜⵉ ⵉⴼ ⴼⵉ ⵉⵏ ⵏⴰ ⴰⵖ"),
    ("ẞ", "ẞ", "ẞ"),
    ("x", "x", "x"),
    ("7", "7", "7"),
    ("日日日", "日 日日", "日日"),
    (
        "ubuntuubuntuubuntuubuntu2204",
        "ubuntuubuntuubuntuubuntu 2204",
        "ubuntuubuntuubuntuubuntu 2204",
    ),
    ("\ud800broken\udfff", "broken", "broken"),
    ("tab\tnew\nline\x1b[31mred", "tab new line 31mred 31 mred", "tab new line 31 mred"),
]
ALL_CHARACTERS = "eb1c449287119c464e24aa9c4724250c493c76de3814a825d0302eb6fac67f46"

SCRIPTS = [
    *((0, 0x250), (0x250, 0x3000), (0x300, 0x370), (0x1100, 0x1200), (0x1AB0, 0x1B00)),
    *((0x3000, 0x10000), (0x10000, 0x11A00), (0x16D40, 0x16D80), (0x1E000, 0x1E900)),
    (0xAC00, 0xD7FF),
]
DRAWN = "0b4ec4ef8cb2b000f79537f5693b8039da3c23d1a92898741aef0d4a5ed828fe"

TEXTS = st.text(max_size=40) | st.text(
    st.sampled_from("aBcß019 -_.éÉ\u0301\u0323İıǅ日本ガｶﾞ한\u1112\u1161Ⴀ🎬\u05d0\u0e31\u200d²ﬁ™"),
    max_size=40,
)


@pytest.mark.parametrize(("text", "title", "query"), VECTORS)
def test_the_words_of_a_text_are_the_same_for_ever(text: str, title: str, query: str) -> None:
    assert " ".join(title_words(text)) == title
    assert " ".join(query_words(text)) == query


def test_what_each_character_does_to_words_is_the_same_for_ever() -> None:
    # In any version of Python and Unicode: between letters, so that it may join, part or stand.
    digest = hashlib.sha256()
    for code in [*range(0x20000), *range(0xE0000, 0xE1000)]:
        digest.update(" ".join(title_words(f"a{chr(code)}B")).encode() + b"\n")
    assert digest.hexdigest() == ALL_CHARACTERS


def test_drawn_texts_have_the_same_words_for_ever() -> None:
    # Drawn without `random`, from scripts with marks, syllables, and characters that are new.
    state = 12345

    def draw(below: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % below

    digest = hashlib.sha256()
    for _ in range(4000):
        ranges = (SCRIPTS[draw(len(SCRIPTS))] for _ in range(1 + draw(14)))
        text = "".join(chr(first + draw(last - first)) for first, last in ranges)
        digest.update(f"{' '.join(title_words(text))}|{' '.join(query_words(text))}".encode())
    assert digest.hexdigest() == DRAWN


@given(TEXTS)
def test_a_query_finds_the_title_it_was_copied_from(text: str) -> None:
    assert set(query_words(text)) <= set(title_words(text))


@given(TEXTS)
def test_a_word_is_among_its_own_words(text: str) -> None:
    for word in title_words(text):
        assert word in title_words(word)


@given(TEXTS)
def test_words_are_short_and_each_comes_once(text: str) -> None:
    words = title_words(text)
    assert len(set(words)) == len(words) <= 2 * MAX_TEXT
    assert all(0 < len(word.encode()) <= MAX_WORD for word in words)
    assert all(char not in word for word in words for char in " -_.\u200d\u0301")
    assert [word for run in title_runs(text) for word in run if word not in words] == []


@given(st.text(st.sampled_from("abXY019 -éÉñяЙ日ガ한"), max_size=40))
def test_case_width_and_composition_do_not_matter(text: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    decomposed = unicodedata.normalize("NFD", text)
    for form in [text.upper(), text.lower(), wide, decomposed, text.replace("-", "\u202e_\u200b")]:
        assert query_words(form) == query_words(text)
    assert title_words(decomposed) == title_words(wide) == title_words(text)


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_plain_text_has_the_same_words_among_other_scripts(text: str) -> None:
    assert title_words(text + " —") == title_words(text)
    assert query_words(text + " —") == query_words(text)


def test_a_hostile_text_costs_no_more_than_a_long_one() -> None:
    longest = "\ufdfa"  # eighteen characters when decomposed
    for text in ["a b" * 1_000_000, longest * 1_000_000, "日" * 1_000_000, "aB1" * 1_000_000]:
        words = title_words(text)
        assert words == title_words(text[:MAX_TEXT])
        assert len(words) <= 2 * MAX_TEXT
        assert len(title_runs(text)) <= MAX_TEXT


def test_a_long_word_is_cut_at_the_end_of_a_character() -> None:
    assert title_words("a" * 30) == ("a" * 24,)
    assert title_words("א" * 30) == ("א" * 12,)
    assert title_words("x" + "א" * 30) == ("x" + "א" * 11,)
    assert title_words("한" * 9) == ("한" * 8,)


def test_a_query_has_a_bounded_number_of_words() -> None:
    words = [f"w{n}w" for n in range(MAX_QUERY)]
    assert query_words(" ".join([*words, "more"])) == tuple(words)
    assert query_words(" ".join([words[0]] * 9 + words)) == tuple(words)


def test_both_spellings_of_a_name_with_a_number_meet() -> None:
    for query in ["ubuntu 2204", "ubuntu2204", "Ubuntu-2204", "UBUNTU"]:
        for title in ["ubuntu2204", "Ubuntu 2204"]:
            assert set(query_words(query)) <= set(title_words(title))


def test_letters_that_look_alike_are_not_the_same_word() -> None:
    cyrillic = "u\u0430buntu"
    assert not set(query_words("uabuntu")) & set(title_words(cyrillic))


def test_a_script_without_spaces_is_known_by_its_characters() -> None:
    assert all(map(is_spaceless, "日ガก🎬"))
    assert not any(map(is_spaceless, ["a", "1", "한", "я", ""]))
