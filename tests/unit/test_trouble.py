"""What is told of a store that fails: once for each outage, whoever finds out, and its end once it is over."""

from __future__ import annotations

import pytest

from agent_messaging import StorageFullError, StorageReplacedError, StorageUnavailableError
from agent_messaging.delivery import trouble
from agent_messaging.delivery.trouble import LONGEST_PAUSE, STEADY, Seldom, Trouble


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(trouble, "time", made)
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split(":")[0].split(";")[0] for record in caplog.records if record.levelno >= 30]


def test_a_full_disk_is_one_outage_though_those_that_read_succeed_all_the_time(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Trouble()
    reads, writes = store.attempts(), store.attempts()
    pauses = []
    for _ in range(200):
        clock.now += 0.1
        pauses.append(writes.failed(StorageFullError()))
        reads.succeeded()
        assert isinstance(store.error, StorageFullError)
    assert lines(caplog) == ["the store failed, trying again"]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    writes.succeeded()
    assert store.error is None
    for _ in range(100):
        clock.now += STEADY / 90
        reads.succeeded()
    assert lines(caplog) == ["the store failed, trying again", "the store answers again"]
    assert writes.failed(StorageFullError()) < 1, "the next outage begins anew"
    assert len(lines(caplog)) == 3


def test_an_outage_that_answers_in_between_with_changing_errors_is_one(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Trouble()
    one, other = store.attempts(), store.attempts()
    for number in range(300):
        clock.now += STEADY / 3
        one.failed(StorageFullError() if number % 2 else StorageUnavailableError())
        one.succeeded()
        other.succeeded()
        store.note(StorageUnavailableError())
    assert set(lines(caplog)) == {"the store failed, trying again"}
    assert 3 < len(lines(caplog)) < 6, "at first, and after pauses that double from a minute"


def test_what_nobody_tries_again_at_once_is_told_and_forgotten(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = Trouble()
    polls = store.attempts()
    store.note(StorageUnavailableError())
    assert store.error is None
    clock.now += STEADY
    polls.succeeded()
    assert lines(caplog) == ["the store failed, trying again", "the store answers again"]


def test_what_cannot_be_mended_is_told_also_within_an_outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = Trouble()
    one, other = store.attempts(), store.attempts()
    one.failed(StorageUnavailableError())
    assert not store.is_final
    for _ in range(10):
        other.failed(StorageReplacedError())
    assert store.is_final
    assert len(lines(caplog)) == 2


def test_what_happens_again_and_again_is_said_seldom_with_how_often(clock: Clock) -> None:
    said = Seldom()
    counts = []
    for _ in range(4 * 3600):
        clock.now += 1.0
        counts.append(said.happened())
    assert counts[0] == 1
    assert len([count for count in counts if count]) < 12
    assert sum(counts) > 3 * 3600
    clock.now += 3601
    assert said.happened() > 0
