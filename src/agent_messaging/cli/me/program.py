"""The program: what a person does by the keys. `screen` shows what there is."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from ...exceptions import AgentMessagingError, ConversationEndedError, ConversationTimeoutError
from ...kinds import Kind
from .forms import Confirming, Naming, Writing, Written, reason_of
from .opened import OpenMeeting
from .screen import Screen
from .words import is_text_object, one_line, plain


class Me(Screen):
    """A person as an agent."""

    # --- questions and messages ---------------------------------------------------------------------------------------

    def action_answer(self) -> None:
        """Answer the question."""
        ask = self.question
        if ask is None:
            return
        conversation, agent = self.desk.sdk.conversation, self.desk.agent

        async def answer(written: Written) -> None:
            await conversation.reply(
                agent, ask.sender_id, written.payload, message_id=ask.message_id, idempotency_key=written.key
            )

        self._write(
            ask.message_id,
            f"Answer to {ask.sender_id}",
            answer,
            f"{ask.sender_id} has your answer.",
            until=ask.deadline,
            quote=plain(ask.content),
            is_text_object=is_text_object(ask.content),
        )

    def action_refuse(self) -> None:
        """Refuse the question."""
        ask = self.question
        if ask is None:
            return
        conversation, agent = self.desk.sdk.conversation, self.desk.agent

        async def refuse(written: Written) -> None:
            await conversation.refuse(agent, ask.message_id, written.to)

        dialog = Naming(
            f"Refuse the question of {ask.sender_id}", refuse, label="Say why", verb="refuse", until=ask.deadline
        )
        self._push(dialog, f"{ask.sender_id} was told.")

    def action_forward(self) -> None:
        """Pass the question on."""
        ask = self.question
        if ask is None:
            return
        conversation, agent = self.desk.sdk.conversation, self.desk.agent

        async def forward(written: Written) -> None:
            await conversation.forward(agent, ask.message_id, written.to)

        async def names() -> list[str]:
            return [name for name in await self._read_names() if name != ask.sender_id]

        dialog = Naming(
            f"Pass on the question of {ask.sender_id}",
            forward,
            label="Name an agent",
            verb="pass on",
            names=names,
            until=ask.deadline,
        )
        self._push(dialog, "The question was passed on.")

    def action_reply(self) -> None:
        """Write to who sent the message."""
        opened = self.letter
        if opened is None:
            return
        letter = opened.letter
        is_talk = letter.kind is Kind.CONVERSATION

        async def reply(written: Written) -> None:
            if is_talk:
                await self.desk.sdk.conversation.send_no_wait(
                    self.desk.agent, letter.sender, written.payload, thread=letter.thread, idempotency_key=written.key
                )
            else:
                await self._send_note(written, letter.sender)

        self._write(
            letter.message_id,
            f"{'Message' if is_talk else 'Note'} to {letter.sender}",
            reply,
            f"Sent to {letter.sender}.",
            quote=plain(letter.content),
            is_text_object=is_text_object(letter.content),
        )

    def action_note(self) -> None:
        """Write a note."""

        async def send(written: Written) -> None:
            await self._send_note(written, written.to)

        self._write("note", "A note", send, "Sent.", names=self._read_names)

    async def _send_note(self, written: Written, to: str) -> None:
        sdk = self.desk.sdk
        # As `agent-messaging send`: it is kept for an agent that nobody serves, unless the user decided otherwise.
        required = None if "require_handler" in sdk.config.messaging.model_fields_set else False
        await sdk.one_way.send(
            self.desk.agent, to, written.payload, idempotency_key=written.key, require_handler=required
        )

    def action_ask(self) -> None:
        """Ask an agent."""

        async def ask(written: Written) -> None:
            await self.desk.sdk.get_agent(written.to)
            self.asking[written.key] = written.to
            self.run_worker(self._wait_for_answer(written), name="ask")

        self._write("ask", "A question", ask, "Asked.", names=self._read_names, is_question=True)

    async def _wait_for_answer(self, written: Written) -> None:
        ask = self.desk.sdk.conversation.send_and_wait
        try:
            answer = await ask(self.desk.agent, written.to, written.payload, written.wait, wait_for_session=True)
        except AgentMessagingError as error:
            self.say(reason_of(error), is_bad=True)
            if not isinstance(error, ConversationTimeoutError | ConversationEndedError):
                self.drafts.setdefault("ask", written.text)  # it may be asked again
        else:
            self.say(f"{written.to} answers: {one_line(answer)}")
        finally:
            del self.asking[written.key]
            self.desk.look_soon()

    # --- meetings -----------------------------------------------------------------------------------------------------

    def action_attend(self) -> None:
        """Attend the meeting."""
        if (one := self.meeting) is not None:
            self._do(self.desk.sdk.meeting.attend_meeting(self.desk.agent, one.meeting_id), "You attend.")

    def action_begin(self) -> None:
        """Begin the meeting."""
        if (one := self.meeting) is not None:
            self._do(self.desk.sdk.meeting.start_meeting(self.desk.agent, one.meeting_id), "The meeting has begun.")

    def action_pass_turn(self) -> None:
        """Pass without a word."""
        if (one := self.meeting) is not None:
            passing = self.desk.sdk.meeting.pass_turn(self.desk.agent, one.meeting_id, turn=one.turn)
            self._do(passing, "You passed.")

    def action_leave(self) -> None:
        """Leave the meeting."""
        if (one := self.meeting) is not None:
            leave = self.desk.sdk.meeting.leave_meeting
            self._confirm("Leave this meeting?", lambda: leave(self.desk.agent, one.meeting_id), "You left.")

    def action_end(self) -> None:
        """End the meeting."""
        if (one := self.meeting) is not None:
            end = self.desk.sdk.meeting.end_meeting
            self._confirm("End this meeting?", lambda: end(self.desk.agent, one.meeting_id), "The meeting has ended.")

    def action_speak(self) -> None:
        """Speak."""
        one = self.meeting
        if one is None:
            return
        meeting = OpenMeeting(self.desk, one.meeting_id)

        async def names() -> list[str]:
            with contextlib.suppress(AgentMessagingError):  # sending says it
                await meeting.load()
            return meeting.others

        async def speak(written: Written) -> None:
            await self.desk.sdk.meeting.speak(
                self.desk.agent,
                one.meeting_id,
                written.payload,
                next_speaker_external_id=written.to or None,
                turn=one.turn,
                idempotency_key=written.key,
            )

        self._write(
            f"{one.meeting_id} {one.turn}",
            f"Your turn in the meeting of {one.host_id}",
            speak,
            "You spoke.",
            until=one.turn_deadline,
            names=names,
            label="Next speaker; leave it empty for the order of the meeting",
        )

    # --- doing --------------------------------------------------------------------------------------------------------

    async def _read_names(self) -> list[str]:
        with contextlib.suppress(AgentMessagingError):  # completion then knows those from before
            await self.desk.list_names()
        return self.desk.names

    def _write(self, about: str, title: str, act: Callable[[Written], Awaitable[None]], done: str, **how: Any) -> None:
        """Have something written. What is not sent is there when the same is written again."""
        dialog = Writing(title, act, text=self.drafts.get(about, ""), **how)

        def closed(is_sent: bool | None) -> None:
            self.drafts.pop(about, None)
            if not is_sent and dialog.text.strip():
                self.drafts[about] = dialog.text

        self._push(dialog, done, closed)

    def _push(self, dialog: Writing | Naming, done: str, closed: Callable[[bool | None], None] | None = None) -> None:
        def after(is_done: bool | None) -> None:
            if closed is not None:
                closed(is_done)
            if is_done:
                self.say(done)
                self.desk.look_soon()

        self.push_screen(dialog, after)

    def _confirm(self, question: str, act: Callable[[], Awaitable[object]], done: str) -> None:
        self.push_screen(Confirming(question), lambda yes: self._do(act(), done) if yes else None)

    def _do(self, act: Awaitable[object], done: str) -> None:
        async def work() -> None:
            try:
                await act
            except AgentMessagingError as error:
                self.say(reason_of(error), is_bad=True)
            else:
                self.say(done)
            self.desk.look_soon()

        self.begin(work(), name="act")

    def action_search(self) -> None:
        """Search."""

        async def search(written: Written) -> None:
            self.found = await self.desk.search(written.to)
            self.query_text = written.to

        dialog = Naming("Search", search, label='Words, "phrases", OR, -not, begin*, from:bob', verb="search")
        self.push_screen(dialog, lambda is_done: self.action_tab("found") if is_done else None)
