"""The calls by which functions become handlers of agents and of events, in one SDK object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..arguments import check_external_id
from ..handlers.events import EventHandler, MeetingEventHandler, check_event_type
from ..handlers.registry import AnyHandler, OnAbandoned, Registry, make_handler
from ..models import HandlerContext, MeetingEventType

F = TypeVar("F", bound=AnyHandler)
EventF = TypeVar("EventF", bound=EventHandler)


class Handling:
    """What `AgentMessaging` inherits to register handlers. They may come before it is started, and after."""

    _handlers: Registry
    _event_handler: MeetingEventHandler

    def register_handler(
        self,
        agent_external_id: str,
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        timeout: float | None = None,
        on_abandoned: OnAbandoned = "finish",
    ) -> Callable[[F], F]:
        """Register, as a decorator, the handler of one agent in this SDK object.

        It gets the agent's one-way messages, conversation messages (what it returns is the answer) and invitations to
        meetings (`context.is_meeting_message`). It wins over global handlers. It may be registered before the SDK is
        started and before the agent exists; messages that wait for the agent are then handled. The function is
        returned unchanged.

        An agent may have several, each with another type for its first parameter: a message goes to the one whose type
        its payload fits best, and to the one without a type (or with Any) if it fits no other. Of two for the same type
        the last one counts. They share the agent's slots: the smallest `concurrency` counts, and messages are ordered
        if any of them asks for it.

        Args:
            agent_external_id: Whose messages.
            ordered: One sender's messages run one after the other. False runs them at once, in no promised order.
            concurrency: Runs at once; None is the setting `handler_concurrency` (10).
            timeout: Seconds a run may take; None is the setting `handler_timeout` (30).
            on_abandoned: What becomes of the run of an ask whose asker does not wait any more
                (`context.is_abandoned`). "finish" lets it end; its answer is kept as an unread message. "cancel"
                cancels it, with the asks that it waits for; only for `async def` functions.

        Raises:
            InvalidArgumentError: The id or an option is refused, the function does not take (message, context), or
                its type cannot be told apart from that of another handler of this agent.

        Example:
            @sdk.register_handler("bob")
            async def on_note(message: Note, context: MessageContext) -> None: ...
        """
        check_external_id(agent_external_id, field="agent_external_id")

        def register(function: F) -> F:
            handler = make_handler(
                function,
                ordered=ordered,
                concurrency=concurrency,
                timeout=timeout,
                on_abandoned=on_abandoned,
                may_yield=True,
            )
            contexts = (HandlerContext.ONE_WAY, HandlerContext.CONVERSATION, HandlerContext.INVITATION)
            self._handlers.register(contexts, agent_external_id, handler)
            return function

        return register

    def register_meeting_handler(
        self,
        agent_external_id: str,
        *,
        concurrency: int | None = None,
        timeout: float | None = None,
        attend: bool = False,
    ) -> Callable[[F], F]:
        """Register, as a decorator, the turn handler of one agent in this SDK object; it wins over global ones.

        See `agent_messaging.register_meeting_handler`, for its options too.

        Example:
            @sdk.register_meeting_handler("bob", attend=True)
            async def for_bob(message, context):
                return {"text": f"I heard {len(context.turn.messages)} of you."}
        """
        check_external_id(agent_external_id, field="agent_external_id")

        def register(function: F) -> F:
            handler = make_handler(function, ordered=False, concurrency=concurrency, timeout=timeout, attend=attend)
            self._handlers.register((HandlerContext.MEETING,), agent_external_id, handler)
            return function

        return register

    def register_event_handler(self, event_type: MeetingEventType) -> Callable[[EventF], EventF]:
        """Register, as a decorator, a handler of one type of meeting event in this SDK object.

        It is called for every such event of every meeting, whichever process made it: `async def handler(event)` with a
        `MeetingEventPayload`, or `async def handler(meeting_id, agent_external_id, data)`. Several handlers of one
        event run at the same time; one that fails or hangs (it is cancelled after `handler_timeout`) disturbs nothing.
        It may be registered before the SDK is started. The function is returned unchanged. Annotated as
        `MeetingEvent[TurnChangedEventData]` (or `data: TurnChangedEventData`), it gets the data as that model; where
        they do not fit, which only events of an application's own can do, it is not called, and the log says why.

        Raises:
            InvalidArgumentError: The type is not one, or the function takes neither one nor three arguments.

        Example:
            @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
            async def on_turn(event: MeetingEventPayload) -> None:
                print(event.data.current_speaker_external_id, "has the turn")
        """
        type_ = check_event_type(event_type)

        def register(function: EventF) -> EventF:
            self._event_handler.register_handler(type_, function)
            return function

        return register

    register_meeting_event_handler = register_event_handler

    def unregister_handler(self, agent_external_id: str, handler: AnyHandler | None = None) -> bool:
        """Forget a handler of one agent in this SDK object, or (None) all of them; False if it had none.

        A run that has begun goes on.

        Example:
            sdk.unregister_handler("bob", on_order)
        """
        check_external_id(agent_external_id, field="agent_external_id")
        return self._handlers.unregister(agent_external_id, handler)
