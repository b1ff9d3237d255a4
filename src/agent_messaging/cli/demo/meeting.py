"""The demo's meeting: three agents, one of whom is silent, and nobody who waits for it."""

from __future__ import annotations

from typing import Any

from ... import AgentMessaging, TurnEnd
from ..output import clean
from .crew import DemoFailure
from .stage import Stage, bold
from .store import LINES, SENDER

SPEAKER, SILENT = "bob", "carol"
TURN = 1.0
"""Seconds."""
PATIENCE = 30.0


async def hold(stage: Stage, sdk: AgentMessaging[Any]) -> float:
    """Hold the meeting; the seconds after which the silent one lost its turn.

    Raises:
        DemoFailure: It did not go as promised.
    """
    stage.act(5, "A meeting, in which one is silent")
    meeting = sdk.meeting
    # It ends with the host's second turn: the speaker's handler is at hand, and would begin another round.
    id = await meeting.create_meeting(SENDER, [SPEAKER, SILENT], turn_duration=TURN, max_turns=4)
    await meeting.wait_until_ready(id, timeout=PATIENCE)
    stage.say(f"   {SENDER} invites {SPEAKER} and {SILENT}: turns of {TURN:g} s; the other process attends")
    await meeting.start_meeting(SENDER, id, {"text": "Do we release today?"})
    turn = await meeting.wait_for_turn(SENDER, id, timeout=PATIENCE)
    await meeting.speak(SENDER, id, {"text": "Then we release."}, turn=turn)
    for message in await meeting.get_meeting_history(id):
        if message.message_type.value == "user_defined":
            stage.say(f"     {message.sender + ':':<7} {clean(message.content['text'])}")
        elif message.message_type.value == "timeout":
            stage.say(f"     {message.content['timed_out_agent'] + ':':<7} (silent)")
    turns = (await meeting.get_turn_statistics(id)).turns
    went = [(one.agent_id, one.how) for one in turns]
    spoke = TurnEnd.SPOKE
    if went != [(SENDER, spoke), (SPEAKER, spoke), (SILENT, TurnEnd.TIMED_OUT), (SENDER, spoke)]:
        raise DemoFailure(f"The turns went {', '.join(f'{agent} {how}' for agent, how in went)}.")
    said = [message.content["text"] for message in turn.messages]
    if said != [LINES[SPEAKER]]:
        raise DemoFailure(f"{SENDER} was shown {said}.")
    seconds = float(turns[2].duration_seconds)
    stage.done(f"{SILENT} lost the turn after {bold(f'{seconds:.2f} s')}, once; the meeting went on by itself")
    return seconds
