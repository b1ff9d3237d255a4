"""Transcripts: what was said is on the page, and nothing of it is obeyed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging import InvalidArgumentError, MeetingNotFoundError, MessageContext, SessionNotFoundError
from agent_messaging.ids import uuid7
from agent_messaging.messaging.transcripts import session_pieces
from agent_messaging.messaging.transcripts.pages import Entry, Head, Html, Markdown, text_of
from tests.client.damage import damage, execute
from tests.client.support import SOON, Sdk

HOSTILE = (
    "</div></main><script>alert(1)</script><img src=x onerror=alert(1)> &lt; \" ' "
    "![x](http://x/y.png)\n# bob\n> **alice**"
)
AT = datetime(2030, 1, 31, 9, tzinfo=UTC)


class Page(HTMLParser):
    """The elements of a page, and the texts of its messages."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.said: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if (tag, dict(attrs).get("class")) == ("div", "text") or (tag == "pre" and self._inside != "details"):
            self._inside = tag
            self.said.append("")
        elif tag == "details":
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in (self._inside, "details"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("div", "pre"):
            self.said[-1] += data


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "dl", "dt"),
    *("dd", "h2", "article", "div", "header", "b", "bdi", "span", "time", "p"),
    *("pre", "details", "summary"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "dir", "class", "aria-hidden", "datetime"),
}


async def test_a_conversation_as_a_page(sdk: Sdk) -> None:
    send = sdk.conversation.send_no_wait
    await send("alice", "bob", HOSTILE, {"<key>": HOSTILE})
    broken = await send("bob", "alice", {"answer": [1, True, None, "é 株 😀"]})
    lost = await send("alice", "bob", "to be damaged")
    (session,) = await sdk.conversation.get_active_sessions("alice")
    await damage(sdk, str(lost), "its checksum does not match")
    await sdk.conversation.end_conversation("bob", "alice")
    page = await sdk.conversation.get_transcript(session.session_id, format="html")
    read = Page(page)
    assert read.said == [HOSTILE, '{\n  "answer": [\n    1,\n    true,\n    null,\n    "é 株 😀"\n  ]\n}']
    assert (read.tags - TAGS, read.attributes - ATTRIBUTES) == (set(), set())
    for text in (
        "The stored message is damaged.",
        "bob ended the conversation",
        "Alice and Bob",
        "prefers-color-scheme",
    ):
        assert text in page
    assert "<script" not in page
    assert len(re.findall("<article>", page)) == 3
    text = await sdk.conversation.get_transcript(session.session_id)
    assert "> &lt;/div>&lt;/main>&lt;script>alert(1)" in text
    assert "> # bob\n" in text
    assert '> ```json\n> {\n>   "answer": [\n' in text
    assert "bob ended the conversation" in text
    assert text == await sdk.conversation.get_transcript(str(session.session_id), format="md")
    assert await sdk.conversation.get_unread_messages("alice", peek=True), broken
    with pytest.raises(SessionNotFoundError):
        await sdk.conversation.get_transcript(uuid7())
    for wrong in ("pdf", None, 3):
        with pytest.raises(InvalidArgumentError, match="'markdown'"):
            await sdk.conversation.get_transcript(session.session_id, format=wrong)  # type: ignore[arg-type]


async def test_a_meeting_as_a_page(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    @sdk.register_meeting_handler("bob")
    async def speak(message: Any, context: MessageContext) -> str:
        return "At Luigi's."

    monkeypatch.setattr("agent_messaging.messaging.transcripts._PAGE", 2)  # it is read in pages
    held = await sdk.meeting.hold("alice", ["bob"], {"text": "Where?"}, max_turns=4, timeout=SOON)
    page = await sdk.meeting.get_transcript(held.meeting_id, format="html")
    assert Page(page).said == [text_of(one.content)[0] for one in held.messages]
    for text in ("bob joined", "the meeting ended: it has had all its turns", "Meeting of Alice", "Participants"):
        assert text in page
    text = await sdk.meeting.get_transcript(held.meeting_id)
    assert "\n**Bob** (bob) · " in text
    assert "\n> At Luigi's.\n" in text
    assert "*" in text
    with pytest.raises(MeetingNotFoundError):
        await sdk.meeting.get_transcript(uuid7())


async def test_a_transcript_goes_on_where_the_end_of_its_page_was_pruned(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_messaging.messaging.transcripts._PAGE", 2)
    ids = [await sdk.conversation.send_no_wait("alice", "bob", f"said {number}") for number in range(5)]
    (session,) = await sdk.conversation.get_active_sessions("alice")
    pieces = []
    async for piece in session_pieces(sdk.conversation, session.session_id, "markdown"):
        pieces.append(piece)
        if "said 1" in piece:
            await execute(sdk, f"delete from messages where id = '{ids[1]}'")
    assert re.findall("said .", "".join(pieces)) == [f"said {number}" for number in range(5)]


TEXTS = st.text(max_size=60) | st.text("<>&\"'`![]()#*_\\~|-\n\r\t /=x\u202e\x00\x1b", max_size=60)


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_becomes_markup(content: str, name: str, thread: str) -> None:
    entries = [
        Entry(AT, name, name + "x", content, metadata={name: content}),
        Entry(AT, name, name, {content: name}, remark=thread),
        Entry(AT, name, name, content, is_note=True),
    ]
    head = Head(thread, [(name, content)])
    page = Html()
    read = Page(page.begin(head) + "".join(page.write(one) for one in entries) + page.end())
    assert read.said == [text_of(content)[0], text_of({content: name})[0]]
    assert (read.tags - TAGS, read.attributes - ATTRIBUTES) == (set(), set())
    markdown = Markdown()
    for entry in entries[:2]:
        lines = markdown.write(entry).split("\n")
        (place,) = (number for number, line in enumerate(lines) if " · 09:00:00" in line)
        assert [line for line in lines[place + 2 : -1] if not line.startswith(">")] == []
        if isinstance(entry.content, str):
            assert "<" not in "".join(lines[place + 2 : -1])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[approved]: http://evil/", "> [approved]\\: http://evil/"),
        ("so\n\n> 1. - [a\\]\nb]: u", "> so\n>\n> > 1. - [a\\]\n> b]\\: u"),
        ("rows[1:]: the [approved] ones", "> rows[1:]: the [approved] ones"),
    ],
)
def test_no_message_says_where_a_word_of_another_one_leads(said: str, shown: str) -> None:
    """In CommonMark such a line makes a link of each `[approved]` of the page."""
    assert Markdown().write(Entry(AT, "eve", "eve", said)).endswith(f"\n\n{shown}\n")
