"""The tokenizer: the words of a text, as they stand in indexes and as queries ask for them.

A word is a run of letters and digits, folded: compatibility forms, case and accents do not matter. Its parts count as
words too, at its place: `HTTPServer2` is found by `httpserver2`, `http`, `server` and `2`. What stands between words
is nothing, so `snake_case`, `alice@example.com` and a URL are several words in a row, and as a query a phrase.

Scripts that are written without blanks (Chinese, Japanese, Thai, …), and Korean, whose words carry endings, are cut
into overlapping pairs of characters. The last character of a run stands alone, so that one character is found as the
beginning of a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

MAX_WORD = 64
"""Characters of a word that count."""
MAX_CHARACTERS = 100_000
"""Characters of a message that are searched, over all its strings; what is behind them is not found."""

Word = tuple[int, int, str, tuple[str, ...]]
"""Where it begins and ends in its text, the word, and its parts if there are several."""

_PAIRED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x115F),  # Hangul, taken apart
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),  # Hangul
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x20000, 0x3FFFF),
)
"""Characters of which two make a word."""
_BEHIND = ((0x1160, 0x11FF), (0x3099, 0x309A), (0xFF9E, 0xFF9F))
"""Letters and marks of Hangul and Kana that belong to the character before them."""
_PICTURES = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))
"""Symbols that are words by themselves: emoji."""
_SKIN = (0x1F3FB, 0x1F3FF)
_NEWER = "Cn"
"""Characters that the Unicode of this Python does not know. In the ranges above they are taken for what the rest is:
each Python knows others, and all write the same index."""
_WITHIN = re.compile(
    "[\u0300-\u036f"  # accents of Latin, Greek and Cyrillic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"  # Arabic vowels, the long line
    "\u00ad\u180e\u200c-\u200f\u202a-\u202e\u2060-\u206f\u20e3\ufe00-\ufe0f\ufeff\U000e0001-\U000e007f]+"
)
"""What is left out of words. The vowels of other scripts are letters in all but name, and stay."""
_PLAIN = str.maketrans(
    {"\u0131": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)
"""Letters whose accent Unicode does not take apart."""

_ASCII_RUN = re.compile("[A-Za-z0-9]+")
_ASCII_PART = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_RUN = re.compile("[uld][uldm]*|c[cm]*|s")
_PART = re.compile("(?:um*)+(?![lm])|(?:um*)?(?:lm*)+|(?:dm*)+")


class _Sorts(dict[int, str]):
    """The sort of each character, found out when it first occurs.

    u and l are letters, d is a digit, m changes the character before it, c is of a script that is cut into pairs, s is
    a picture, and a blank separates.
    """

    def __missing__(self, code: int) -> str:
        sort = self[code] = _sort(code)
        return sort


def _sort(code: int) -> str:
    category = unicodedata.category(chr(code))
    if _is_in(code, _BEHIND):
        return "m"
    if category == _NEWER:
        category = "Lo" if _is_in(code, _PAIRED) else "So"
    if category[0] in "LMN" and _is_in(code, _PAIRED):
        return "c"
    if category in ("Lu", "Lt"):
        return "u"
    if category[0] == "L" or 0x3200 <= code <= 0x33FF:  # squared and enclosed words, which folding takes apart
        return "l"
    if category[0] == "N":
        return "d"
    if category[0] == "M" or _is_in(code, (_SKIN,)) or (category == "Cf" and code != 0x200B):
        return "m"
    return "s" if category[0] == "S" and _is_in(code, _PICTURES) else " "


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


_SORTS = _Sorts()


def split(text: str) -> list[Word]:
    """Return the words of a text in their order. Their places in the list are what phrases go by."""
    found: list[Word] = []
    if text.isascii():
        for match in _ASCII_RUN.finditer(text):
            run = match[0]
            start, end = match.span()
            if _is_one(run):
                found.append((start, end, run.lower()[:MAX_WORD], ()))
            else:
                parts = _ASCII_PART.findall(run)
                folded = tuple(part.lower()[:MAX_WORD] for part in parts) if len(parts) > 1 else ()
                found.append((start, end, run.lower()[:MAX_WORD], folded))
        return found
    sorts = text.translate(_SORTS)
    for match in _RUN.finditer(sorts):
        start, end = match.span()
        if match[0][0] == "c":
            found += _pairs(text, sorts, start, end)
        else:
            found += _words(text, sorts, start, end)
    return found


def is_half(word: str) -> bool:
    """Whether it is the first half of a pair: one character of a script that is cut into pairs."""
    return len(word) == 1 and _SORTS[ord(word)] == "c"


def _is_one(run: str) -> bool:
    """Whether a run is surely one word without parts."""
    return run.isalpha() and (run.islower() or run.isupper() or run[1:].islower())


def _words(text: str, sorts: str, start: int, end: int) -> Iterator[Word]:
    """The word that a run is; others where folding makes something else of it: of ½ two words, of a square a phrase."""
    run = text[start:end]
    folded = fold(run)
    if not folded.isascii():
        is_word = (again := _RUN.fullmatch(folded.translate(_SORTS))) is not None and again[0][0] != "c"
    else:
        is_word = folded.isalnum()
    if not is_word:
        if folded != run:
            yield from ((start, end, word, parts) for _, _, word, parts in split(folded))
        return
    parts: tuple[str, ...] = ()
    if not _is_one(run):
        pieces = [fold(text[piece.start() : piece.end()]) for piece in _PART.finditer(sorts, start, end)]
        if len(pieces) > 1:
            parts = tuple(piece[:MAX_WORD] for piece in pieces if piece)
    yield start, end, folded[:MAX_WORD], parts


def _pairs(text: str, sorts: str, start: int, end: int) -> list[Word]:
    """Each character of a run with the one behind it; the last alone."""
    run = text[start:end]
    if fold(run) == run:
        pairs = [(start + at, start + at + 2, run[at : at + 2], ()) for at in range(len(run) - 1)]
        return [*pairs, (end - 1, end, run[-1], ())]
    characters: list[tuple[int, int, str]] = []
    place = start
    while place < end:
        behind = place + 1
        while behind < end and sorts[behind] == "m":
            behind += 1
        characters += ((place, behind, one) for one in fold(text[place:behind]))
        place = behind
    ends = [(last, one) for _, last, one in characters[1:]]
    return [
        (first, *((ends[number][0], one + ends[number][1]) if number < len(ends) else (last, one)), ())
        for number, (first, last, one) in enumerate(characters)
    ]


def fold(run: str) -> str:
    """Return a run without what does not matter: case, accents, forms of compatibility."""
    if run.isascii():
        return run.lower()
    folded = _WITHIN.sub("", unicodedata.normalize("NFKD", run)).casefold().translate(_PLAIN)
    return unicodedata.normalize("NFC", _WITHIN.sub("", unicodedata.normalize("NFKD", folded)))


def strings(payload: object) -> Iterator[str]:
    """Return all strings of a payload (plain JSON) in their order, up to `MAX_CHARACTERS`. Keys are not searched."""
    left = MAX_CHARACTERS
    for text in _strings(payload):
        yield text if len(text) <= left else text[:left]
        left -= len(text)
        if left <= 0:
            return


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def index_words(texts: Iterable[str]) -> set[str]:
    """Return what an index keeps of a message: its words and their parts, each once."""
    found: set[str] = set()
    for text in texts:
        for _, _, word, parts in split(text):
            found.add(word)
            found.update(parts)
    return found
