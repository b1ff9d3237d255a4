"""A Hypothesis state machine: any sequence of asking, answering, waiting, reading and ending, against the model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, Kind
from agent_messaging.storage.ports import (
    MAIN,
    Answering,
    AskRow,
    Claim,
    EndedAsk,
    Forwarded,
    ForwardingStore,
    MutualWait,
    NewEnding,
    NewForward,
    NewGroup,
    NewWait,
    NotWaiting,
    Service,
    Settlement,
    Settling,
    Stored,
)

from .base import StoreFactory, StoreFixtures
from .conversation_model import OPEN, ConversationModel, Letter, Question, Talk, Wait
from .machine import AGENTS, OWNERS, PICK, SECONDS, StoreMachine
from .model import CLAIMED, DEAD
from .world import id_of, ids

PAIRS = st.tuples(AGENTS, st.integers(1, 2)).map(lambda pair: (pair[0], (pair[0] + pair[1]) % 3))
"""Two different agents."""
MOSTLY = st.sampled_from([True, True, True, False])
THREADS = st.sampled_from([MAIN, MAIN, "a", "b"])
ONE_OR_ALL = st.sampled_from([None, None, "a", "b"])
"""A thread to read in."""

GROUPS = st.fixed_dictionaries(
    {
        "pair": PAIRS,
        "thread": THREADS,
        "is_anywhere": st.booleans(),
        "answers": st.sampled_from([None, Answering.IF_TAKEN, Answering.IF_TAKEN, Answering.REQUIRED]),
        "ask_timeout": st.sampled_from([None, 8.5, 50.5, 200.5]),
        "claim": st.booleans(),
        "max_attempts": st.integers(1, 3),
        "run_limit": st.sampled_from([10.5, 90.5]),
        "within": st.none() | PICK,
        "key": st.sampled_from([None, None, None, None, "k"]),
        "fingerprint": st.sampled_from(["f", "f", "f", "g"]),
        "mailbox_limit": st.sampled_from([None, None, None, 3]),
        "only_if_expected": st.sampled_from([False, False, False, True]),
        "notify": st.booleans(),
        "schedule": st.sampled_from([(None, None), (None, None), (20.5, None), (None, 10.5), (20.5, 60.5)]),
    }
)


def by_id(ask: EndedAsk) -> str:
    """The order in which to compare them: they come in any."""
    return ask.ask_id


class ConversationMachine(StoreMachine[ConversationModel]):
    """Three agents that converse in both directions; their processes have handlers, wait, stop and die."""

    endings: list[tuple[NewEnding, str, str, Talk, list[EndedAsk]]]

    def __init__(self, make_store: StoreFactory, runner: asyncio.Runner) -> None:
        super().__init__(make_store, runner, ConversationModel())
        self.endings = []

    @property
    def forwarding(self) -> ForwardingStore:
        """The port by which asks are passed on."""
        return self.world.store.forwarding

    def pick_ask(self, number: int) -> Question:
        return list(self.model.asks.values())[number % len(self.model.asks)]

    def pick_claim(self, number: int, *, live: bool) -> tuple[Letter, Claim]:
        """Any claim ever made; where there are any and `live` says so, one that holds."""
        claims = [(self.model.letter(id), claim) for id, claim in self.claims]
        held = [pair for pair in claims if pair[0].state is CLAIMED and pair[0].token == pair[1].token]
        chosen = held if live and held else claims
        return chosen[number % len(chosen)]

    # --- storing --------------------------------------------------------------------------------------------------

    @rule(options=st.lists(GROUPS, min_size=1, max_size=2), owner=OWNERS)
    def append(self, options: list[dict[str, Any]], owner: int) -> None:
        by = self.owners[owner]
        # In one call only the first of a lane asks for a claim.
        lanes = [(*one["pair"], one["thread"]) for one in options]
        options = [
            one | {"claim": one["claim"] and lanes[place] not in lanes[:place]} for place, one in enumerate(options)
        ]
        groups = [self.make_group(**one) for one in options]
        outcomes = self.run(self.world.append(*groups, owner=by, now=self.now))
        stored: list[tuple[Letter, Stored]] = []
        self.model.begin_call()
        for group, outcome in zip(groups, outcomes, strict=True):
            expected = self.model.store(group, by)
            if isinstance(expected, MutualWait):
                self.check_circle(group, outcome, expected)
            elif isinstance(expected, Stored):
                assert isinstance(outcome, Stored), (outcome, expected)
                letter = self.model.letter(id_of(group))
                stored.append((letter, outcome))
                if expected.answered and not outcome.waiters:
                    # Whether they are named for an answer that has its asker is left open.
                    outcome = replace(outcome, waiters=expected.waiters)
                assert replace(outcome, claims={}) == expected
            else:
                if isinstance(outcome, NotWaiting):
                    outcome = replace(outcome, threads=sorted(outcome.threads))
                assert outcome == expected
        wanted = {id_of(group) for group in groups if group.deliveries[0].claim}
        for letter, outcome in stored:
            held = self.model.live_waits(letter.recipient, letter.sender, letter.thread)
            # Whether a lane that the call itself has freed, by an answer, is free for it already is left open.
            unsure = any(one.answered for _, one in stored) and letter.message_id not in outcome.claims
            if letter.message_id in wanted and not held and not unsure:
                self.model.claim_at_once(letter, by)
            claimed = {id: (claim.token, claim.attempt) for id, claim in outcome.claims.items()}
            assert claimed == ({letter.message_id: (1, 1)} if letter.state is CLAIMED else {})
            self.claims += outcome.claims.items()

    @precondition(lambda self: any(self.model.open_asks()))
    @rule(number=PICK, options=GROUPS, how=st.sampled_from([Answering.IF_TAKEN, Answering.REQUIRED]), owner=OWNERS)
    def answer(self, number: int, options: dict[str, Any], how: Answering, owner: int) -> None:
        """A message to who waits, which names no thread."""
        asks = [ask.letter for ask in self.model.open_asks()]
        letter = asks[number % len(asks)]
        pair = self.agents.index(letter.recipient), self.agents.index(letter.sender)
        self.append([options | {"pair": pair, "answers": how, "is_anywhere": True}], owner)

    def pick_run(self, agent: str, number: int | None) -> Letter | None:
        """One of the agent's runs, if there are any and a number was drawn."""
        runs = [letter for letter in self.model.letters if letter.state is CLAIMED and letter.recipient == agent]
        return runs[number % len(runs)] if runs and number is not None else None

    def make_group(
        self,
        pair: tuple[int, int],
        within: int | None,
        key: str | None,
        schedule: tuple[float | None, float | None],
        **options: Any,
    ) -> NewGroup:
        sender, recipient = (self.agents[number] for number in pair)
        run = self.pick_run(sender, within)
        if options["ask_timeout"] is None and options["answers"] is None:
            deliver_in, options["expires_in"] = schedule
            if deliver_in is not None:
                due = self.world.at(self.model.now + deliver_in)
                options |= {"deliver_at": due, "claim": False, "notify": False}
                self.model.start = self.world.start
        return self.world.talk(
            sender,
            recipient,
            within=None if run is None else run.message_id,
            idempotency_key=key,
            **options,
        )

    def check_circle(self, group: NewGroup, outcome: object, expected: MutualWait) -> None:
        """Of several circles of one length any may be named; it is one of open asks through the new one."""
        assert isinstance(outcome, MutualWait), (outcome, expected)
        path = outcome.path
        assert len(path) == len(expected.path)
        assert (path[0], *path[-2:]) == (
            group.deliveries[0].recipient_id,
            group.sender_id,
            group.deliveries[0].recipient_id,
        )
        for asker, responder in pairwise(path[:-1]):
            assert self.model.open_ask(asker, responder) is not None

    # --- handling -------------------------------------------------------------------------------------------------

    @rule(
        recipient=AGENTS,
        owner=OWNERS,
        limit=st.integers(1, 4),
        ordered=MOSTLY,
        after=st.none() | AGENTS,
        origin=st.none() | st.none() | OWNERS,
    )
    def claim(
        self, recipient: int, owner: int, limit: int, ordered: bool, after: int | None, origin: int | None
    ) -> None:
        self.claim_with(None, recipient, Kind.CONVERSATION, owner, limit, ordered, after, origin)

    @precondition(lambda self: self.claims)
    @rule(
        number=PICK,
        live=MOSTLY,
        how=st.sampled_from([Settling.DONE, Settling.DONE, *Settling]),
        delay=st.sampled_from([0.0, 0.0, 3.5, 30.5]),
        answers=MOSTLY,
        repeat=st.booleans(),
        then=st.none() | st.tuples(AGENTS, st.integers(1, 4), MOSTLY),
    )
    def settle(
        self,
        number: int,
        live: bool,
        how: Settling,
        delay: float,
        answers: bool,
        repeat: bool,
        then: tuple[int, int, bool] | None,
    ) -> None:
        letter, claim = self.pick_claim(number, live=live)
        was_open = letter.state is CLAIMED and letter.token == claim.token
        # A repeat has the answer of the first time or none: no caller makes another one.
        answer = self.world.result() if answers and how is Settling.DONE and was_open else None
        settlement = Settlement(claim, how, delay, "reason", answer)
        moved, asks, told = self.model.settle_letter(
            letter, claim.token, how, delay, answer.message_id if answer else None
        )
        if then is None:
            settled = self.run(self.world.deliveries.settle([settlement], owner=self.owners[0], now=self.now))
        else:
            recipient, limit, ordered = then
            settled = self.claim_with(settlement, recipient, Kind.CONVERSATION, 0, limit, ordered, None, None)
        assert settled.moved == [moved]
        if was_open:
            assert settled.ended_asks == asks
            assert told.fits(settled.origins), (told, settled.origins)
        if repeat and then is None and was_open:
            again = self.run(self.world.deliveries.settle([settlement], owner=self.owners[0], now=self.now))
            assert again.moved == [True]

    # --- passing on -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.asks)
    @rule(
        number=PICK,
        live=MOSTLY,
        holder=MOSTLY,
        to=AGENTS,
        bound=MOSTLY,
        expected=st.sampled_from([False, False, True]),
        limit=st.sampled_from([None, None, 3]),
        owner=OWNERS,
        repeat=st.booleans(),
    )
    def forward(
        self,
        number: int,
        live: bool,
        holder: bool,
        to: int,
        bound: bool,
        expected: bool,
        limit: int | None,
        owner: int,
        repeat: bool,
    ) -> None:
        asks = [ask for ask in self.model.asks.values() if ask.state is OPEN] if live else []
        ask = asks[number % len(asks)] if asks else self.pick_ask(number)
        # By the run that has it, where one has; sometimes by another one, or from outside.
        ours = [ask.letter, *(step.kept for step in ask.hops)]
        claims = [claim for id, claim in self.claims if any(letter.message_id == id for letter in ours)]
        claim = claims[-1 if live else number % len(claims)] if claims and bound else None
        run = next((self.model.letter(id) for id, made in self.claims if made == claim), None)
        by, kept_id, moved = self.owners[owner], new_id(), ask.letter
        wanted = NewForward(
            ask.id,
            ask.letter.recipient if holder else self.agents[number % len(self.agents)],
            self.agents[to],
            kept_id=kept_id,
            session_id=new_id(),
            claim=claim,
            only_if_expected=expected,
            mailbox_limit=limit,
        )
        outcome = self.run(self.forwarding.forward(wanted, owner=by, now=self.now))
        reached = {(one.letter.sender, one.letter.recipient) for one in self.model.open_asks()}
        answered = self.model.forward(wanted, None if claim is None or run is None else (run, claim.token), by)
        if isinstance(answered, MutualWait):
            assert isinstance(outcome, MutualWait), (outcome, answered)
            path = outcome.path
            assert (len(path), path[0], path[-2:]) == (
                len(answered.path),
                wanted.to_id,
                [ask.letter.sender, wanted.to_id],
            )
            assert all(pair in reached for pair in pairwise(path[:-1]))
            return
        if isinstance(answered, Forwarded) and isinstance(outcome, Forwarded):
            assert outcome.left == pytest.approx(answered.left, abs=0.01)
            outcome = replace(outcome, left=answered.left)
        assert outcome == answered
        if ask.letter is not moved:  # what was claimed of it is of what stayed
            self.claims = [(kept_id if id == ask.id else id, claim) for id, claim in self.claims]
            if repeat:
                assert isinstance(self.run(self.forwarding.forward(wanted, owner=by, now=self.now)), Forwarded)

    # --- ending ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.asks)
    @rule(
        numbers=st.lists(PICK, min_size=1, max_size=2), state=st.sampled_from([AskState.TIMED_OUT, AskState.CANCELLED])
    )
    def close(self, numbers: list[int], state: AskState) -> None:
        asks = {ask.id: ask for ask in map(self.pick_ask, numbers)}
        rows = self.run(self.world.sessions.close_asks(list(asks), state, now=self.now))
        for ask in asks.values():
            self.model.close(ask, state)
        assert len(rows) == len(asks)
        for row in rows:
            self.check_ask(asks[row.ask_id], row)

    @rule(pair=PAIRS, thread=THREADS)
    def end(self, pair: tuple[int, int], thread: str) -> None:
        first, second = (self.agents[number] for number in pair)
        ending = self.world.ending()
        ended = self.run(self.world.end(first, second, ending=ending, thread=thread, now=self.now))
        expected = self.model.end_talk(first, second, thread, ending.message_id)
        if expected is None:
            assert ended is None
            return
        talk, asks, told = expected
        assert ended is not None
        assert ended.session_id == talk.session_id
        assert sorted(ended.asks, key=by_id) == sorted(asks, key=by_id)
        assert told.fits(ended.processes), (told, ended.processes)
        self.endings.append((ending, first, second, talk, ended.asks))

    @precondition(lambda self: self.endings)
    @rule(number=PICK)
    def end_again(self, number: int) -> None:
        ending, first, second, talk, asks = self.endings[number % len(self.endings)]
        ended = self.run(self.world.end(first, second, ending=ending, thread=talk.thread, now=self.now))
        assert ended is not None
        assert ended.session_id == talk.session_id
        assert sorted(ended.asks, key=by_id) == sorted(asks, key=by_id)

    @precondition(lambda self: self.mortal)
    @rule(died=st.booleans())
    def end_process(self, died: bool) -> None:
        gone = self.mortal.pop(0)
        processes = self.stores[0].processes
        if died:
            moved = self.run(processes.release([gone], self.now))
            assert moved == self.model.end_processes([gone], died=True)
            assert self.run(processes.release([gone], self.now)) == 0
        else:
            self.run(processes.retire(gone))
            self.model.end_processes([gone], died=False)
        # Nobody acts for who has ended.
        self.owners = [new_id() if owner == gone else owner for owner in self.owners]

    @rule(seconds=SECONDS)
    def advance(self, seconds: int) -> None:
        now = self.model.now + seconds
        advanced = self.run(self.world.deliveries.advance(self.world.at(now)))
        (least, most), told, released = self.model.pass_time(now)
        assert least <= advanced.due <= most
        assert advanced.released == released
        assert told.fits(advanced.expired_origins), (told, advanced.expired_origins)
        self.settle_open_ends()
        expected = self.model.next_in()
        assert advanced.next_in == (None if expected is None else pytest.approx(expected, abs=0.01))

    @precondition(lambda self: self.model.items)
    @rule(number=PICK)
    def withdraw(self, number: int) -> None:
        item = self.pick(number)
        moved = self.run(self.world.deliveries.withdraw([item.message_id]))
        assert moved == ([item.message_id] if self.model.withdraw(item) else [])

    @precondition(lambda self: any(item.state is DEAD for item in self.model.items))
    @rule(number=PICK)
    def redrive(self, number: int) -> None:
        dead = [item for item in self.model.items if item.state is DEAD]
        item = dead[number % len(dead)]
        assert self.run(self.world.deliveries.redrive([item.message_id], None)) == [(item.message_id, item.recipient)]
        self.model.redrive(item)

    # --- serving, waiting, reading --------------------------------------------------------------------------------

    @precondition(lambda self: self.mortal)
    @rule(number=PICK, agent=st.integers(0, 3), slots=st.integers(0, 2), explicit=MOSTLY)
    def serve(self, number: int, agent: int, slots: int, explicit: bool) -> None:
        process = self.mortal[number % len(self.mortal)]
        served = self.model.services.setdefault(process, {})
        name = ["", *self.agents][agent]
        if slots:
            served[name] = (explicit, slots)
        else:
            served.pop(name, None)
        services = [
            Service(one or None, Kind.CONVERSATION, explicit, slots) for one, (explicit, slots) in served.items()
        ]
        self.run(self.stores[0].processes.publish(process, services))

    @rule(pair=PAIRS, owner=OWNERS, timeout=st.sampled_from([None, 3.5, 60.5]), thread=ONE_OR_ALL)
    def wait(self, pair: tuple[int, int], owner: int, timeout: float | None, thread: str | None) -> None:
        recipient, sender = (self.agents[number] for number in pair)
        by = self.owners[owner]
        wait = NewWait(new_id(), recipient, sender, timeout, thread=thread)
        assert self.run(self.world.sessions.register_wait(wait, owner=by, now=self.now))
        until = None if timeout is None else self.model.now + timeout
        self.model.waits.append(Wait(wait.wait_id, recipient, sender, by, until, thread))

    @precondition(lambda self: self.model.waits)
    @rule(number=PICK)
    def remove_wait(self, number: int) -> None:
        wait = self.model.waits[number % len(self.model.waits)]
        self.run(self.world.sessions.remove_wait(wait.wait_id))
        self.model.waits.remove(wait)

    @precondition(lambda self: self.model.items)
    @rule(pair=PAIRS, within=st.none() | PICK, thread=ONE_OR_ALL)
    def take(self, pair: tuple[int, int], within: int | None, thread: str | None) -> None:
        recipient, sender = (self.agents[number] for number in pair)
        run = self.pick_run(recipient, within)
        options: dict[str, Any] = {"within": run and run.message_id, "thread": thread}
        taken = self.run(self.world.take(recipient, sender, **options, now=self.now))
        letter = self.model.awaited(recipient, sender, thread)
        assert taken == (letter.message_id if letter else None)
        if letter:
            self.model.mark([letter], run)

    @precondition(lambda self: self.model.items)
    @rule(
        recipient=AGENTS,
        sender=st.none() | AGENTS,
        mark=st.booleans(),
        limit=st.integers(1, 4),
        within=st.none() | PICK,
        thread=ONE_OR_ALL,
    )
    def read(
        self, recipient: int, sender: int | None, mark: bool, limit: int, within: int | None, thread: str | None
    ) -> None:
        to, of = self.agents[recipient], None if sender is None else self.agents[sender]
        run = self.pick_run(to, within)
        options: dict[str, Any] = {"sender_id": of, "mark": mark, "limit": limit, "within": run and run.message_id}
        options["thread"] = thread
        page = self.run(self.world.read(to, **options, now=self.now))
        unread = self.model.unread(to, of, thread)
        assert ids(page) == [letter.message_id for letter in unread[:limit]]
        assert page.is_last == (len(unread) <= limit)
        if mark:
            self.model.mark(unread[:limit], run)

    @precondition(lambda self: self.model.notices)
    @rule(recipients=st.lists(AGENTS, min_size=1, max_size=3, unique=True), limit=st.integers(1, 3))
    def take_notices(self, recipients: list[int], limit: int) -> None:
        to = [self.agents[number] for number in recipients]
        rows = self.run(self.world.sessions.take_notices(to, limit, now=self.now))
        left = [letter for letter in self.model.notices if letter.recipient in to]
        taken = [letter for letter in left if letter.message_id in ids(rows)]
        assert ids(rows) == [letter.message_id for letter in taken]
        # Old ones may have been dropped; of the others none was passed over.
        passed_over = left[: left.index(taken[-1])] if len(rows) == limit else left
        # The store's own clock says which are due, and has not gone on as the test's has.
        due = [letter for letter in passed_over if self.world.at(letter.created_at) <= datetime.now(UTC)]
        fresh = [letter for letter in due if letter.created_at > self.model.now - 60]
        assert all(letter in taken for letter in fresh)
        self.model.notices = [letter for letter in self.model.notices if letter not in taken]

    # --- what holds after each of them ----------------------------------------------------------------------------

    def settle_open_ends(self) -> None:
        """Where the contract leaves something open, take over how the store has it."""
        for ask in self.model.asks.values():
            if ask.either:
                row = self.run(self.world.asked(ask.id))
                assert row.state in ask.either
                ask.state, ask.reason = row.state, "" if row.state is AskState.FAILED else None
                ask.either = set()
        for letter in self.model.letters:
            if letter.may_be_read:
                letter.is_read = self.run(self.world.receipt(letter.message_id)).read_at is not None
                letter.may_be_read = False

    def check_ask(self, ask: Question, row: AskRow) -> None:
        letter = ask.letter
        assert row.state == ask.state, ask
        assert (row.session_id, row.asker_id, row.responder_id) == (
            letter.talk.session_id,
            letter.sender,
            letter.recipient,
        )
        assert row.worker == ask.worker, ask
        assert (row.origin, row.deadline_at) == (ask.origin, self.world.at(ask.deadline))
        assert (row.answer.message_id if row.answer else None) == (ask.answer.message_id if ask.answer else None)
        # Where nobody gave a reason, the row says one all the same.
        assert row.reason == ask.reason or (ask.reason == "" and row.reason), ask

    @invariant()
    def the_store_is_where_the_model_is(self) -> None:
        self.settle_open_ends()
        self.run(self.compare())

    async def compare(self) -> None:
        model, sessions, deliveries = self.model, self.world.sessions, self.world.deliveries
        rows = {row.message_id: row for row in await deliveries.list_receipts([one.message_id for one in model.items])}
        for letter in model.letters:
            receipt = rows[letter.message_id]
            assert (receipt.state, receipt.token, receipt.attempt) == (letter.state, letter.token, letter.attempt), (
                letter
            )
            assert [entry["event"] for entry in receipt.log] == letter.log, letter
            assert (receipt.read_at is not None) == letter.is_read, letter
            assert receipt.owner == letter.owner or letter.state is not CLAIMED, letter

        asks = {row.ask_id: row for row in await sessions.find_asks(list(model.asks))}
        assert set(asks) == set(model.asks)
        for id, ask in model.asks.items():
            self.check_ask(ask, asks[id])
            if ask.state is AskState.FAILED:
                assert asks[id].reason in {entry["reason"] for entry in rows[id].log}
        hops = await self.forwarding.list_hops(list(model.asks))
        assert sorted((hop.message_id, hop.number, hop.from_id, hop.to_id, hop.kept_id) for hop in hops) == sorted(
            (id, number, step.kept.recipient, step.to, step.kept.message_id)
            for id, ask in model.asks.items()
            for number, step in enumerate(ask.hops, 1)
        )
        ended = {id: replace(asks[id], worker=None) for id, ask in model.asks.items() if ask.state is not OPEN}
        assert await sessions.find_ended_asks(list(asks)) == ended

        for talk in model.talks:
            await self.compare_talk(talk)
        found = await sessions.find_waits([wait.wait_id for wait in model.waits], self.now)
        news = {
            wait.wait_id: (ready, wait.is_ended)
            for wait in model.waits
            for ready in [model.awaited(wait.recipient, wait.sender, wait.thread) is not None]
            if ready or wait.is_ended
        }
        assert {id: row and (row.is_ready, row.is_ended) for id, row in found.items()} == news

        due = [letter for letter in model.letters if model.is_ready(letter)]
        held = {one.message_id for one in due if model.live_waits(one.recipient, one.sender, one.thread)}
        waiting = set(await deliveries.find_waiting(self.now))
        assert {(letter.recipient, letter.kind) for letter in due if letter.message_id not in held} <= waiting
        assert waiting <= {(letter.recipient, letter.kind) for letter in due}

    async def compare_talk(self, talk: Talk) -> None:
        letters = [letter for letter in self.model.letters if letter.talk is talk]
        sessions = self.world.sessions
        rows = await sessions.list_messages(talk.session_id, limit=1000)
        assert [(row.message_id, row.message_type, row.thread) for row in rows] == [
            (letter.message_id, letter.message_type, talk.thread) for letter in letters
        ]
        counts = await sessions.count_messages(talk.session_id)
        assert (counts.messages, counts.read) == (len(letters), sum(letter.is_read for letter in letters))
        row = await sessions.find_session(talk.session_id)
        assert row is not None
        assert {row.agent_a_id, row.agent_b_id} == talk.pair
        assert row.thread == talk.thread
        assert row.created_at == self.world.at(talk.created_at)
        assert row.ended_at == (None if talk.ended_at is None else self.world.at(talk.ended_at))
        assert row.updated_at == self.world.at(max(max(letter.created_at for letter in letters), talk.ended_at or 0.0))
        open_asks = [ask for ask in self.model.open_asks() if ask.letter.talk is talk]
        assert row.waiting_id == (open_asks[0].letter.sender if open_asks else None)
        first, second = talk.pair
        opened = await sessions.find_open_session(first, second, talk.thread)
        assert (opened is not None and opened.session_id == talk.session_id) == (talk.ended_at is None)


class ConversationMachineConformance(StoreFixtures):
    """Random sequences of the verbs of conversations, compared with a model in plain Python."""

    def test_any_conversation_leaves_the_store_where_the_model_is(self, make_store: StoreFactory) -> None:
        with asyncio.Runner() as runner:

            class Machine(ConversationMachine):
                def __init__(self) -> None:
                    super().__init__(make_store, runner)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=15,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
