"""Three agents brainstorm, one after the other; the meeting ends when a whole round brings nothing new.

Run: python examples/brainstorming.py
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from agent_messaging import AgentMessaging, MessageContext, Record

IDEAS = {
    "designer": ["a map", "a song", None],
    "engineer": ["a faster index", "a map", None],
    "seller": ["a discount", None, None],
}
"""What comes to the mind of each, turn by turn. A language model would read what was said, and answer."""


def seat(sdk: AgentMessaging, name: str, ideas: list[str | None]) -> None:
    """Let an agent say what comes to its mind; nothing new passes the turn on."""
    left = iter(ideas)

    @sdk.register_meeting_handler(name)
    async def think(message: object, context: MessageContext) -> dict[str, str] | None:
        idea = next(left, None)
        return None if idea is None else {"idea": idea}


def round_and_round(names: list[str]) -> Callable[[Record], str | None]:
    """A function that chooses the speakers, in the moderator's process; None ends the meeting."""
    heard = silent = 0

    def choose(meeting: Record) -> str | None:
        nonlocal heard, silent
        silent = silent + 1 if len(meeting.messages) == heard else 0
        heard = len(meeting.messages)
        last = meeting.last_speaker
        following = (names.index(last) + 1) % len(names) if last in names else 0
        return names[following] if silent < len(names) else None

    return choose


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("moderator", *IDEAS):
            await sdk.register_agent(agent, "acme", agent.title())
        for agent, ideas in IDEAS.items():
            seat(sdk, agent, list(ideas))
        transcript = await sdk.meeting.hold(
            "moderator",
            list(IDEAS),
            {"question": "How do people find our shop?"},
            speaker_selection=round_and_round(list(IDEAS)),
            max_turns=50,
        )
        votes = Counter(said.content["idea"] for said in transcript.messages if "idea" in said.content)
        for idea, number in votes.most_common():
            print(f"{number} for {idea}")
        print(f"{transcript.reason} after {transcript.turns} turns")


if __name__ == "__main__":
    asyncio.run(main())
