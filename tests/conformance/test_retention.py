"""Retention, on every backend."""

from tests.conformance import RetentionConformance


class TestRetention(RetentionConformance):
    """Every verb of `RetentionStore`."""
