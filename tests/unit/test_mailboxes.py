"""The gauge of the mailboxes: when it must be asked anew, and that it never reads too low for long."""

from __future__ import annotations

from agent_messaging.storage.mailboxes import MailboxGauge


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_unknown_mailbox_must_be_counted() -> None:
    gauge = MailboxGauge(Clock())
    assert gauge.must_count("bob", 1000, 1)
    assert gauge.reading("bob") == 0


def test_far_from_its_limit_it_is_counted_again_after_a_64th_of_what_was_free() -> None:
    gauge = MailboxGauge(Clock())
    gauge.counted({"bob": 360})
    for _ in range(10):
        assert not gauge.must_count("bob", 1000, 1)
        gauge.added("bob")
    assert gauge.reading("bob") == 370
    assert gauge.must_count("bob", 1000, 1)
    gauge.counted({"bob": 100})
    assert gauge.reading("bob") == 100
    assert not gauge.must_count("bob", 1000, 1)
    assert gauge.must_count("bob", 1000, 20)


def test_near_its_limit_every_message_is_counted() -> None:
    gauge = MailboxGauge(Clock())
    for count in (937, 999, 1000, 5000):
        gauge.counted({"bob": count})
        assert gauge.must_count("bob", 1000, 1)


def test_a_count_holds_for_a_second() -> None:
    clock = Clock()
    gauge = MailboxGauge(clock)
    gauge.counted({"bob": 0})
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
    gauge.counted({str(number): 1 for number in range(20_000)})
    clock.now = 5.0
    gauge.counted({"bob": 1})
    gauge.counted({"carol": 1})
    assert gauge.reading("0") == 0
    assert gauge.reading("bob") == 1
