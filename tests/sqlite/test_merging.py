"""Rows that say the same of numbers that follow each other go into a statement as one."""

from __future__ import annotations

from agent_messaging.storage.sqlite.rows import merge


def test_alike_rows_that_follow_each_other_are_one() -> None:
    rows = [(3, ("done",)), (4, ("done",)), (5, ("dead", 0)), (7, ("dead", 0)), (8, ("dead", 0)), (6, ("dead", 0))]
    assert merge(rows) == [[3, 4, "done"], [5, 5, "dead", 0], [7, 8, "dead", 0], [6, 6, "dead", 0]]


def test_no_rows_are_none() -> None:
    assert merge([]) == []
