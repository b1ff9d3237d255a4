"""Makes acts on meetings, wakes the callers here that wait for their changes, and remembers which turns were shown."""

from __future__ import annotations

from ...exceptions import AgentMessagingError, MeetingNotFoundError
from ...handlers.threads import DaemonThreads
from ...models import MeetingStatus, ParticipantStatus, Turn
from ...single_flight import SingleFlight
from ...storage.assembly.terms import Act, Leave, Purpose, Remove
from ...storage.ports import Acted, Claim, MeetingStore, NewSpeech, Outcome, Presence, Standing, TimedOut, TurnRow
from ..announcer import Announcer
from ..background import Background
from ..commits import Commits
from ..names import AgentName, Names
from ..services import Service
from ..trouble import Trouble
from ..waiting import Waiters
from .lately import Lately
from .records import RECENT, Records
from .runs import TurnRuns
from .selection import Selection

MANY_OBSERVED = 1_000
"""From so many turns that were shown on, the meetings that have ended elsewhere are sought and forgotten."""
TIME_OUTS = 100
"""Meetings whose turns are ended by one call to the store."""


class Meetings(Service):
    """The meetings of one SDK object.

    Args:
        threads: They run plain functions that choose speakers.
        trouble: It is told when the store failed while a speaker was chosen.
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
        self.announcer = announcer
        self.facts = announcer.facts
        self.commits = commits
        self.waiters = Waiters[tuple[str, str], Standing](
            self._find, lambda key: MeetingNotFoundError(meeting_id=key[0])
        )
        """By (meeting id, agent id): callers that wait until the agent has the turn, or will never have it."""
        self.readiness = Waiters[str, Standing](self._find_ready, lambda id: MeetingNotFoundError(meeting_id=id))
        """By meeting id: callers that wait until everybody attends."""
        self.endings = Waiters[str, Standing](self._find_ended, lambda id: MeetingNotFoundError(meeting_id=id))
        """By meeting id: callers that wait until it has ended."""
        self.lately = Lately(RECENT)
        self.observed: dict[tuple[str, str], int] = {}
        """By (meeting id, agent id): the newest turn that was shown here and is not used yet."""
        self._many_observed = MANY_OBSERVED
        """The same, raised while there are more turns of meetings that go on."""
        self.records = Records(meetings, names)
        self.selection = Selection(self.records, presence, threads, background, self.act, trouble)
        self.runs = TurnRuns(self.records, self.act)
        self._looking = SingleFlight(self._review, "looking for speakers to choose")

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def act(
        self, meeting_id: str, act: Act, *, speech: NewSpeech | None = None, claim: Claim | None = None
    ) -> Outcome:
        """Have the store decide an act. Those who wait for its changes are woken, even if the caller is cancelled."""
        owner, facts = self.presence.process_id, self.facts
        if speech is not None and facts.ears.carriers:
            speech = facts.speak(meeting_id, act, speech)

        async def commit() -> Outcome:
            looks = self.lately.begin(meeting_id)
            try:
                outcome = await self.meetings.act(meeting_id, act, owner=owner, speech=speech, claim=claim)
            except AgentMessagingError as error:
                if facts.ears.is_heard:
                    facts.act_refused(meeting_id, error, act, speech)
                raise
            finally:
                self.lately.end(meeting_id)
            if isinstance(outcome, Acted):
                self.acted(meeting_id, outcome, act, speech, looks)
                if isinstance(act, Leave | Remove):
                    self.waiters.hint_about(meeting_id)
            elif facts.ears.is_heard:
                facts.act_refused(meeting_id, outcome, act, speech)
            return outcome

        return await self.commits.run(commit())

    def acted(
        self,
        meeting_id: str,
        acted: Acted,
        act: Act | None = None,
        speech: NewSpeech | None = None,
        looks: int | None = None,
    ) -> None:
        """Tell everybody of a change to a meeting that was committed here; without an act it came by time."""
        self.announcer.acted(meeting_id, acted, act, speech)
        self.lately.acted(meeting_id, acted, act, speech, looks)
        self.readiness.hint([meeting_id])
        turn = acted.turn
        if turn is not None:
            if turn.purpose is Purpose.SPEAK:
                self._call(meeting_id, acted.status, turn)
            else:
                self.selection.select(meeting_id)
        if acted.status is MeetingStatus.ENDED:
            self.waiters.hint_about(meeting_id)
            self.endings.tell(meeting_id, Standing(acted.status, None, None))
            self.forget(meeting_id)

    def _call(self, meeting_id: str, status: MeetingStatus, turn: TurnRow) -> None:
        """Show the turn to its holder, if it waits here. What was said is remembered, or one look brings it for all."""
        key = meeting_id, turn.agent_id
        if self.waiters.has(key):
            said = self.lately.since(meeting_id, turn.agent_id)
            if said is None:
                self.waiters.hint([key])
            else:
                self.waiters.tell(key, Standing(status, ParticipantStatus.SPEAKING, turn, said))

    def forget(self, meeting_id: str) -> None:
        """Forget a meeting that is over or gone."""
        self.lately.forget(meeting_id)
        self.selection.forget(meeting_id)
        self.runs.forget(meeting_id)
        for key in [key for key in self.observed if key[0] == meeting_id]:
            del self.observed[key]

    async def time_out(self) -> TimedOut:
        """End the turns whose time is over."""
        changed = await self.meetings.time_out(TIME_OUTS)
        for meeting_id, acted in changed.meetings.items():
            self.acted(meeting_id, acted)
        return changed

    def look(self) -> None:
        """Look for changes that other processes made."""
        self.lately.look()
        self.waiters.look()
        self.readiness.look()
        self.endings.look()
        if self.selection.directed or self.runs.failures or len(self.observed) >= self._many_observed:
            self._looking.request()

    async def _review(self) -> None:
        """Choose speakers where it is due, and forget the meetings that ended elsewhere, with one query."""
        await self.selection.take_chairs()
        meeting_ids = self.selection.directed | self.runs.failures.keys()
        if tidies := len(self.observed) >= self._many_observed:
            meeting_ids |= {meeting_id for meeting_id, _ in self.observed}
        for meeting_id, standing in (await self.records.find_standings(meeting_ids)).items():
            if standing is None or standing.status is MeetingStatus.ENDED:
                self.forget(meeting_id)
            elif standing.turn is not None and standing.turn.purpose is Purpose.SELECT:
                self.selection.select(meeting_id)
        if tidies:
            self._many_observed = max(MANY_OBSERVED, 2 * len(self.observed))

    async def aclose(self, timeout: float) -> None:
        """Release the callers that wait."""
        await self.selection.aclose()
        await self.waiters.aclose()
        await self.readiness.aclose()
        await self.endings.aclose()
        await self._looking.aclose()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def wait_for_turn(self, meeting_id: str, agent: AgentName) -> Standing:
        """Wait until the agent has the turn, the meeting has ended, or the agent is no longer in it.

        Raises:
            MeetingNotFoundError: There is no such meeting (any more).
            NotInitializedError: The SDK was closed meanwhile.
        """
        with self.waiters.expect((meeting_id, agent.id), about=meeting_id) as called:
            owner = self.presence.process_id
            if not self.lately.is_waiting(meeting_id, agent.id, owner):
                standing = await self.meetings.sit(meeting_id, agent.id, owner=owner)
                if standing is None:
                    raise MeetingNotFoundError(meeting_id=meeting_id)
                self.lately.sat(meeting_id, agent.id, owner)
                if holds_turn(standing, agent.id) or is_out(standing):
                    self.waiters.hint([(meeting_id, agent.id)])  # the look brings along what was said
            return await called

    async def _find(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Standing | None]:
        return await self.meetings.find_standings(keys, called=True, recent=RECENT)

    async def _find_ready(self, meeting_ids: list[str]) -> dict[str, Standing | None]:
        found = await self.records.find_standings(meeting_ids)
        return {
            meeting_id: standing
            for meeting_id, standing in found.items()
            if standing is None or standing.status is not MeetingStatus.CREATED
        }

    async def _find_ended(self, meeting_ids: list[str]) -> dict[str, Standing | None]:
        found = await self.records.find_standings(meeting_ids)
        return {id: one for id, one in found.items() if one is None or one.status is MeetingStatus.ENDED}

    # --- turns that were shown ----------------------------------------------------------------------------------------

    async def open_turn(self, meeting_id: str, agent: AgentName, standing: Standing) -> Turn:
        """Show an agent its turn, or the end, with what was said since its last speech."""
        turn = standing.turn if holds_turn(standing, agent.id) else None
        if turn is not None:
            self.show(meeting_id, agent.id, turn.number)
        else:
            self.observed.pop((meeting_id, agent.id), None)
            self.forget(meeting_id)
        said, noted = await self.records.describe_apart(standing.said)
        return Turn(
            number=None if turn is None else turn.number,
            deadline=None if turn is None else turn.deadline_at,
            messages=tuple(said),
            has_ended=turn is None,
            notes=tuple(noted),
        )

    def show(self, meeting_id: str, agent_id: str, number: int) -> None:
        """Bind the agent's acts here to this turn, which it is shown."""
        self.observed[meeting_id, agent_id] = max(number, self.last_shown(meeting_id, agent_id) or 0)

    def last_shown(self, meeting_id: str, agent_id: str) -> int | None:
        """Return the turn to which the agent's acts here are bound."""
        return self.observed.get((meeting_id, agent_id))

    def used(self, meeting_id: str, agent_id: str, number: int | None) -> None:
        """Free the agent's acts from this turn, which it has used, and older ones. A newer one may have been shown."""
        if number is not None and self.observed.get((meeting_id, agent_id), number + 1) <= number:
            del self.observed[meeting_id, agent_id]


def holds_turn(standing: Standing, agent_id: str) -> bool:
    """Whether the agent may speak."""
    turn = standing.turn
    return turn is not None and turn.agent_id == agent_id and turn.purpose is Purpose.SPEAK


def is_out(standing: Standing) -> bool:
    """Whether the agent will never have the turn (again): the meeting has ended, or it is not in it."""
    return standing.status is MeetingStatus.ENDED or standing.seat is None or standing.seat == "left"
