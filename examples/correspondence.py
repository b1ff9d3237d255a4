"""Two agents correspond: nobody waits for an answer, each reads its mail when it likes; a third is told when mail came.

Run: python examples/correspondence.py
"""

import asyncio
from typing import Any

from agent_messaging import AgentMessaging, MessageContext, register_message_notification_handler


@register_message_notification_handler(agent="author")
async def on_mail(message: dict[str, Any], context: MessageContext) -> None:
    print(f"(the author's phone: mail from {context.sender_id})")


async def review(sdk: AgentMessaging) -> None:
    """The editor's day: it waits for drafts, and writes back when it is through with one."""
    while draft := await sdk.conversation.wait_for_message("editor", "author", timeout=1):
        remark = "Fine." if draft["chapter"] > 1 else "Shorter, please."
        await sdk.conversation.send_no_wait("editor", "author", {"chapter": draft["chapter"], "remark": remark})


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("press", "Press")
        await sdk.register_agent("author", "press", "Author")
        await sdk.register_agent("editor", "press", "Editor")
        for chapter in (1, 2):
            await sdk.conversation.send_no_wait("author", "editor", {"chapter": chapter})
        await review(sdk)
        mail = await sdk.conversation.get_unread_messages("author")
        print(", ".join(f"chapter {letter['chapter']}: {letter['remark']}" for letter in mail))


if __name__ == "__main__":
    asyncio.run(main())
