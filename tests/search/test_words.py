"""The tokenizer: what is one word, what are its parts, and what does not matter."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.search.words import MAX_CHARACTERS, MAX_WORD, fold, index_words, split, strings


def words(text: str) -> list[str]:
    return [word for _, _, word, _ in split(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The database, migrated!", ["the", "database", "migrated"]),
        ("snake_case alice@example.com", ["snake", "case", "alice", "example", "com"]),
        ("https://a.example/x?y=1#z", ["https", "a", "example", "x", "y", "1", "z"]),
        ("v1.2.3 don't", ["v1", "2", "3", "don", "t"]),
        ("Ärger naïve Straße STRASSE Łódź", ["arger", "naive", "strasse", "strasse", "lodz"]),
        ("cafe\u0301 ﬁne ½ Ⅳ", ["cafe", "fine", "1", "2", "iv"]),
        ("ΣΊΣΥΦΟΣ Σίσυφος Ёлка", ["σισυφοσ", "σισυφοσ", "елка"]),
        ("مُحَمَّد محمد שָׁלוֹם", ["محمد", "محمد", "שלום"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("機械学習", ["機械", "械学", "学習", "習"]),
        ("株式会社ABC㍿", ["株式", "式会", "会社", "社", "abc", "株式", "式会", "会社", "社"]),
        ("ﾃﾞｰﾀ テ\u3099", ["デー", "ータ", "タ", "デ"]),
        ("한국어 검색", ["한국", "국어", "어", "검색", "색"]),
        ("กินข้าว", ["กิ", "ิน", "นข", "ข้", "้า", "าว", "ว"]),
        ("🎉 👩‍💻👍🏽", ["🎉", "👩", "💻", "👍"]),
        # Pictures and a character of Unicode 15 to 17, of which each Python knows others.
        ("tea\U0001fae8\U0001fae9\U0001f6d8", ["tea", "\U0001fae8", "\U0001fae9", "\U0001f6d8"]),
        ("学\U0002ebf0", ["学\U0002ebf0", "\U0002ebf0"]),
        ("so\u00adft zero\u200bwidth", ["soft", "zero", "width"]),
        ("— … !? \u0301 ", []),
    ],
)
def test_words_are_folded_runs_of_letters_and_digits(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("CamelCase", ("camel", "case")),
        ("HTTPServer2", ("http", "server", "2")),
        ("order17", ("order", "17")),
        ("ÄrgerGröße", ("arger", "grosse")),
        ("Title", ()),
        ("UPPER", ()),
        ("lower", ()),
    ],
)
def test_a_word_has_its_parts_at_its_place(word: str, parts: tuple[str, ...]) -> None:
    assert split(word) == [(0, len(word), fold(word), parts)]


def test_places_are_those_of_the_text() -> None:
    text = "Ein Ärger: 学習 🎉 x"
    assert [text[start:end] for start, end, _, _ in split(text)] == ["Ein", "Ärger", "学習", "習", "🎉", "x"]


def test_all_strings_are_searched_and_no_keys() -> None:
    assert list(strings({"a": "one", "b": ["two", {"c": "three"}, 4, True, None], "d": 5.0})) == ["one", "two", "three"]
    long = [*strings(["x" * (MAX_CHARACTERS - 1), "yz", "never"])]
    assert [len(text) for text in long] == [MAX_CHARACTERS - 1, 1]
    assert index_words(["CamelCase camel"]) == {"camelcase", "camel", "case"}


@given(st.text())
def test_any_text_has_words_that_lie_in_it_in_order(text: str) -> None:
    last = 0
    for start, end, word, parts in split(text):
        assert last <= start < end <= len(text)
        last = start
        for one in (word, *parts):
            assert one
            assert len(one) <= MAX_WORD
            assert all(sign.isprintable() or unicodedata.category(sign) == "Cn" for sign in one)
            assert not set(one) & set("\"'\\ &|!:*()-+^{}")


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs", "P"]), max_size=50))
def test_case_and_form_do_not_matter(text: str) -> None:
    plain = words(text)
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))
    if text.isascii():
        assert words(text.upper()) == words(text.lower()) == plain
