"""The language of queries. Every text is a query; the only one that is refused names nothing.

`database migration` has both words, `"database migration"` in a row, `postgres OR sqlite` one of them at least,
`-draft` not that one, and `migrat*` begins so. Words bind more tightly than OR. `from:alice` and `to:"Bob B"` hold for
the whole query. What is no word separates words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

from ..exceptions import InvalidArgumentError
from ..records import dataclass
from .words import is_half, split

MAX_QUERY = 1_000
"""Characters of a query that is accepted."""
_MOST_IN_INDEX = 16
"""Words of an alternative for which an index is asked. More would hardly leave out more."""

_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\uff02": '"'})
_PIECE = re.compile(r'(?P<minus>-)?(?:(?P<field>from|to):)?(?:"(?P<quoted>[^"]*)(?:"|$)|(?P<word>[^\s"]+))')


@dataclass(frozen=True, slots=True)
class Element:
    """A word of a term."""

    word: str
    is_prefix: bool = False
    """Words that begin so."""


@dataclass(frozen=True, slots=True)
class Term:
    """One word, or several that stand in a row: each with its distance from the first."""

    elements: tuple[tuple[int, Element], ...]

    @property
    def for_index(self) -> list[Element]:
        """Its whole words; beginnings, of which an index reads many words, only if it has no other."""
        elements = [element for _, element in self.elements]
        return [element for element in elements if not element.is_prefix] or elements

    @property
    def is_one_word(self) -> bool:
        """Whether a text has it if it has the word: then an index alone says so."""
        return len(self.elements) == 1


@dataclass(frozen=True, slots=True)
class Alternative:
    """What stands between two ORs: a text matches if it has all terms that are wanted and none that is not."""

    wanted: tuple[Term, ...] = ()
    unwanted: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Clause:
    """Messages that have all of some words, and none of others."""

    wanted: tuple[Element, ...]
    """One at least."""
    unwanted: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class Formula:
    """For an index, which knows words and no places. Among the messages that it describes are all that match."""

    clauses: tuple[Clause, ...] = ()
    """The messages of each of these."""
    without: tuple[Element, ...] = ()
    """Where there are no clauses: all messages but those that have one of these words."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query. External ids are as they were written, composed (NFC); there may be no such agents."""

    alternatives: tuple[Alternative, ...]
    """One at least."""
    senders: tuple[str, ...] = ()
    """One of these sent it; empty is any."""
    recipients: tuple[str, ...] = ()
    other_senders: tuple[str, ...] = ()
    """None of these sent it."""
    other_recipients: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[Term]:
        """The terms by which a match is ranked and marked, each once."""
        return list(dict.fromkeys(term for one in self.alternatives for term in one.wanted))

    @property
    def terms(self) -> list[Term]:
        """All terms, each once."""
        return list(dict.fromkeys([*self.wanted, *(term for one in self.alternatives for term in one.unwanted)]))

    @property
    def formula(self) -> Formula | None:
        """What an index is asked for; None where it can leave nothing out.

        Of what must not occur an index knows the single words. Where an alternative asks for no word at all, it can
        leave out the words that no alternative lets occur.
        """
        unwanted = [_choose(term.for_index for term in one.unwanted if term.is_one_word) for one in self.alternatives]
        if all(one.wanted for one in self.alternatives):
            return Formula(
                tuple(
                    Clause(_choose(term.for_index for term in one.wanted), words)
                    for one, words in zip(self.alternatives, unwanted, strict=True)
                )
            )
        first, *others = unwanted
        without = tuple(word for word in first if all(word in words for words in others))
        return Formula(without=without) if without else None


def _choose(terms: Iterable[Sequence[Element]]) -> tuple[Element, ...]:
    """The words for which an index is asked, each once."""
    return tuple(dict.fromkeys(element for words in terms for element in words))[:_MOST_IN_INDEX]


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        InvalidArgumentError: It names nothing to look for, or is longer than 1,000 characters; a `ValueError`.
    """
    if not isinstance(text, str):
        raise InvalidArgumentError(field="search_query", value=None, reason="is not text. Pass the words to look for.")
    if len(text) > MAX_QUERY:
        raise InvalidArgumentError(
            field="search_query",
            value=f"{text[:60]}…",
            reason=f"has {len(text):,} characters. At most {MAX_QUERY:,} are accepted; name fewer words.",
        )
    agents: dict[tuple[str, bool], list[str]] = {}
    wanted: list[Term] = []
    unwanted: list[Term] = []
    alternatives: list[Alternative] = []

    def end_alternative() -> None:
        if wanted or unwanted:
            alternatives.append(Alternative(tuple(wanted), tuple(unwanted)))
        wanted.clear()
        unwanted.clear()

    for piece in _PIECE.finditer(text.translate(_QUOTES)):
        is_unwanted = piece["minus"] is not None
        if piece["field"] is not None:
            name = normalize("NFC", (piece["quoted"] or piece["word"] or "").strip())  # as external ids are
            if name:
                agents.setdefault((piece["field"], is_unwanted), []).append(name)
        elif piece[0] == "OR":
            end_alternative()
        elif piece[0] != "AND" and (term := _make_term(piece["quoted"], piece["word"])) is not None:
            (unwanted if is_unwanted else wanted).append(term)
    end_alternative()
    if not alternatives and not agents:
        raise InvalidArgumentError(
            field="search_query",
            value=text[:60],
            reason='names nothing to look for. Pass a word, a "phrase in quotes", or from:agent.',
        )

    def named(field: str, is_unwanted: bool) -> tuple[str, ...]:
        return tuple(dict.fromkeys(agents.get((field, is_unwanted), ())))

    return Query(
        tuple(alternatives) or (Alternative(),),
        senders=named("from", False),
        recipients=named("to", False),
        other_senders=named("from", True),
        other_recipients=named("to", True),
    )


def _make_term(quoted: str | None, word: str | None) -> Term | None:
    """The term that a piece of a query is; None if it is no word."""
    words = split((quoted if word is None else word) or "")
    begins = word is not None and word.endswith("*")
    elements = tuple(
        (place, Element(token, is_half(token) or (begins and place == len(words) - 1)))
        for place, (_, _, token, _) in enumerate(words)
    )
    return Term(elements) if elements else None
