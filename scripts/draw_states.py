"""Draw the state machines, and write the page that shows them: docs/state-machines.md and docs/states/*.svg.

    python scripts/draw_states.py            write them
    python scripts/draw_states.py --check    fail if one of them is not what would be written

The states are those of `agent_messaging.states`. Where the code has a table of moves (what the end of a claim does), the
moves are compared with it here; a test compares all of them with what a store does (tests/sqlite/test_state_machines.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import hypot
from pathlib import Path
from xml.sax.saxutils import escape

from agent_messaging.states import AskState, DeliveryState, MeetingStatus, SessionStatus, TaskState, TurnEnd
from agent_messaging.storage.ports import Settling
from agent_messaging.storage.workload import End

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "state-machines.md"
FOLDER = ROOT / "docs" / "states"
START = "(new)"
"""What stands for no state yet."""
HEIGHT = 36
ROUND = 10
Point = tuple[float, float]


@dataclass(frozen=True)
class Move:
    """One way from a state to another.

    Attributes:
        source: The state before, a group of them, or `START`.
        target: The state after.
        label: What stands beside the arrow.
        when: What the table says of it.
        via: The corners of the arrow; none: it is straight.
        shift: How far a straight arrow is moved aside, so that two between the same states are apart.
        at: Where the label stands; none: over the middle of the arrow.
        dot: Of one from `START`, where it begins.
    """

    source: str
    target: str
    label: str
    when: str
    via: tuple[Point, ...] = ()
    shift: float = 0
    at: Point | None = None
    dot: Point | None = None


@dataclass(frozen=True)
class Group:
    """Several states from which the same moves lead; the frame around them is at `corner`, of this size."""

    name: str
    members: tuple[str, ...]
    corner: Point
    size: Point


@dataclass(frozen=True)
class Machine:
    """The states of one noun and its moves."""

    name: str
    title: str
    text: str
    size: Point
    places: dict[str, Point]
    moves: tuple[Move, ...]
    finals: frozenset[str] = field(default_factory=frozenset)
    after: str = ""
    """What the page says below the table."""
    groups: tuple[Group, ...] = ()

    def members(self, name: str) -> tuple[str, ...]:
        """The states of a group; a state is the only one of its own."""
        return next((group.members for group in self.groups if group.name == name), (name,))

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """The moves without their words."""
        return {(source, move.target) for move in self.moves for source in self.members(move.source)}


def _fan(source: str, ends: list[tuple[str, str, str]], dx: float, places: dict[str, Point]) -> Iterator[Move]:
    """Arrows from one state to a column of others; the labels stand before the arrows' heads."""
    for target, label, when in ends:
        x, y = places[target]
        via = () if y == places[source][1] else ((x - dx, y),)
        yield Move(source, target, label, when, via, at=(x - dx + 10 + 3.2 * len(label), y - 7))


_D = DeliveryState
_DELIVERY = Machine(
    "delivery",
    "Delivery",
    "The duty to have one message handled by one agent. A *claim* is a lease of one process, with a token that rises by "
    "one at each claim; only the newest token can settle. The states are in the column `state` of the table "
    "[`deliveries`](schema.md#deliveries), and `sdk.receipts.get(id)` shows them.",
    (900, 470),
    {_D.QUEUED: (190, 210), _D.CLAIMED: (480, 210), _D.DONE: (780, 120), _D.DEAD: (780, 300), _D.EXPIRED: (480, 390), _D.WITHDRAWN: (190, 390)},
    (
        Move(START, _D.QUEUED, "stored", "It is stored, and nothing was free to run it at once.", dot=(50, 210), at=(92, 202)),
        Move(START, _D.CLAIMED, "stored and claimed", "It is stored by a process that serves its agent and has a free slot; nothing older of its lane waits.", dot=(480, 120), at=(480, 110)),
        Move(START, _D.DONE, "the answer of an ask", "It is what an asker waits for: the asker has it, and no handler runs.", dot=(868, 60), via=((820, 60),), at=(800, 52)),
        Move(_D.QUEUED, _D.CLAIMED, "claimed", "A process with a free slot, a call of `receive`, or the exchange of a settlement for the next claim.", shift=-13, at=(335, 190)),
        Move(_D.CLAIMED, _D.QUEUED, "to be tried again", "Its handler failed and has attempts left; it was given back uncounted; or its process died, or ran over the claim's end.", shift=-13, at=(335, 242)),
        Move(_D.CLAIMED, _D.DONE, "handled", "Its handler returned, or `done()`.", at=(625, 150)),
        Move(_D.CLAIMED, _D.DEAD, "failed for good", "The last attempt failed, the payload does not fit, `reject()`, or the handler of an ask raised.", at=(625, 268)),
        Move(_D.CLAIMED, _D.WITHDRAWN, "its turn ended", "The turn for which its handler ran ended otherwise.", at=(268, 342)),
        Move(_D.QUEUED, _D.DONE, "read, or answered", "Its agent's own code read it, or answered it, before a handler ran.", via=((190, 70), (760, 70)), at=(420, 62)),
        Move(_D.QUEUED, _D.EXPIRED, "too late", "`expires_in` has passed, or its asker waits no more; the run of an ask that was given up goes back first, and then expires.", at=(388, 336)),
        Move(_D.QUEUED, _D.WITHDRAWN, "taken back", "`receipts.withdraw`, or an invitation to a meeting that has begun or ended.", at=(190, 308)),
        Move(_D.DONE, _D.QUEUED, "given back", "The call that read it was cancelled, or failed, in the instant in which it took it.", via=((780, 28), (165, 28)), at=(420, 20)),
        Move(_D.DONE, _D.DEAD, "damaged", "What was read turned out not to fit its checksum.", at=(780, 212)),
        Move(_D.DEAD, _D.QUEUED, "redriven", "`dead_letters.redrive`: with all its attempts.", via=((780, 446), (70, 446), (70, 222)), at=(630, 438)),
    ),
    frozenset({_D.DONE, _D.DEAD, _D.EXPIRED, _D.WITHDRAWN}),
)  # fmt: skip

_A = AskState
_ASK_PLACES: dict[str, Point] = {
    _A.OPEN: (240, 170), _A.REPLIED: (660, 50), _A.TIMED_OUT: (660, 110), _A.ENDED: (660, 170), _A.FAILED: (660, 230), _A.CANCELLED: (660, 290),
}  # fmt: skip
_ASK = Machine(
    "ask",
    "Ask",
    "A message whose sender waits. It ends once, by one guarded update in the store: whoever loses a race reports what the "
    "row says. [Conversations](guide/conversations.md#asking) says what the asker gets at each end.",
    (780, 340),
    _ASK_PLACES,
    (
        Move(START, _A.OPEN, "asked", "`send_and_wait`, `ask` or `ask_many` stored it.", dot=(60, 170), at=(125, 162)),
        Move(START, _A.REPLIED, "in one commit", "It is stored in one commit with its answer: two agents play by asks alone, and their calls were stored together.", dot=(660, 8), at=(712, 20)),
        *_fan(_A.OPEN, [
            (_A.REPLIED, "answered", "The run that has it returned, or `reply`, or the next message of an agent whose own code has read it."),
            (_A.TIMED_OUT, "deadline", "Its timeout has passed; a later answer is an unread message."),
            (_A.ENDED, "conversation ended", "One of the two called `end_conversation`."),
            (_A.FAILED, "became a dead letter", "Its handler raised, or its process died again and again."),
            (_A.CANCELLED, "given up", "The asker was cancelled or its process died, and the ask has no idempotency key; `first=` of `ask_many` was reached; or the message was withdrawn."),
        ], 235, _ASK_PLACES),
    ),
    frozenset({_A.REPLIED, _A.TIMED_OUT, _A.ENDED, _A.FAILED, _A.CANCELLED}),
    "Passing on (`forward`) is no move: the ask stays open under its id, as a message of another agent. A dead letter "
    "that is redriven is handled again, and its ask stays failed: what the run returns is an unread message.",
)  # fmt: skip

_S = SessionStatus
_SESSION = Machine(
    "session",
    "Session",
    "One conversation of two agents in one thread. The row has only its beginning and its end; `waiting` is what it is while "
    "one of its asks is open, and `locked_agent_id` is the side that began to wait first. That is the whole of the locking: "
    "a second ask of the same side in the same thread is refused (`SessionLockError`) or queues (`wait_for_session=True`), "
    "and no lock is held that a crash could leave behind.",
    (780, 250),
    {_S.ACTIVE: (230, 120), _S.WAITING: (480, 120), _S.ENDED: (690, 120)},
    (
        Move(START, _S.ACTIVE, "first message", "`send_no_wait` finds no open session of the two in the thread.", dot=(50, 120), at=(112, 112)),
        Move(START, _S.WAITING, "first message is an ask", "`send_and_wait` finds none.", dot=(50, 40), via=((480, 40),), at=(250, 32)),
        Move(_S.ACTIVE, _S.WAITING, "one side asks", "An ask of one of the two is stored.", shift=-13, at=(355, 100)),
        Move(_S.WAITING, _S.ACTIVE, "its asks ended", "Answered, timed out, failed or given up.", shift=-13, at=(355, 152)),
        Move(_S.WAITING, _S.ENDED, "ended", "`end_conversation`: who waits gets `ConversationEndedError`.", at=(588, 112)),
        Move(_S.ACTIVE, _S.ENDED, "ended, or its run is over", "`end_conversation`; or the session was named after a message that a handler ran for, and that has ended.", via=((230, 215), (690, 215)), at=(460, 207)),
    ),
    frozenset({_S.ENDED}),
    "An ended session stays ended: the next message opens another one.",
)  # fmt: skip

_M = MeetingStatus
_MEETING = Machine(
    "meeting",
    "Meeting",
    "[Meetings](guide/meetings.md) has the calls. Each act is judged by one pure function, "
    "`storage/assembly/rules.py`, on both stores.",
    (860, 250),
    {_M.CREATED: (190, 110), _M.READY: (400, 110), _M.ACTIVE: (590, 110), _M.ENDED: (780, 110)},
    (
        Move(START, _M.CREATED, "created", "`create_meeting` with somebody to invite.", dot=(50, 110), at=(98, 102)),
        Move(START, _M.READY, "nobody is invited", "`create_meeting` without participants.", dot=(50, 36), via=((400, 36),), at=(220, 28)),
        Move(_M.CREATED, _M.READY, "all attend", "The last one who was invited attends, or leaves, or is removed.", shift=-13, at=(295, 90)),
        Move(_M.READY, _M.CREATED, "one does not", "`update_participant_status` puts a participant back to invited.", shift=-13, at=(295, 142)),
        Move(_M.READY, _M.ACTIVE, "started", "`start_meeting` of its host.", at=(495, 102)),
        Move(_M.ACTIVE, _M.ENDED, "ended", "`end_meeting`, or one of its bounds: `max_turns`, `max_duration`, `end_when`, nobody is left to speak.", at=(685, 102)),
        Move(_M.READY, _M.ENDED, "", "`end_meeting` before it has begun.", via=((400, 185), (760, 185))),
        Move(_M.CREATED, _M.ENDED, "ended before it began", "`end_meeting` before everybody attends.", via=((190, 215), (790, 215)), at=(480, 207)),
    ),
    frozenset({_M.ENDED}),
)  # fmt: skip

CURRENT = "current"
"""A turn without an end. It is no word of the store: there the column `how` is empty."""
_T = TurnEnd
_TURN_PLACES: dict[str, Point] = {CURRENT: (240, 200), **{end: (660, 50 + 60 * place) for place, end in enumerate(_T)}}
_TURN = Machine(
    "turn",
    "Turn",
    "A turn of a meeting is a row with a number, a holder and a deadline. One turn of an active meeting is current; it ends "
    "once, in the commit that begins the next one, and an act under an older number is refused.",
    (780, 400),
    _TURN_PLACES,
    (
        Move(START, CURRENT, "begun", "The meeting has started, or the turn before has ended.", dot=(60, 200), at=(122, 192)),
        Move(START, _T.SPOKE, "an opening", "The host started the meeting with an opening message, which is turn 1.", dot=(660, 8), at=(706, 20)),
        *_fan(CURRENT, [
            (_T.SPOKE, "speak", "Its holder spoke, or its turn handler returned something."),
            (_T.PASSED, "pass", "`pass_turn`; its turn handler returned `None` or raised; or, in a turn for choosing, the host's process has chosen."),
            (_T.TIMED_OUT, "deadline", "The first process that looks ends it, once."),
            (_T.SKIPPED, "host", "`skip_turn` of the host."),
            (_T.LEFT, "left", "Its holder left, was removed, or its agent was deregistered."),
            (_T.MEETING_ENDED, "meeting ended", "The meeting ended in the middle of it."),
        ], 235, _TURN_PLACES),
    ),
    frozenset(_T),
)  # fmt: skip

_K = TaskState
_HELD = Group("held", (_K.ASSIGNED, _K.RUNNING), (330, 80), (150, 250))
_OPEN = Group("open", (_K.QUEUED, _K.ASSIGNED, _K.RUNNING), (70, 50), (440, 300))
_TASK = Machine(
    "task",
    "Task",
    "[Handing out work](guide/tasks.md) has the calls. A task is pulled by a worker that has room, or booked for one by a "
    "supervisor. The end of a claim is decided by one table, `End` in `storage/workload.py`, for SQLite, PostgreSQL and Redis.",
    (860, 440),
    {_K.QUEUED: (160, 200), _K.ASSIGNED: (405, 130), _K.RUNNING: (405, 270), _K.DONE: (750, 130), _K.FAILED: (750, 230), _K.CANCELLED: (750, 310), _K.EXPIRED: (750, 370)},
    (
        Move(START, _K.QUEUED, "delegated", "`delegate`, `map`, or a schedule.", dot=(160, 22), at=(204, 40)),
        Move(START, _K.ASSIGNED, "assigned", "`assign_task` found a worker and booked it.", dot=(405, 22), at=(445, 40)),
        Move(_K.QUEUED, _K.ASSIGNED, "booked again", "A task that lost its worker is booked for another.", shift=-11, at=(255, 136)),
        Move(_K.ASSIGNED, _K.QUEUED, "lost its worker", "Its worker is dead or late, and it has attempts left.", shift=-11, at=(300, 190)),
        Move(_K.QUEUED, _K.RUNNING, "pulled", "A worker with room takes it.", shift=-11, at=(300, 222)),
        Move(_K.RUNNING, _K.QUEUED, "again", "It failed and has attempts left; or its process died, stopped, or took too long.", shift=-11, at=(265, 270)),
        Move(_K.ASSIGNED, _K.RUNNING, "begun", "The worker for which it was booked pulls.", at=(405, 204)),
        Move("held", _K.DONE, "result", "Its handler returned; or its worker reported the result by a message.", via=((480, 130),), at=(600, 122)),
        Move("held", _K.FAILED, "failed for good", "It failed, or was lost, at its last attempt; or its error is not worth another.", via=((480, 230),), at=(600, 222)),
        Move("open", _K.CANCELLED, "cancelled", "`cancel`; a run is told.", via=((510, 310),), at=(600, 302)),
        Move("open", _K.EXPIRED, "deadline", "Its `deadline` has passed; a run is told.", via=((440, 350), (440, 370)), at=(600, 362)),
        Move(_K.FAILED, _K.QUEUED, "redriven", "`redrive`: with all its attempts.", via=((835, 230), (835, 415), (40, 415), (40, 200)), at=(300, 407)),
    ),
    frozenset({_K.DONE, _K.FAILED, _K.CANCELLED, _K.EXPIRED}),
    groups=(_OPEN, _HELD),
)  # fmt: skip

MACHINES = (_DELIVERY, _ASK, _SESSION, _MEETING, _TURN, _TASK)
STATES: dict[str, type[StrEnum]] = {
    "delivery": DeliveryState, "ask": AskState, "session": SessionStatus, "meeting": MeetingStatus, "turn": TurnEnd, "task": TaskState,
}  # fmt: skip

STYLE = """
  svg { font: 13px system-ui, sans-serif; }
  .paper { fill: #ffffff; } .state { fill: #ddf4ff; stroke: #0969da; } .final { fill: #eaeef2; stroke: #59636e; }
  .text { fill: #1f2328; } .label { fill: #1f2328; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  .arrow { fill: none; stroke: #59636e; stroke-width: 1.5; } .head, .dot { fill: #59636e; }
  .group { fill: none; stroke: #818b98; stroke-dasharray: 5 4; } .quiet { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; } .state { fill: #0c2d6b; stroke: #58a6ff; } .final { fill: #21262d; stroke: #9198a1; }
    .text { fill: #f0f6fc; } .label { fill: #f0f6fc; stroke: #0d1117; }
    .arrow { stroke: #9198a1; } .head, .dot { fill: #9198a1; }
    .group { stroke: #656c76; } .quiet { fill: #9198a1; }
  }
"""


def _half_width(state: str) -> float:
    return max(36.0, 4.0 * len(state) + 14)


def _box(machine: Machine, name: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a state or a group."""
    for group in machine.groups:
        if group.name == name:
            (x, y), (width, height) = group.corner, group.size
            return x, y, x + width, y + height
    x, y = machine.places[name]
    return x - _half_width(name), y - HEIGHT / 2, x + _half_width(name), y + HEIGHT / 2


def _leave(box: tuple[float, float, float, float], inner: Point, outer: Point) -> Point:
    """Where the line from within a box to a point outside cuts its edge."""
    left, top, right, bottom = box
    if left < outer[0] < right and not top <= outer[1] <= bottom:
        return outer[0], top if outer[1] < top else bottom
    if top < outer[1] < bottom and not left <= outer[0] <= right:
        return left if outer[0] < left else right, outer[1]
    dx, dy = outer[0] - inner[0], outer[1] - inner[1]
    parts = [1.0]
    if dx:
        parts.append(((right if dx > 0 else left) - inner[0]) / dx)
    if dy:
        parts.append(((bottom if dy > 0 else top) - inner[1]) / dy)
    part = min(one for one in parts if one > 0)
    return inner[0] + dx * part, inner[1] + dy * part


def _points(machine: Machine, move: Move) -> list[Point]:
    """The corners of an arrow, from edge to edge."""
    end = machine.places[move.target]
    if move.source == START:
        assert move.dot is not None
        return [move.dot, *move.via, _leave(_box(machine, move.target), end, (move.via or (move.dot,))[-1])]
    source = _box(machine, move.source)
    begin = machine.places.get(move.source, ((source[0] + source[2]) / 2, (source[1] + source[3]) / 2))
    if move.source not in machine.places:  # of a group: from the place on its frame that the first corner names
        return [*move.via, _leave(_box(machine, move.target), end, move.via[-1])]
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    away = move.shift / hypot(dx, dy)
    begin, end = (begin[0] - dy * away, begin[1] + dx * away), (end[0] - dy * away, end[1] + dx * away)
    first, last = (move.via or (end,))[0], (move.via or (begin,))[-1]
    return [_leave(source, begin, first), *move.via, _leave(_box(machine, move.target), end, last)]


def _arrow(points: list[Point]) -> Iterator[str]:
    """The line with round corners, and its head."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        cut = []
        for other in (before, after):
            far = hypot(other[0] - corner[0], other[1] - corner[1])
            part = min(ROUND, far / 2) / far
            cut.append((corner[0] + (other[0] - corner[0]) * part, corner[1] + (other[1] - corner[1]) * part))
        path += f"L{cut[0][0]:.1f} {cut[0][1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {cut[1][0]:.1f} {cut[1][1]:.1f}"
    (x0, y0), (x, y) = points[-2:]
    far = hypot(x - x0, y - y0)
    ux, uy = (x - x0) / far, (y - y0) / far
    back = (x - 9 * ux, y - 9 * uy)
    yield f'<path class="arrow" d="{path}L{back[0]:.1f} {back[1]:.1f}"/>'
    wings = " ".join(f"{back[0] - side * uy:.1f},{back[1] + side * ux:.1f}" for side in (4.5, -4.5))
    yield f'<polygon class="head" points="{x:.1f},{y:.1f} {wings}"/>'


def draw(machine: Machine) -> str:
    """The machine as SVG, light or dark as its reader's system is."""
    width, height = machine.size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{machine.title}: its states and the moves between them">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="6"/>',
    ]
    for group in machine.groups:
        (x, y), (w, h) = group.corner, group.size
        lines.append(f'<rect class="group" x="{x}" y="{y}" width="{w}" height="{h}" rx="8"/>')
        lines.append(f'<text class="quiet" x="{x + 8}" y="{y + h - 8}">{group.name}</text>')
    labels = []
    for move in machine.moves:
        if move.dot is not None:
            lines.append(f'<circle class="dot" cx="{move.dot[0]}" cy="{move.dot[1]}" r="5"/>')
        points = _points(machine, move)
        lines += _arrow(points)
        if move.label:
            middle = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairwise(points)][(len(points) - 1) // 2]
            x, y = move.at or middle
            labels.append(
                f'<text class="label" x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(move.label)}</text>'
            )
    for state in machine.places:
        left, top, right, bottom = _box(machine, state)
        kind = "final" if state in machine.finals else "state"
        lines.append(
            f'<rect class="{kind}" x="{left:.0f}" y="{top:.0f}" width="{right - left:.0f}" height="{bottom - top:.0f}" rx="8"/>'
        )
        x, y = machine.places[state]
        lines.append(f'<text class="text" x="{x}" y="{y + 4.5}" text-anchor="middle" font-weight="600">{state}</text>')
    return "\n".join([*lines, *labels, "</svg>", ""])


HEAD = """# State machines

What each noun of the store can be, and what moves it on. The states are the words of `agent_messaging.states`; a state with a grey frame is an end. A move is one guarded update in the store: whoever comes second finds the state gone, and changes nothing. A test records every move that a store makes, and compares it with these tables. (The import of an archive puts rows in as they were.)

This page and its drawings are written by `scripts/draw_states.py`.
"""


def page() -> str:
    """The page that shows all of them."""
    lines = [HEAD]
    for machine in MACHINES:
        lines += [f"## {machine.title}", "", machine.text, ""]
        lines += [f"![{machine.name.capitalize()}: its states and moves](states/{machine.name}.svg)", ""]
        lines += ["| from | to | when |", "|---|---|---|"]
        for move in machine.moves:
            sources = "" if move.source == START else ", ".join(f"`{one}`" for one in machine.members(move.source))
            lines.append(f"| {sources or 'new'} | `{move.target}` | {move.when} |")
        lines.append("")
        if machine.after:
            lines += [machine.after, ""]
    return "\n".join(lines).rstrip() + "\n"


def check() -> None:
    """Compare the machines with the words and the tables of the code."""
    for machine in MACHINES:
        known = set(STATES[machine.name]) | ({CURRENT} if machine is _TURN else set())
        assert set(machine.places) == known, machine.name
        named = {state for pair in machine.pairs for state in pair} - {START}
        assert named == known, machine.name
        leaving = {source for source, _ in machine.pairs}
        assert known - leaving <= machine.finals, machine.name
    for how in Settling:
        assert (DeliveryState.CLAIMED, how.state) in _DELIVERY.pairs, how
    for end in End:
        for held in (state for state in TaskState if state.is_held):
            assert (held, end.of_task) in _TASK.pairs, (held, end)
    assert {state for state in DeliveryState if state.is_final} == _DELIVERY.finals
    assert {state for state in TaskState if state.is_final} == _TASK.finals


def written() -> dict[Path, str]:
    """The text of each file."""
    check()
    return {PAGE: page(), **{FOLDER / f"{machine.name}.svg": draw(machine) for machine in MACHINES}}


def main() -> int:
    """Write the files, or compare them."""
    files = written()
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what scripts/draw_states.py writes. Run it, and commit that.")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
