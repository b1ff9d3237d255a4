"""Searching, on every backend."""

from tests.conformance import SearchConformance


class TestSearch(SearchConformance):
    """Every verb of `SearchStore`."""
