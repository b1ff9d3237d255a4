"""Histories: written by processes that may die at any moment, read whole."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import exceptions
from agent_messaging.ids import uuid7
from agent_messaging.models import DeliveryState, Kind, Receipt
from agent_messaging.storage import ports
from agent_messaging.storage.topics import SPARE_BITS
from agent_messaging.testing.checker import check
from agent_messaging.testing.history import (
    Event,
    History,
    hash_body,
    is_refusal,
    known_ids,
    read_events,
    record_final,
)
from agent_messaging.testing.recording import RecordingDeliveries, RecordingStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.jsonl", "me") as history:
        yield history


def written(history: History) -> list[dict[str, Any]]:
    """What it holds, without the times."""
    return [{name: value for name, value in event.items() if name != "t"} for event in read_events(history.path)]


def raise_after(act: Callable[..., object], *args: object) -> None:
    act(*args)
    raise RuntimeError


class TestWriting:
    def test_an_event_is_on_disk_when_record_returns(self, history: History) -> None:
        history.record("start", serves=["bob"], pid=None)
        event = json.loads(history.path.read_text())
        assert event.pop("t") > 0
        assert event == {"p": "me", "e": "start", "serves": ["bob"]}

    def test_processes_share_a_file(self, history: History) -> None:
        program = (
            "import sys; from agent_messaging.testing.history import History\n"
            "history = History(sys.argv[1], sys.argv[2])\n"
            "for n in range(2000): history.record('tick', n=n, filler='x' * (n % 100))\n"
        )
        writers = [
            subprocess.Popen([sys.executable, "-c", program, str(history.path), f"writer-{number}"])
            for number in range(3)
        ]
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
        events = read_events(history.path)
        for number in range(3):
            own = [event["n"] for event in events if event["p"] == f"writer-{number}"]
            assert own == list(range(2000))
        assert len(events) == 6000

    def test_an_accepted_call(self, history: History) -> None:
        with history.sending("alice", ["bob"], {"value": "v"}, value="v", org="acme", expect="dead") as call:
            call.accept(["m1"])
        tried, accepted = written(history)
        assert tried == {
            "p": "me",
            "e": "send.try",
            "n": 1,
            "instance": "me",
            "value": "v",
            "sender": "alice",
            "to": ["bob"],
            "kind": "one_way",
            "hash": hash_body({"value": "v"}),
            "org": "acme",
            "expect": "dead",
        }
        assert accepted == {"p": "me", "e": "send.ok", "n": 1, "instance": "me", "value": "v", "ids": ["m1"]}

    def test_calls_are_numbered_in_the_order_in_which_they_are_made(self, history: History) -> None:
        calls = [history.sending("alice", ["bob"], {}, value=f"v{n}") for n in range(3)]
        for call in reversed(calls):
            call.accept(["m"])
        assert [(e["e"], e["n"]) for e in written(history)] == [
            ("send.try", 1),
            ("send.try", 2),
            ("send.try", 3),
            ("send.ok", 3),
            ("send.ok", 2),
            ("send.ok", 1),
        ]

    @pytest.mark.parametrize(
        ("error", "event", "code"),
        [
            (exceptions.MailboxFullError(), "send.no", "mailbox_full"),
            (exceptions.StorageBusyError(), "send.no", "storage_busy"),
            (exceptions.OutcomeUnknownError(), "send.unknown", "outcome_unknown"),
            (exceptions.DatabaseError(), "send.unknown", "database"),
            (asyncio.CancelledError(), "send.unknown", "CancelledError"),
            (ConnectionError(), "send.unknown", "ConnectionError"),
        ],
    )
    def test_a_call_that_raised(self, history: History, error: BaseException, event: str, code: str) -> None:
        with pytest.raises(type(error)), history.sending("alice", ["bob"], {}, value="v"):
            raise error
        outcome = written(history)[-1]
        assert (outcome["e"], outcome["code"]) == (event, code)
        assert is_refusal(error) == (event == "send.no")

    def test_a_call_accepted_before_its_block_failed_stays_accepted(self, history: History) -> None:
        call = history.sending("alice", ["bob"], {}, value="v")
        with pytest.raises(RuntimeError), call:
            raise_after(call.accept, ["m1"])
        assert [event["e"] for event in written(history)] == ["send.try", "send.ok"]

    @pytest.mark.parametrize(
        ("error", "how"),
        [(None, "ok"), (ValueError(), "err"), (asyncio.CancelledError(), "cancelled"), (SystemExit(), "err")],
    )
    def test_a_run(self, history: History, error: BaseException | None, how: str) -> None:
        run = history.running("m1", 2, recipient="bob", body={"n": 1}, value="v", left=5.0)
        with pytest.raises(type(error)) if error else nullcontext(), run:
            if error:
                raise error
        start, end = written(history)
        assert start == {
            "p": "me",
            "e": "h.start",
            "message": "m1",
            "attempt": 2,
            "recipient": "bob",
            "value": "v",
            "hash": hash_body({"n": 1}),
            "left": 5.0,
        }
        assert (end["e"], end["message"], end["attempt"], end["how"]) == ("h.end", "m1", 2, how)

    def test_a_body_has_one_hash_whatever_the_order_of_its_keys(self) -> None:
        assert hash_body({"a": 1, "b": ["ü", None]}) == hash_body({"b": ["ü", None], "a": 1})
        assert hash_body({"a": 1}) != hash_body({"a": "1"})


class TestReading:
    def test_files_are_merged_by_time(self, tmp_path: Path) -> None:
        one, two = History(tmp_path / "1", "one"), History(tmp_path / "2", "two")
        for number in range(3):
            one.record("tick", n=number)
            two.record("tick", n=number)
        one.close()
        two.close()
        events = read_events(two.path, one.path)
        assert [(event["p"], event["n"]) for event in events] == [(p, n) for n in range(3) for p in ("one", "two")]

    @pytest.mark.parametrize("cut", [1, 4, 10, 30, -2])
    def test_a_torn_last_line_costs_its_event_alone(self, history: History, cut: int) -> None:
        history.record("tick", n=1)
        whole = history.path.read_bytes()
        history.path.write_bytes(whole + whole[:cut])
        assert [event["e"] for event in read_events(history.path)] == ["torn", "tick"]
        assert check(read_events(history.path)).torn == 1

    @pytest.mark.parametrize("cut", [1, 4, 10, 30, -2])
    def test_what_another_process_appends_to_a_torn_line_is_kept(self, history: History, cut: int) -> None:
        history.record("tick", n=1)
        whole = history.path.read_bytes()
        history.path.write_bytes(whole[:cut] + whole)
        assert [event["e"] for event in read_events(history.path)] == ["torn", "tick"]

    def test_a_line_that_lacks_its_end_alone_is_whole(self, history: History) -> None:
        history.record("tick", n=1)
        whole = history.path.read_bytes()
        history.path.write_bytes(whole[:-1] + whole + whole[:-1])
        assert [event["e"] for event in read_events(history.path)] == ["tick"] * 3

    def test_garbage_is_no_event(self, tmp_path: Path) -> None:
        path = tmp_path / "history.jsonl"
        path.write_bytes(b'\xff\xfe\n[1]\n{"t":1}\n\n{"t":2,"p":"a","e":"stop"}\n')
        assert [event["e"] for event in read_events(path)] == ["torn", "torn", "torn", "stop"]

    def test_known_ids(self) -> None:
        events: list[Event] = [
            {"e": "send.ok", "ids": ["a", "b"]},
            {"e": "h.start", "message": "c"},
            {"message": "a"},
            {"e": "stop"},
        ]
        assert known_ids(events) == ["a", "b", "c"]


def receipt(id: str, **fields: Any) -> Receipt:
    row: dict[str, Any] = dict.fromkeys(Receipt.__slots__)
    row.update(message_id=id, state=DeliveryState.DEAD, attempt=5, max_attempts=5, token=6, reasons=("it failed",))
    return Receipt(**(row | fields))


def receipt_row(id: str) -> ports.ReceiptRow:
    row: dict[str, Any] = dict.fromkeys(ports.ReceiptRow.__slots__)
    log = [{"event": "failed", "reason": "it failed"}, {"event": "redriven"}]
    row.update(message_id=id, state=DeliveryState.DONE, attempt=1, max_attempts=5, token=6, log=log)
    return ports.ReceiptRow(**row)


class TestFinal:
    @pytest.mark.parametrize("make", [receipt, receipt_row])
    async def test_states_are_dumped_from_receipts(self, history: History, make: Any) -> None:
        async def list_receipts(ids: Collection[str]) -> list[Any]:
            return [make(id) for id in ids if id != "gone"]

        await record_final(history, ["a", "gone"], list_receipts)
        kept, gone = written(history)
        expected = make("a")
        assert kept == {
            "p": "me",
            "e": "final",
            "message": "a",
            "state": expected.state.value,
            "attempt": expected.attempt,
            "token": 6,
            "max_attempts": 5,
            "reasons": ["it failed"],
        }
        assert gone == {"p": "me", "e": "final", "message": "gone", "state": "missing"}

    async def test_many_are_asked_for_in_pages(self, history: History) -> None:
        pages = []

        async def list_receipts(ids: Collection[str]) -> list[Receipt]:
            pages.append(len(ids))
            return [receipt(id) for id in ids]

        await record_final(history, [str(number) for number in range(1200)], list_receipts)
        assert pages == [500, 500, 200]
        assert len(written(history)) == 1200


# --- the recording store ----------------------------------------------------------------------------------------------


class ScriptedDeliveries:
    """Answers each call of a `DeliveryStore` as the test says, and notes what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def answer(*args: Any, **options: Any) -> Any:
            self.asked.append((name, args, options))
            reply = self.answers.get(name)
            if isinstance(reply, BaseException):
                raise reply
            return reply

        return answer


def recording(
    history: History, *, sends: bool = False, **answers: Any
) -> tuple[RecordingDeliveries, ScriptedDeliveries]:
    scripted: Any = ScriptedDeliveries(**answers)
    return RecordingDeliveries(scripted, history, sends=sends), scripted


def group(*ids: str, **fields: Any) -> ports.NewGroup:
    deliveries = [ports.NewDelivery(id, f"to-{id}") for id in ids]
    return ports.NewGroup(Kind.ONE_WAY, "alice", '{"n":1}', None, 0, deliveries, 5, 30.0, **fields)


def claimed(id: str, seq: int, token: int = 1) -> ports.ClaimedDelivery:
    claim = ports.Claim(seq, token, 1)
    return ports.ClaimedDelivery(claim, id, Kind.ONE_WAY, "alice", "bob", "{}", None, 0, 5, NOW, None)


class TestRecordingDeliveries:
    async def test_claims_and_settlements_have_their_tokens(self, history: History) -> None:
        settled = ports.Settled([True, False], set(), [claimed("c", 3, token=4)])
        store, _ = recording(history, claim=[claimed("a", 1), claimed("b", 2, token=7)], settle=settled)
        a, b = await store.claim([], owner="me")
        how = ports.Settling.RETRY
        await store.settle(
            [ports.Settlement(a.claim, ports.Settling.DONE), ports.Settlement(b.claim, how, reason="it failed")],
            owner="me",
        )
        events = written(history)
        assert all(event.pop("since") > 0 for event in events)
        claim = {"p": "me", "e": "claim", "attempt": 1, "owner": "me"}
        assert events == [
            {**claim, "message": "a", "seq": 1, "token": 1},
            {**claim, "message": "b", "seq": 2, "token": 7},
            {"p": "me", "e": "settle.ok", "message": "a", "seq": 1, "token": 1, "how": "done"},
            {
                "p": "me",
                "e": "settle.stale",
                "message": "b",
                "seq": 2,
                "token": 7,
                "how": "retry",
                "reason": "it failed",
            },
            {**claim, "message": "c", "seq": 3, "token": 4},
        ]

    async def test_a_claim_whose_answer_was_lost_is_named_by_the_one_who_saw_it(self, history: History) -> None:
        store, _ = recording(history, settle=ports.Settled([True], set(), []))
        await store.settle([ports.Settlement(ports.Claim(9, 1, 1), ports.Settling.RETURNED)], owner="me")
        other, _ = recording(history, claim=[claimed("a", 9, token=2)])
        await other.claim([], owner="me")
        events = read_events(history.path)
        assert "message" not in events[0]
        events.append({**events[0], "t": events[0]["t"] + 1})
        assert [violation.message_id for violation in check(events).violations if violation.invariant == "I3"] == ["a"]

    async def test_an_append_is_a_call(self, history: History) -> None:
        outcomes: Sequence[ports.AppendOutcome] = [
            ports.Stored({"a": ports.Claim(1, 1, 1)}),
            ports.Duplicate(["old"]),
            ports.KeyConflict(),
            ports.UnknownAgents(["bob"]),
            ports.MailboxFull(["bob"]),
        ]
        store, _ = recording(history, sends=True, append=outcomes)
        groups = [group("a", "b", deliver_at=NOW), group("c", expires_in=1.0), group("d"), group("e"), group("f")]
        assert await store.append(groups, owner="me") == outcomes
        events = written(history)
        assert [event["e"] for event in events[:5]] == ["send.try"] * 5
        tried = events[0]
        assert (tried["value"], tried["to"], tried["ids"]) == ("a", ["to-a", "to-b"], ["a", "b"])
        assert (tried["scheduled"], events[1]["expires"], tried["hash"]) == (True, True, hash_body({"n": 1}))
        assert [(event["e"], event.get("ids"), event.get("code")) for event in events[5:10]] == [
            ("send.ok", ["a", "b"], None),
            ("send.ok", ["old"], None),
            ("send.no", None, "idempotency_conflict"),
            ("send.no", None, "agent_not_found"),
            ("send.no", None, "mailbox_full"),
        ]
        assert [(event["e"], event["message"]) for event in events[10:]] == [("claim", "a")]

    async def test_a_publication_is_a_call_to_those_it_went_to(self, history: History) -> None:
        one, nobody, crowded = group("a", "b"), group(), group("c")
        for made in (one, nobody, crowded):
            made.publication = ports.Publication(uuid7(spare_bits=SPARE_BITS), "orders.new")
        outcomes = [ports.Stored(), ports.Stored(), ports.TooManySubscribers(1)]
        store, _ = recording(history, sends=True, append=outcomes)
        await store.append([one, nobody, crowded], owner="me")
        events = written(history)
        assert [(event["e"], event.get("to"), event.get("ids")) for event in events] == [
            ("send.try", ["to-a", "to-b"], ["a", "b"]),
            ("send.ok", None, ["a", "b"]),
            ("send.try", [], None),
            ("send.ok", None, []),
            ("send.try", ["to-c"], ["c"]),
            ("send.no", None, None),
        ]
        assert check(read_events(history.path)).acked == 2

    async def test_an_append_with_an_unknown_outcome_is_repeated(self, history: History) -> None:
        store, scripted = recording(history, sends=True, append=exceptions.OutcomeUnknownError())
        with pytest.raises(exceptions.OutcomeUnknownError):
            await store.append([group("a")], owner="me")
        scripted.answers["append"] = [ports.Stored({"a": ports.Claim(1, 1, 1)})]
        await store.append([group("a")], owner="me", repeat=True)
        events = written(history)
        assert [event["e"] for event in events] == ["send.try", "send.unknown", "send.try", "send.ok", "claim"]
        assert events[-1]["again"] is True
        assert check(read_events(history.path)).acked == 1

    async def test_without_sends_the_callers_log_their_calls(self, history: History) -> None:
        store, _ = recording(history, append=[ports.Stored()])
        await store.append([group("a")], owner="me")
        assert written(history) == []

    async def test_withdrawals_and_redrives(self, history: History) -> None:
        store, _ = recording(history, withdraw=["a"], redrive=[("b", "bob")])
        await store.withdraw(["a", "x"])
        await store.redrive(None, "bob")
        assert [(event["e"], event["message"]) for event in written(history)] == [("withdraw", "a"), ("redrive", "b")]

    async def test_the_rest_is_passed_through(self, history: History) -> None:
        store, scripted = recording(history)
        await store.find_repeat("alice", "send", "key", "print")
        await store.list_claims("me")
        await store.find_waiting(NOW)
        await store.advance(NOW)
        await store.list_receipts(["a"])
        await store.list_dead(None, 10, 0)
        await store.statistics(NOW)
        assert [(name, args) for name, args, _ in scripted.asked] == [
            ("find_repeat", ("alice", "send", "key", "print")),
            ("list_claims", ("me",)),
            ("find_waiting", (NOW,)),
            ("advance", (NOW,)),
            ("list_receipts", (["a"],)),
            ("list_dead", (None, 10, 0)),
            ("statistics", (NOW,)),
        ]
        assert written(history) == []


async def test_a_recording_store_is_the_store_with_recorded_deliveries(history: History) -> None:
    class Inner(ScriptedDeliveries):
        capabilities = directory = messages = processes = presence = deliveries = "of the inner store"

    inner: Any = Inner()
    store: Any = RecordingStore(inner, history)
    assert isinstance(store.deliveries, RecordingDeliveries)
    for noun in ("capabilities", "directory", "messages", "processes", "presence"):
        assert getattr(store, noun) == "of the inner store"
    await store.open(initialize=False)
    await store.describe()
    await store.check()
    await store.aclose()
    assert [(name, options) for name, _, options in inner.asked] == [
        ("open", {"initialize": False}),
        ("describe", {}),
        ("check", {}),
        ("aclose", {}),
    ]
