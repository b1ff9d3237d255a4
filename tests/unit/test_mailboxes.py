"""The gauge of the mailboxes: when it must be asked anew, and that it never reads too low for long."""

from __future__ import annotations

import pytest

from agent_messaging.models import Kind
from agent_messaging.storage.mailboxes import MailboxGauge
from agent_messaging.storage.ports import NewDelivery, NewGroup


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_unknown_mailbox_must_be_counted() -> None:
    gauge = MailboxGauge(Clock())
    assert gauge.must_count("bob", 1000, 1)
    assert gauge.reading("bob") == 0


@pytest.mark.parametrize(("processes", "share"), [(1, 8), (0, 8), (5, 40)])
def test_far_from_its_limit_it_is_counted_again_after_its_share_of_what_was_free(processes: int, share: int) -> None:
    gauge = MailboxGauge(Clock())
    gauge.counted({"bob": 360}, processes)
    for _ in range(640 // share):
        assert not gauge.must_count("bob", 1000, 1)
        gauge.added("bob")
    assert gauge.reading("bob") == 360 + 640 // share
    assert gauge.must_count("bob", 1000, 1)
    gauge.counted({"bob": 100}, processes)
    assert gauge.reading("bob") == 100
    assert not gauge.must_count("bob", 1000, 1)
    assert gauge.must_count("bob", 1000, 900 // share + 1)


def test_a_thousand_processes_that_start_within_a_second_do_not_overrun_a_mailbox() -> None:
    """Each counts when it starts, and then adds what it may; nobody sees what the others have added."""
    stored = 0
    for processes in range(1, 1001):
        gauge = MailboxGauge(Clock())
        gauge.counted({"bob": 0}, processes)
        while not gauge.must_count("bob", 100_000, 1):
            gauge.added("bob")
            stored += 1
    assert 50_000 < stored <= 100_000


def test_a_mailbox_is_counted_for_the_lowest_limit_of_a_call_up_to_the_highest() -> None:
    gauge = MailboxGauge(Clock())
    gauge.counted({"bob": 4, "carol": 4}, 1)
    groups = [_note("bob", 1000), _note("bob", 5), _note("bob", None), _note("carol", 1000), _note("dave", None)]
    assert gauge.list_to_count(groups) == {"bob": 1001}


def _note(recipient: str, limit: int | None) -> NewGroup:
    delivery = NewDelivery("id", recipient)
    return NewGroup(Kind.ONE_WAY, "alice", '""', None, 1, [delivery], 5, 30.0, mailbox_limit=limit)


def test_near_its_limit_every_message_is_counted() -> None:
    gauge = MailboxGauge(Clock())
    for count in (993, 999, 1000, 5000):
        gauge.counted({"bob": count}, 1)
        assert gauge.must_count("bob", 1000, 1)


def test_a_count_holds_for_a_second() -> None:
    clock = Clock()
    gauge = MailboxGauge(clock)
    gauge.counted({"bob": 0}, 1)
    clock.now = 1.0
    assert not gauge.must_count("bob", 1000, 1)
    clock.now = 1.1
    assert gauge.must_count("bob", 1000, 1)


def test_what_was_not_counted_is_not_added_up() -> None:
    gauge = MailboxGauge(Clock())
    gauge.added("bob", 5)
    assert gauge.reading("bob") == 0


def test_old_counts_are_forgotten_when_there_are_many() -> None:
    clock = Clock()
    gauge = MailboxGauge(clock)
    gauge.counted({str(number): 1 for number in range(20_000)}, 1)
    clock.now = 5.0
    gauge.counted({"bob": 1}, 1)
    gauge.counted({"carol": 1}, 1)
    assert gauge.reading("0") == 0
    assert gauge.reading("bob") == 1
