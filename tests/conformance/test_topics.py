"""Topics, on every backend."""

from tests.conformance import TopicConformance


class TestTopics(TopicConformance):
    """Every verb of `TopicStore`, and what is published."""
