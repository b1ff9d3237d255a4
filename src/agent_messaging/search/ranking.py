"""Whether a message matches a query, how well, and where: judged from its text alone, the same for every store.

Matches are ranked by BM25 (k1 1.2, b 0.75), with what it asks of the corpus taken from the matches: how many there
are, how many of them have a term, and how long they are on average. So a rank does not depend on what an index has
taken in yet, nor on messages that the caller does not see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..records import dataclass
from .language import Element, Query, Term
from .words import Word, split

SNIPPET = 200
"""Characters of a snippet, without its marks."""
_BEFORE = 60
"""Characters before the first hit that a snippet shows."""
_K1, _B = 1.2, 0.75
_BLANKS = dict.fromkeys(map(ord, "\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")
"""A snippet is one line."""
_GAP = 1
"""Places between two strings of a payload, so that no phrase goes from one to the other."""


@dataclass(frozen=True, slots=True)
class Match:
    """A message that matches."""

    counts: tuple[int, ...]
    """How often each wanted term of the query occurs in it."""
    length: int
    """Its words."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a text."""

    text: str
    hits: tuple[tuple[int, int], ...]
    """Where the words are that match: the begin and the end of each."""

    @property
    def marked(self) -> str:
        """The text with `**` around each hit."""
        pieces, place = [], 0
        for start, end in self.hits:
            pieces += [self.text[place:start], "**", self.text[start:end], "**"]
            place = end
        return "".join([*pieces, self.text[place:]])


class Judge:
    """Judges messages by one query."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self._terms = query.terms
        self._ranked = query.wanted
        elements = {element for term in self._terms for _, element in term.elements}
        self._words = {element.word: element for element in elements if not element.is_prefix}
        self._prefixes = [element for element in elements if element.is_prefix]
        self._beginnings = tuple(element.word for element in self._prefixes)

    def judge(self, texts: Iterable[str]) -> Match | None:
        """How a message matches, by its strings; None if it does not."""
        if not self._terms:  # every message does, equally well, and none is cut into words
            return Match((), 0)
        places, length = self._places(texts)
        found = {term: len(_occurrences(term, places)) for term in self._terms}
        for one in self.query.alternatives:
            if all(found[term] for term in one.wanted) and not any(found[term] for term in one.unwanted):
                return Match(tuple(found[term] for term in self._ranked), length)
        return None

    def _places(self, texts: Iterable[str]) -> tuple[dict[Element, set[int]], int]:
        """Where the words of the query are, and how many words there are."""
        places: dict[Element, set[int]] = {}
        place = length = 0
        for text in texts:
            words = split(text)
            self._mark(words, place, places)
            place += len(words) + _GAP
            length += len(words)
        return places, length

    def _mark(self, found: Sequence[Word], place: int, places: dict[Element, set[int]]) -> None:
        """Add where the words of the query are in a string that begins at a place."""
        words, beginnings = self._words, self._beginnings
        for at, (_, _, whole, parts) in enumerate(found, place):
            for word in (whole, *parts):
                if word in words:
                    places.setdefault(words[word], set()).add(at)
                if beginnings and word.startswith(beginnings):
                    for prefix in self._prefixes:
                        if word.startswith(prefix.word):
                            places.setdefault(prefix, set()).add(at)

    def rank(self, matches: Sequence[Match]) -> list[float]:
        """The rank of each of these, which are ranked together; more is better."""
        if not matches:
            return []
        number = len(matches)
        mean = sum(match.length for match in matches) / number or 1.0
        rarity = [
            1.0 + math.log((number + 1) / (sum(1 for match in matches if match.counts[term]) + 0.5))
            for term in range(len(self._ranked))
        ]
        return [_score(match, rarity, mean) for match in matches]

    def cut(self, texts: Iterable[str]) -> Snippet:
        """The piece of a message in which the most of its first hits are; its beginning, if it has none."""
        if not self._ranked:
            return _cut(next(iter(texts), ""), [])
        first = ""
        for number, text in enumerate(texts):
            first = first if number else text
            words, places = split(text), dict[Element, set[int]]()
            self._mark(words, 0, places)
            hits = {
                start + distance
                for term in self._ranked
                for start in _occurrences(term, places)
                for distance, _ in term.elements
            }
            if hits:
                return _cut(text, [words[at][:2] for at in sorted(hits)])
        return _cut(first, [])


def _occurrences(term: Term, places: Mapping[Element, set[int]]) -> set[int]:
    """Where a term begins."""
    first, *rest = term.elements
    begins = places.get(first[1], set())
    for distance, element in rest:
        if not begins:
            break
        found = places.get(element, set())
        begins = {begin for begin in begins if begin + distance in found}
    return begins


def _score(match: Match, rarity: Sequence[float], mean: float) -> float:
    norm = _K1 * (1 - _B + _B * match.length / mean)
    return round(
        sum(rare * count * (_K1 + 1) / (count + norm) for rare, count in zip(rarity, match.counts, strict=True)), 6
    )


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> Snippet:
    begin = max(spans[0][0] - _BEFORE, 0) if spans else 0
    end = min(begin + SNIPPET, len(text))
    before, after = "…" if begin else "", "…" if end < len(text) else ""
    piece = before + text[begin:end].translate(_BLANKS) + after
    shift = len(before) - begin
    hits: list[tuple[int, int]] = []
    for start, last in spans:
        if last > end and hits:
            break
        stop = min(last, end)  # the first one is marked however long it is
        if hits and start + shift <= hits[-1][1]:
            hits[-1] = (hits[-1][0], max(stop + shift, hits[-1][1]))
        else:
            hits.append((start + shift, stop + shift))
    return Snippet(piece, tuple(hits))
