"""Filters of metadata: JSON's types are apart, and a store never passes over what fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging import InvalidArgumentError
from agent_messaging.payloads import encode_metadata
from agent_messaging.search.metadata import make_filter

METADATA = {
    "priority": "high",
    "count": 1,
    "flag": True,
    "none": None,
    "tags": ["a", 1, {"x": None}],
    "order": {"id": 7, "to": {"city": "Köln"}},
    "order.id": "dotted",
    "a__b": "literal",
}


def fits(filter: dict[str, Any], metadata: dict[str, Any] = METADATA) -> bool:
    made = make_filter(filter)
    assert made is not None
    return made.fits(metadata)


@pytest.mark.parametrize(
    "filter",
    [
        {"priority": "high"},
        {"count": 1.0},
        {"flag": True},
        {"none": None},
        {"tags__contains": "a"},
        {"tags__contains": {"x": None}},
        {"order.to.city": "Köln"},
        {"order.id": "dotted"},
        {"order": {"to": {"city": "Köln"}, "id": 7}},
        {"none__exists": True},
        {"absent__exists": False},
        {"priority__in": ["low", "high"]},
        {"a__b": "literal"},
        {"priority": "high", "count": 1},
    ],
)
def test_what_fits(filter: dict[str, Any]) -> None:
    assert fits(filter)


@pytest.mark.parametrize(
    "filter",
    [
        {"priority": "High"},
        {"count": "1"},
        {"count": True},
        {"flag": 1},
        {"flag": "true"},
        {"absent": None},
        {"none": False},
        {"tags__contains": True},
        {"priority__contains": "high"},
        {"none__exists": False},
        {"priority__in": []},
        {"order.id": 7},
        {"priority": "high", "count": 2},
    ],
)
def test_what_does_not(filter: dict[str, Any]) -> None:
    assert not fits(filter)


@pytest.mark.parametrize(
    "given", [[], "priority", {"a__exists": 1}, {"a__in": "high"}, {f"k{n}": n for n in range(33)}]
)
def test_what_is_no_filter_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="metadata_filter"):
        make_filter(given)


def test_nothing_asked_is_no_filter() -> None:
    assert make_filter(None) is make_filter({}) is None


KEYS = st.sampled_from(["a", "b", "a.b", "", "'; drop table messages --", 'q"\\', "ü", "a__in", "$.a", "%_"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False, allow_infinity=False) | KEYS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2))
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_a_store_passes_over_nothing_that_fits(metadata: dict[str, Any], asked: dict[str, Any]) -> None:
    for filter in (metadata, asked):
        try:
            made = make_filter(filter)
        except InvalidArgumentError:  # "a__in" takes a list
            continue
        if made is not None and made.fits(metadata):
            stored = encode_metadata(metadata) or ""
            assert all(needle in stored for needle in made.needles)


@given(MAPPINGS)
def test_metadata_fit_themselves(metadata: dict[str, Any]) -> None:
    plain = {key: value for key, value in metadata.items() if key != "a__in"}
    if plain:
        assert fits(plain, plain)
