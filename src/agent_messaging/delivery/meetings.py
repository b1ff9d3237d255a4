"""Meetings as one SDK object takes part in them: acts, waiting for turns, turn handlers' runs, choosing speakers.

What holds is in the store. This remembers who waits here, which turns were seen here, and which functions choose the
next speaker of meetings hosted here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..bodies import open_or_mark
from ..exceptions import (
    DatabaseError,
    MeetingNotFoundError,
    OutcomeUnknownError,
)
from ..handlers.running import make_turn_context
from ..handlers.threads import DaemonThreads
from ..models import MeetingStatus, MessageContext, MessageType, ParticipantStatus, Record, Turn
from ..payloads import checksum, encode
from ..storage.assembly import Act, Choose, End, Leave, Pass, Purpose, Refused, Remove, Speak
from ..storage.ports import (
    Acted,
    Claim,
    ClaimedDelivery,
    Duplicate,
    KeyConflict,
    MeetingStore,
    MessageRow,
    NewAnswer,
    NewSpeech,
    Presence,
    Standing,
    TimedOut,
    TurnRef,
    TurnRow,
)
from .announcer import Announcer
from .background import Background
from .commits import Commits
from .names import AgentName, Names
from .retry import describe, is_cancellation
from .services import Service, SingleFlight
from .trouble import Trouble
from .waiting import Waiters

logger = logging.getLogger("agent_messaging.delivery")

SO_FAR = 1_000
"""Messages that a function which chooses speakers is shown at most, the newest."""
RECENT = 100
"""Messages a turn shows at most: what was said since the agent's last speech, the newest of it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts at a store that does not answer, while a turn lasts."""
MANY_OBSERVED = 1_000
TIME_OUTS = 100
"""Meetings whose turns are ended by one call to the store."""

Selector = Callable[[Record], str | Awaitable[str | None] | None]
"""Names the next speaker of a meeting, given the meeting so far; None leaves it to the order of joining."""


@dataclass(frozen=True, slots=True)
class TurnRun:
    """What a turn handler's run is about."""

    turn: TurnRef
    delivery: ClaimedDelivery
    """With the latest speech for a payload, or the facts of the meeting where nothing was said yet."""
    context: MessageContext
    left: float | None
    """Seconds until the turn's deadline."""


class Meetings(Service):
    """The meetings of one SDK object.

    Args:
        trouble: Told when the store did not let a speaker be chosen.
        threads: For plain functions that name speakers.
    """

    def __init__(
        self,
        meetings: MeetingStore,
        presence: Presence,
        names: Names,
        threads: DaemonThreads,
        background: Background,
        commits: Commits,
        announcer: Announcer,
        trouble: Trouble,
    ) -> None:
        self.meetings = meetings
        self.presence = presence
        self.names = names
        self.announcer = announcer
        self.trouble = trouble
        self.threads = threads
        self.background = background
        self.commits = commits
        self.waiters = Waiters[tuple[str, str], Standing](
            self._find, lambda key: MeetingNotFoundError(meeting_id=key[0])
        )
        """By (meeting id, agent id); told when the agent has the turn, or will never have it."""
        self.readiness = Waiters[str, Standing](self._find_ready, lambda id: MeetingNotFoundError(meeting_id=id))
        """By meeting id; told when it is no longer in preparation."""
        self.observed: dict[tuple[str, str], int] = {}
        """The newest turn that was shown here, by (meeting id, agent id); forgotten once it was used."""
        self._many_observed = MANY_OBSERVED
        """With so many it is time to see which of their meetings have ended elsewhere."""
        self.selectors: dict[str, Selector] = {}
        """By meeting id; of meetings whose speakers are chosen here."""
        self._chairs: dict[str, str] = {}
        """By meeting id, of those: the process that is woken when it is time to choose, as last seen to here."""
        self.failures: dict[str, dict[str, int]] = {}
        """By meeting id and agent id: runs of the agent's turn handler that failed here, in a row."""
        self._selecting: dict[str, SingleFlight] = {}
        self._looking = SingleFlight(self._look_for_selections, "looking for speakers to choose")
        self._is_closed = False

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def act(
        self, meeting_id: str, act: Act, *, speech: NewSpeech | None = None, claim: Claim | None = None
    ) -> Acted | Refused | Duplicate | KeyConflict | None:
        """Let the store decide an act; whoever waits for what it changed is woken, also if the caller is cancelled."""
        owner = self.presence.process_id

        async def commit() -> Acted | Refused | Duplicate | KeyConflict | None:
            outcome = await self.meetings.act(meeting_id, act, owner=owner, speech=speech, claim=claim)
            self._tell(meeting_id, act, outcome)
            return outcome

        return await self.commits.run(commit())

    def _tell(self, meeting_id: str, act: Act, outcome: Acted | Refused | Duplicate | KeyConflict | None) -> None:
        if isinstance(outcome, Acted):
            self.acted(meeting_id, outcome)
            if isinstance(act, Leave | Remove | End):
                self.waiters.hint(key for key in self.waiters.ids() if key[0] == meeting_id)

    def acted(self, meeting_id: str, acted: Acted) -> None:
        """A meeting has changed by a commit made here."""
        self.announcer.acted(meeting_id, acted)
        self.readiness.hint([meeting_id])
        turn = acted.turn
        if turn is not None:
            if turn.purpose is Purpose.SPEAK:
                standing = Standing(acted.status, ParticipantStatus.SPEAKING, turn)
                self.waiters.tell((meeting_id, turn.agent_id), standing)
            else:
                self._select(meeting_id)
        if acted.status is MeetingStatus.ENDED:
            self.forget(meeting_id)

    def forget(self, meeting_id: str) -> None:
        """A meeting is over, or gone."""
        self.selectors.pop(meeting_id, None)
        self._chairs.pop(meeting_id, None)
        if meeting_id in self._selecting and self._selecting[meeting_id].is_idle:
            del self._selecting[meeting_id]
        self.failures.pop(meeting_id, None)
        for key in [key for key in self.observed if key[0] == meeting_id]:
            del self.observed[key]

    async def time_out(self) -> TimedOut:
        """End turns whose time is over."""
        changed = await self.meetings.time_out(TIME_OUTS)
        for meeting_id, acted in changed.meetings.items():
            self.acted(meeting_id, acted)
        return changed

    def look(self) -> None:
        """Anything may have changed elsewhere."""
        self.waiters.look()
        self.readiness.look()
        if self.selectors or self.failures or len(self.observed) >= self._many_observed:
            self._looking.request()

    async def aclose(self, timeout: float) -> None:
        """Release whoever waits."""
        self._is_closed = True
        await self.waiters.aclose()
        await self.readiness.aclose()
        await self._looking.aclose()
        for selecting in list(self._selecting.values()):
            await selecting.aclose()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def wait_for_turn(self, meeting_id: str, agent: AgentName) -> Standing:
        """Wait until the agent has the turn, the meeting has ended, or the agent is no longer in it.

        Raises:
            MeetingNotFoundError: There is no such meeting (any more).
            NotInitializedError: The SDK was closed meanwhile.
        """
        with self.waiters.expect((meeting_id, agent.id)) as called:
            standing = await self.meetings.sit(meeting_id, agent.id, owner=self.presence.process_id)
            if standing is None:
                raise MeetingNotFoundError(meeting_id=meeting_id)
            if holds_turn(standing, agent.id) or is_out(standing):
                return standing
            return await called

    async def open_turn(self, meeting_id: str, agent: AgentName, turn: TurnRow | None, *, has_ended: bool) -> Turn:
        """Show an agent its turn, or the end, with what was said since its last speech."""
        rows = await self.meetings.list_last_messages(meeting_id, agent.id, RECENT)
        if turn is not None:
            self.show(meeting_id, agent.id, turn.number)
        else:
            self.observed.pop((meeting_id, agent.id), None)
        if has_ended:
            self.forget(meeting_id)
        said, noted = await self._describe_apart(rows)
        return Turn(
            number=None if turn is None else turn.number,
            deadline=None if turn is None else turn.deadline_at,
            messages=tuple(said),
            has_ended=has_ended,
            notes=tuple(noted),
        )

    def show(self, meeting_id: str, agent_id: str, number: int) -> None:
        """The agent is shown this turn: from now on its acts here are bound to it."""
        self.observed[meeting_id, agent_id] = max(number, self.last_shown(meeting_id, agent_id) or 0)

    def last_shown(self, meeting_id: str, agent_id: str) -> int | None:
        """The turn to which the agent's acts here are bound."""
        return self.observed.get((meeting_id, agent_id))

    def used(self, meeting_id: str, agent_id: str, number: int | None) -> None:
        """The agent has used this turn: it and older ones bind its acts no more. A newer one may have been shown."""
        if number is not None and self.observed.get((meeting_id, agent_id), number + 1) <= number:
            del self.observed[meeting_id, agent_id]

    async def describe(self, rows: Iterable[MessageRow]) -> list[Record]:
        """Messages of a meeting as its participants see them."""
        rows = list(rows)
        names = await self.names.find_by_id({row.sender_id for row in rows})

        def describe_one(row: MessageRow) -> Record:
            sender = names.get(row.sender_id)
            body = open_or_mark(row, f"message {row.message_id}")
            external_id = sender.external_id if sender else None
            return Record(
                id=row.message_id,
                message_id=row.message_id,
                sender=external_id,
                sender_id=external_id,
                sender_name=sender.name if sender else None,
                message_type=row.message_type,
                content=body.content,
                metadata=body.metadata,
                is_damaged=body.is_damaged,
                created_at=row.created_at,
            )

        return [describe_one(row) for row in rows]

    async def _describe_apart(self, rows: Iterable[MessageRow]) -> tuple[list[Record], list[Record]]:
        """What was said, and what the SDK noted about it."""
        described = await self.describe(rows)
        said = [one for one in described if one.message_type == MessageType.USER_DEFINED]
        return said, [one for one in described if one.message_type != MessageType.USER_DEFINED]

    async def _find(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Standing | None]:
        return await self.meetings.find_standings(keys, called=True)

    async def _find_ready(self, meeting_ids: list[str]) -> dict[str, Standing | None]:
        found = await self._find_meetings(meeting_ids)
        return {
            meeting_id: standing
            for meeting_id, standing in found.items()
            if standing is None or standing.status is not MeetingStatus.CREATED
        }

    async def _find_meetings(self, meeting_ids: Iterable[str]) -> dict[str, Standing | None]:
        """How these meetings stand, whoever is in them; None for those that do not exist."""
        found = await self.meetings.find_standings([(meeting_id, None) for meeting_id in meeting_ids])
        return {meeting_id: standing for (meeting_id, _), standing in found.items()}

    # --- choosing the next speaker ------------------------------------------------------------------------------------

    def choose_speakers(self, meeting_id: str, function: Selector) -> None:
        """Let this function choose the speakers of a meeting hosted here."""
        self.selectors[meeting_id] = function

    async def _look_for_selections(self) -> None:
        """Choose where it is due, and forget the meetings that ended elsewhere; one query for all of them."""
        await self._take_chairs()
        meeting_ids = self.selectors.keys() | self.failures.keys()
        if tidies := len(self.observed) >= self._many_observed:
            meeting_ids |= {meeting_id for meeting_id, _ in self.observed}
        for meeting_id, standing in (await self._find_meetings(meeting_ids)).items():
            if standing is None or standing.status is MeetingStatus.ENDED:
                self.forget(meeting_id)
            elif standing.turn is not None and standing.turn.purpose is Purpose.SELECT:
                self._select(meeting_id)
        if tidies:
            self._many_observed = max(MANY_OBSERVED, 2 * len(self.observed))

    async def _take_chairs(self) -> None:
        """Sit for the hosts, so that this process is woken when a speaker is to be chosen, wherever the turn ends."""
        owner = self.presence.process_id
        for meeting_id in [id for id in self.selectors if self._chairs.get(id) != owner]:
            meeting = await self.meetings.find_meeting(meeting_id)
            if meeting is not None:
                await self.meetings.sit(meeting_id, meeting.host_id, owner=owner)
                self._chairs[meeting_id] = owner

    def _select(self, meeting_id: str) -> None:
        """It may be time for the function here to choose."""
        if meeting_id not in self.selectors or self._is_closed:
            return
        selecting = self._selecting.get(meeting_id)
        if selecting is None:
            selecting = self._selecting[meeting_id] = SingleFlight(
                partial(self._select_while_hosted, meeting_id),
                f"choosing the next speaker of meeting {meeting_id}",
                on_failure=self.trouble.note,
                background=self.background,
            )
        selecting.request()

    async def _select_while_hosted(self, meeting_id: str) -> None:
        try:
            await self._select_speaker(meeting_id)
        finally:
            if meeting_id not in self.selectors:
                self._selecting.pop(meeting_id, None)

    async def _select_speaker(self, meeting_id: str) -> None:
        standing = (await self._find_meetings([meeting_id]))[meeting_id]
        if standing is None or standing.status is MeetingStatus.ENDED:
            self.forget(meeting_id)
            return
        turn, function = standing.turn, self.selectors.get(meeting_id)
        if turn is None or turn.purpose is not Purpose.SELECT or function is None:
            return
        chosen = await self._ask_selector(meeting_id, function, turn)
        self._select(meeting_id)  # once more: whoever was chosen may have left meanwhile
        await self.act(meeting_id, Choose(turn.number, chosen))

    async def _ask_selector(self, meeting_id: str, function: Selector, turn: TurnRow) -> str | None:
        """The id of the agent that the function names; None if it names nobody, fails, or takes too long."""
        seats = [seat for seat in await self.meetings.list_seats(meeting_id) if seat.left_at is None]
        before = await self.meetings.list_turns(meeting_id, limit=1, after=turn.number - 2)
        messages = await self.meetings.list_last_messages(meeting_id, None, SO_FAR)
        names = await self.names.find_by_id({seat.agent_id for seat in seats} | {one.agent_id for one in before})
        last = next((names.get(one.agent_id) for one in before if one.purpose is Purpose.SPEAK), None)
        seated = {names[seat.agent_id].external_id: seat.agent_id for seat in seats if seat.agent_id in names}
        said, noted = await self._describe_apart(messages)
        so_far = Record(
            meeting_id=meeting_id,
            participants=list(seated),
            last_speaker=last.external_id if last else None,
            turn=turn.number - 1,
            messages=said,
            notes=noted,
        )
        try:
            # Behind the deadline its answer is of no use, and the next turn would wait for it.
            async with asyncio.timeout(turn.left):
                chosen = await self.threads.run(function, so_far)
            if chosen is not None and chosen not in seated:
                raise ValueError(f"it named {chosen!r}, who is not a participant")
            return None if chosen is None else seated[chosen]
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            logger.warning(
                "the speaker selection of meeting %s failed, the order decides: %s", meeting_id, describe(error)
            )
            return None

    # --- turn handlers ------------------------------------------------------------------------------------------------

    async def prepare(self, delivery: ClaimedDelivery, ref: TurnRef, agent: AgentName) -> TurnRun | None:
        """What the run of a turn handler gets; None if the turn is over."""
        meeting_id, number = ref.meeting_id, ref.number
        standing = (await self._find_meetings([meeting_id]))[meeting_id]
        turn = standing.turn if standing is not None else None
        if turn is None or turn.number != number:
            return None
        rows = await self.meetings.list_last_messages(meeting_id, agent.id, RECENT)
        messages, notes = await self._describe_apart(rows)
        shown = Turn(number, turn.deadline_at, tuple(messages), has_ended=False, notes=tuple(notes))
        said = [row for row in rows if row.message_type == MessageType.USER_DEFINED]
        speaker: AgentName | None = None
        if said:
            last = said[-1]
            subject_delivery = replace(
                delivery, content=last.content, metadata=last.metadata, checksum=last.checksum, sender_id=last.sender_id
            )
            speaker = (await self.names.find_by_id({last.sender_id})).get(last.sender_id)
        else:
            content = encode(await self._facts(meeting_id), limit_bytes=1_000_000)
            subject_delivery = replace(delivery, content=content, metadata=None, checksum=checksum(content, None))
        if speaker is None:
            speaker = (await self.names.find_by_id({delivery.sender_id})).get(delivery.sender_id, agent)
        context = make_turn_context(subject_delivery, speaker, agent, meeting_id, shown)
        return TurnRun(ref, subject_delivery, context, turn.left)

    def count_failures(self, run: TurnRun, agent_id: str) -> int:
        """How often in a row the agent's turn handler has failed here in this meeting."""
        return self.failures.get(run.turn.meeting_id, {}).get(agent_id, 0)

    def ran(self, run: TurnRun, agent_id: str, *, failed: bool) -> None:
        """A run of a turn handler has ended by itself."""
        if failed:
            of_meeting = self.failures.setdefault(run.turn.meeting_id, {})
            of_meeting[agent_id] = of_meeting.get(agent_id, 0) + 1
        elif self.count_failures(run, agent_id):
            del self.failures[run.turn.meeting_id][agent_id]

    async def _facts(self, meeting_id: str) -> dict[str, Any]:
        meeting = await self.meetings.find_meeting(meeting_id)
        seats = await self.meetings.list_seats(meeting_id)
        names = await self.names.find_by_id({seat.agent_id for seat in seats})
        host = names.get(meeting.host_id) if meeting is not None else None
        return {
            "meeting_id": meeting_id,
            "host": host.external_id if host else None,
            "participants": [
                names[seat.agent_id].external_id for seat in seats if seat.left_at is None and seat.agent_id in names
            ],
            "turn_duration": meeting.turn_duration if meeting is not None else None,
        }

    async def use_turn(
        self, run: TurnRun, agent_id: str, claim: Claim, answer: NewAnswer | None, reason: str | None
    ) -> None:
        """Speak or pass for a turn handler, under the turn's number and the claim; tried while the turn lasts."""
        act: Act
        speech = None
        if answer is not None:
            # A host that is to name the next speaker cannot do so by what its handler returns.
            act = Speak(agent_id, run.turn.number, by_order=True)
            speech = NewSpeech(answer.message_id, answer.content, None, answer.checksum)
        else:
            act = Pass(agent_id, run.turn.number, reason)
        loop = asyncio.get_running_loop()
        deadline = None if run.left is None else loop.time() + run.left
        pause = FIRST_PAUSE
        while True:
            try:
                outcome = await self.act(run.turn.meeting_id, act, speech=speech, claim=claim)
            except (DatabaseError, OutcomeUnknownError) as error:
                if not error.retryable or (deadline is not None and loop.time() + pause > deadline):
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if not isinstance(outcome, Acted):
                logger.info(
                    "turn %d of meeting %s was over before its handler had ended", run.turn.number, run.turn.meeting_id
                )
            return

    async def find_over(self, turns: Collection[TurnRef]) -> list[TurnRef]:
        """Those of these turns that are over."""
        found = await self._find_meetings({turn.meeting_id for turn in turns})
        current = {id: standing.turn for id, standing in found.items() if standing is not None}
        return [turn for turn in turns if (now := current.get(turn.meeting_id)) is None or now.number != turn.number]


def holds_turn(standing: Standing, agent_id: str) -> bool:
    """Whether the agent may speak."""
    turn = standing.turn
    return turn is not None and turn.agent_id == agent_id and turn.purpose is Purpose.SPEAK


def is_out(standing: Standing) -> bool:
    """Whether the agent will never have the turn (again): the meeting has ended, or it is not in it."""
    return standing.status is MeetingStatus.ENDED or standing.seat is None or standing.seat == "left"
