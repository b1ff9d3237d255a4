"""One agent interviews another: each question is asked and its answer waited for, then the conversation is ended.

Run: python examples/interview.py
"""

import asyncio

from pydantic import BaseModel

from agent_messaging import AgentMessaging, MessageContext, register_conversation_handler


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str
    confidence: float


KNOWN = {"Which languages do you speak?": "Python and SQL", "When can you start?": "On Monday"}


@register_conversation_handler(agent="candidate")
async def on_question(question: Question, context: MessageContext) -> Answer:
    if question.text in KNOWN:
        return Answer(text=KNOWN[question.text], confidence=1.0)
    return Answer(text="I would have to look that up", confidence=0.2)


async def main() -> None:
    async with AgentMessaging[dict[str, str], Question, dict[str, str]]() as sdk:
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("interviewer", "acme", "Interviewer")
        await sdk.register_agent("candidate", "acme", "Candidate")
        for text in (*KNOWN, "What is our revenue?"):
            answer = await sdk.conversation.send_and_wait(
                "interviewer", "candidate", Question(text=text), timeout=30, response_type=Answer
            )
            print(f"{text} {answer.text} ({answer.confidence:.0%} sure).")
        [session] = await sdk.conversation.get_active_sessions("interviewer")
        await sdk.conversation.end_conversation("interviewer", "candidate")
        info = await sdk.conversation.get_session_info(session.session_id)
        print(f"{info.status.value} after {info.message_count} messages")


if __name__ == "__main__":
    asyncio.run(main())
