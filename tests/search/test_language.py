"""The language of queries: every text is one, and only what names nothing is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging import InvalidArgumentError
from agent_messaging.search.language import MAX_QUERY, Element, Query, Term, parse


def spell(term: Term) -> str:
    return " ".join(element.word + "*" * element.is_prefix for _, element in term.elements)


def spelled(query: Query) -> list[tuple[list[str], list[str]]]:
    return [([*map(spell, one.wanted)], [*map(spell, one.unwanted)]) for one in query.alternatives]


@pytest.mark.parametrize(
    ("text", "alternatives"),
    [
        ("database migration", [(["database", "migration"], [])]),
        ("database AND migration", [(["database", "migration"], [])]),
        ('"database  migration!"', [(["database migration"], [])]),
        ("“smart quotes”", [(["smart quotes"], [])]),
        ("one two OR three", [(["one", "two"], []), (["three"], [])]),
        ("OR one OR OR two OR", [(["one"], []), (["two"], [])]),
        ("or and not", [(["or", "and", "not"], [])]),
        ('Report -draft -"not this"', [(["report"], ["draft", "not this"])]),
        ("-draft", [([], ["draft"])]),
        ("migrat* snake_ca* *", [(["migrat*", "snake ca*"], [])]),
        ('"no prefix*"', [(["no prefix"], [])]),
        ("alice@example.com", [(["alice example com"], [])]),
        ("HTTPServer", [(["httpserver"], [])]),
        ("機械学習 猫", [(["機械 械学 学習 習*", "猫*"], [])]),
        ('"open end', [(["open end"], [])]),
        ("from: -", [(["from"], [])]),
        ("a(b)c' | & ! : \\", [(["a b c"], [])]),
    ],
)
def test_what_a_query_asks(text: str, alternatives: list[tuple[list[str], list[str]]]) -> None:
    assert spelled(parse(text)) == alternatives


def test_agents_hold_for_the_whole_query() -> None:
    query = parse('a OR b from:alice from:carol to:"Bob B" -from:dave -to:eve')
    assert spelled(query) == [(["a"], []), (["b"], [])]
    assert (query.senders, query.recipients) == (("alice", "carol"), ("Bob B",))
    assert (query.other_senders, query.other_recipients) == (("dave",), ("eve",))
    assert spelled(parse("from:alice")) == [([], [])]


def test_an_index_is_asked_for_whole_words_and_never_for_too_little() -> None:
    def words(elements: tuple[Element, ...]) -> str:
        return " ".join(one.word + "*" * one.is_prefix for one in elements)

    def asked(text: str) -> list[str] | None:
        formula = parse(text).formula
        if formula is None:
            return None
        found = [" -".join(filter(None, (words(one.wanted), words(one.unwanted)))) for one in formula.clauses]
        return found or [f"-{words(formula.without)}"]

    assert asked('one "two three" OR four* -five') == ["one two three", "four* -five"]
    assert asked('one -"two three" -four -fi*') == ["one -four fi*"]
    assert asked("機械学習 -学") == ["機械 械学 学習 -学*"]
    assert asked("one OR -two") is None
    assert asked('-one -"two three" -four* OR -one -four -four*') == ["-one four*"]
    assert asked('-"one two"') is None
    assert asked("from:alice") is None
    assert asked("from:alice -one") == ["-one"]
    assert len((asked(" ".join(f"w{n}" for n in range(50))) or [""])[0].split()) == 16
    assert len((asked(" ".join(f"-w{n}" for n in range(50))) or [""])[0].split()) == 16


@pytest.mark.parametrize("text", ["", "  ", '""', "-", "OR", "*", "!?", 'from:""', "\u0301", "x" * (MAX_QUERY + 1)])
def test_a_query_that_names_nothing_is_a_value_error_that_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"search_query.*(Pass a word|name fewer)"):
        parse(text)


@given(st.text(max_size=80) | st.text('abÄ学 "-*OR:fromt', max_size=80))
def test_nothing_else_is_refused(text: str) -> None:
    try:
        query = parse(text)
    except InvalidArgumentError:
        return
    assert query.alternatives
