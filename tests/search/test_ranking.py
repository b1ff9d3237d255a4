"""What matches, in which order, and the piece that is shown; with a model that judges in another way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.search.language import Element, parse
from agent_messaging.search.ranking import SNIPPET, Judge, Match, Snippet
from agent_messaging.search.words import index_words


def matches(query: str, *texts: str) -> bool:
    return Judge(parse(query)).judge(texts) is not None


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("migration DATABASE", "The Database-Migration."),
        ('"database migration"', "our database migration went well"),
        ("camelcase", "a CamelCase name"),
        ("Camel", "a CamelCase name"),
        ("CamelCase", "a camelcase name"),
        ("snake_case", "a snake_case name"),
        ("case", "a snake_case name"),
        ("example.com", "write to alice@example.com"),
        ("alice@example.com", "write to Alice@Example.com"),
        ("https://example.com/a", "see https://example.com/a?b=c"),
        ("学習", "機械学習は楽しい"),
        ("械", "機械"),
        ("習", "機械学習"),
        ("resume", "my résumé"),
        ("the", "the"),
        ("17", "order17"),
        ("🎉", "done 🎉"),
        ("-draft", "final"),
        ("a OR b -c", "a c"),
    ],
)
def test_what_matches(query: str, text: str) -> None:
    assert matches(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("migration database", "a migration"),
        ('"database migration"', "migration database"),
        ("report -draft", "a draft report"),
        ("学機", "機械学習"),
        ("migr", "migration"),
        ("data*", "a metadata"),
        ("a OR b -c", "b c"),
    ],
)
def test_what_does_not(query: str, text: str) -> None:
    assert not matches(query, text)


def test_a_phrase_does_not_go_over_from_one_string_to_the_next() -> None:
    assert matches("one two", "one", "two")
    assert not matches('"one two"', "one", "two")


def order(query: str, *texts: str) -> list[int]:
    judge = Judge(parse(query))
    found = [judge.judge([text]) for text in texts]
    ranks = judge.rank([match for match in found if match is not None])
    return sorted(range(len(ranks)), key=lambda number: -ranks[number])


def test_more_occurrences_fewer_words_and_rarer_terms_come_first() -> None:
    assert order("tea", "tea with a lot of other words in it", "tea") == [1, 0]
    assert order("tea", "tea and words here", "tea tea words here") == [1, 0]
    assert order("tea OR oolong", "tea now", "tea then", "tea once", "oolong now") == [3, 0, 1, 2]


def test_a_snippet_shows_the_first_hits_marked() -> None:
    text = "x " * 200 + "the Database\nmigration of 学習 " + "y " * 200
    cut = Judge(parse('"database migration" OR 学習 OR absent')).cut(["nothing here", text])
    assert [cut.text[start:end] for start, end in cut.hits] == ["Database", "migration", "学習"]
    assert "the **Database** **migration** of **学習** y" in cut.marked
    assert cut.text.startswith("…")
    assert cut.text.endswith("…")
    assert len(cut.text) == SNIPPET + 2
    assert Judge(parse("-absent")).cut(["short"]).marked == "short"
    assert Judge(parse("-absent")).cut([]).marked == ""


def test_a_word_that_is_longer_than_a_snippet_is_marked_all_the_same() -> None:
    cut = Judge(parse("0123*")).cut(["the digest " + "0123456789" * 30 + " and 0123"])
    assert cut.hits == ((11, SNIPPET),)
    assert cut.marked == "the digest **" + ("0123456789" * 30)[: SNIPPET - 11] + "**…"


WORDS = st.sampled_from(["tea", "teapot", "Oolong", "ärger", "学習", "学", "snake_case", "CamelCase", "at four"])
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.sampled_from(["tea", "tea*", "OOLONG", "arger", "学習", "学", "-tea", '"at four"', "OR"])), TEXTS)
def test_a_simple_model_agrees(pieces: list[str], text: str) -> None:
    query = " ".join([*pieces, "four"])

    def has(piece: str) -> bool:
        word = piece.strip('"').casefold()
        folded = f" {re.sub('[^a-z学習 ]', ' ', text.casefold().replace('ä', 'a'))} "
        if word in ("学", "学習"):
            return word in folded
        return f" {word[:-1]}" in folded if word.endswith("*") else f" {word} " in folded

    groups = [group.split() for group in re.sub('"at four"', "at_four", query).split("OR")]
    groups = [group for group in groups if group]
    expected = any(
        all(not has(one[1:]) if one.startswith("-") else has(one.replace("_", " ")) for one in group)
        for group in groups
    )
    assert matches(query, text) == expected


@given(
    TEXTS,
    st.lists(st.sampled_from(["tea", "-tea", "tea*", "-学", "case", "-camel", '-"at four"', "OR", "x"]), min_size=1),
)
def test_what_matches_is_among_what_an_index_is_asked_for(text: str, pieces: list[str]) -> None:
    try:
        query = parse(" ".join(pieces))
    except ValueError:
        return
    if Judge(query).judge([text]) is None or query.formula is None:
        return
    kept = index_words([text])

    def has(one: Element) -> bool:
        return any(word.startswith(one.word) if one.is_prefix else word == one.word for word in kept)

    formula = query.formula
    assert not any(map(has, formula.without))
    assert not formula.clauses or any(
        all(map(has, one.wanted)) and not any(map(has, one.unwanted)) for one in formula.clauses
    )


@given(st.text(), st.text(max_size=30))
def test_no_text_is_too_strange(text: str, query: str) -> None:
    judge = Judge(parse(f"{query} x*"))
    judge.judge([text, "x"])
    cut = judge.cut([text, "x"])
    assert all(0 <= start < end <= len(cut.text) for start, end in cut.hits)
    assert "\n" not in cut.text


def test_a_query_without_words_cuts_no_text() -> None:
    def texts() -> Iterator[str]:
        yield "tea"
        raise AssertionError("read on")

    judge = Judge(parse("from:alice"))
    assert judge.judge(texts()) == Match((), 0)
    assert judge.cut(texts()) == Snippet("tea", ())
