"""Which function handles what: the global decorators, and the handlers of one SDK object.

It owns the look-up, not the running (`handlers/running.py`), nor the question which process serves whom
(`delivery/serving.py`). The global registry is the one piece of module-level state in the package; the public API
demands it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from ..arguments import check_external_id, check_timeout, refuse
from ..models import HandlerContext, Kind, MessageContext
from .annotations import handler_annotation
from .functions import check_handler, is_coroutine_function

AnyHandler = Callable[[Any, MessageContext], Any]
"""`async def handler(message, context)`, or the same without `async`: it then runs in a thread."""
F = TypeVar("F", bound=AnyHandler)

CONTEXT_OF_KIND = {
    Kind.ONE_WAY: HandlerContext.ONE_WAY,
    Kind.CONVERSATION: HandlerContext.CONVERSATION,
    Kind.INVITATION: HandlerContext.INVITATION,
    Kind.TURN: HandlerContext.MEETING,
    Kind.NOTIFICATION: HandlerContext.MESSAGE_NOTIFICATION,
}


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function and how it wants to be run."""

    function: AnyHandler
    annotation: Any
    """What its first parameter is annotated with; decides what the payload becomes."""
    is_coroutine: bool
    ordered: bool
    concurrency: int | None
    """Runs at once for each agent and kind; None is the setting handler_concurrency."""
    timeout: float | None
    """Seconds; None is the setting handler_timeout."""
    is_bare: bool = False
    """It serves every agent that has no handler of its own."""


def make_handler(function: AnyHandler, *, ordered: bool, concurrency: int | None, timeout: float | None) -> Handler:
    """Check a function and its options.

    Raises:
        InvalidArgumentError: It cannot be called with (message, context), or an option is out of range.
    """
    check_handler(function)
    if not isinstance(ordered, bool):
        raise refuse("ordered", ordered, "must be True or False.")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise refuse("concurrency", concurrency, "must be a whole number from 1, or None.")
    check_timeout(timeout, field="timeout", allow_none=True)
    return Handler(
        function, handler_annotation(function), is_coroutine_function(function), ordered, concurrency, timeout
    )


class Registry:
    """For each kind of handler: one by agent, and at most one for every other agent. The last registration wins."""

    def __init__(self) -> None:
        self._of_agent: dict[tuple[str, HandlerContext], Handler] = {}
        self._for_all: dict[HandlerContext, Handler] = {}
        self._listeners: weakref.WeakSet[_Listener] = weakref.WeakSet()

    def register(self, contexts: tuple[HandlerContext, ...], agent: str | None, handler: Handler) -> None:
        """Take the handler for one agent, or (None) for all that have none of their own."""
        for context in contexts:
            if agent is None:
                self._for_all[context] = replace(handler, is_bare=True)
            else:
                self._of_agent[agent, context] = handler
        self._changed()

    def unregister(self, agent: str) -> bool:
        """Forget all handlers of one agent; False if it had none."""
        keys = [key for key in self._of_agent if key[0] == agent]
        for key in keys:
            del self._of_agent[key]
        self._changed()
        return bool(keys)

    def clear(self) -> None:
        """Forget all handlers."""
        self._of_agent.clear()
        self._for_all.clear()
        self._changed()

    def of_agent(self, agent: str, context: HandlerContext) -> Handler | None:
        """The agent's own handler."""
        return self._of_agent.get((agent, context))

    def for_all(self, context: HandlerContext) -> Handler | None:
        """The handler of agents that have none of their own."""
        return self._for_all.get(context)

    def agents(self, context: HandlerContext) -> Iterator[str]:
        """The agents with a handler of their own."""
        return (agent for agent, of in self._of_agent if of is context)

    def __iter__(self) -> Iterator[tuple[str | None, HandlerContext, Handler]]:
        yield from ((agent, context, handler) for (agent, context), handler in self._of_agent.items())
        yield from ((None, context, handler) for context, handler in self._for_all.items())

    def subscribe(self, listener: _Listener) -> None:
        """Call `listener.handlers_changed()` after each change, in the thread that made it; held weakly."""
        self._listeners.add(listener)

    def unsubscribe(self, listener: _Listener) -> None:
        self._listeners.discard(listener)

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener.handlers_changed()


class _Listener:
    """Somebody who wants to know that handlers came or went."""

    def handlers_changed(self) -> None:
        raise NotImplementedError


Listener = _Listener
global_registry = Registry()


def _decorator(context: HandlerContext, function: F | None, agent: str | None, **options: Any) -> Any:
    if agent is not None:
        check_external_id(agent, field="agent")

    def register(target: F) -> F:
        global_registry.register((context,), agent, make_handler(target, **options))
        return target

    return register if function is None else register(function)


@overload
def register_one_way_handler(function: F, /) -> F: ...
@overload
def register_one_way_handler(
    *, agent: str | None = None, ordered: bool = True, concurrency: int | None = None, timeout: float | None = None
) -> Callable[[F], F]: ...
def register_one_way_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    ordered: bool = True,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Any:
    """Register the handler of one-way messages, in every SDK object of this process.

    Use it bare (`@register_one_way_handler`): it then serves the agents that an SDK object of this process
    registers, or that `sdk.serve` names, and leaves alone those that have a handler of their own, here or in another
    live process. With `agent="bob"` it serves that agent. The function is returned unchanged; registering again
    replaces it.

    A message is settled when the handler returns; what it returns is ignored. If it raises, the message is tried again
    with a growing delay, and after `max_attempts` goes to the dead letters. It is cancelled at its timeout.

    Args:
        agent: External id of the one agent it serves; None for all.
        ordered: One sender's messages run one after the other. False runs them at once, in no promised order.
        concurrency: Runs at once for each agent; None is the setting `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the setting `handler_timeout` (30).

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_one_way_handler
        async def on_note(message: dict, context: MessageContext) -> None:
            print(context.sender_id, message["text"])
    """
    options = {"ordered": ordered, "concurrency": concurrency, "timeout": timeout}
    return _decorator(HandlerContext.ONE_WAY, function, agent, **options)


@overload
def register_conversation_handler(function: F, /) -> F: ...
@overload
def register_conversation_handler(
    *, agent: str | None = None, ordered: bool = True, concurrency: int | None = None, timeout: float | None = None
) -> Callable[[F], F]: ...
def register_conversation_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    ordered: bool = True,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Any:
    """Register the handler of conversation messages, in every SDK object of this process.

    Bare or with `agent=`, as `register_one_way_handler`. What it returns is the answer: to an ask
    (`context.requires_reply`) it is handed to the waiting asker; to a `send_no_wait` it is stored as an unread message
    of the sender. None answers nothing; `reply` answers from inside. If it raises, a waiting asker gets `HandlerError`
    at once, and any other message is tried again. A message it handled stays unread until it is read; an ask is read
    once it is answered.

    Args:
        agent: External id of the one agent it serves; None for all.
        ordered: One sender's messages run one after the other. False runs them at once, in no promised order.
        concurrency: Runs at once for each agent; None is the setting `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the setting `handler_timeout` (30). The run of an ask may take as long
            as its asker waits, if that is longer.

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_conversation_handler
        async def on_question(question: Question, context: MessageContext) -> Answer:
            return Answer(text=f"You asked {question.text!r}")
    """
    options = {"ordered": ordered, "concurrency": concurrency, "timeout": timeout}
    return _decorator(HandlerContext.CONVERSATION, function, agent, **options)


@overload
def register_message_notification_handler(function: F, /) -> F: ...
@overload
def register_message_notification_handler(
    *, agent: str | None = None, concurrency: int | None = None, timeout: float | None = None
) -> Callable[[F], F]: ...
def register_message_notification_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Any:
    """Register what is told of each `send_no_wait` to an agent that does not wait for it, in every SDK object here.

    For push notifications and screens: it runs once for each message, beside a conversation handler and not instead
    of it, best effort. It settles nothing and marks nothing as read; if it fails, that is logged and nothing else.

    Args:
        agent: External id of the one agent it serves; None for all.
        concurrency: Runs at once for each agent; None is the setting `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the setting `handler_timeout` (30).

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_message_notification_handler
        async def on_arrival(message: dict, context: MessageContext) -> None:
            print(f"{context.receiver_id} has mail from {context.sender_id}")
    """
    options = {"ordered": False, "concurrency": concurrency, "timeout": timeout}
    return _decorator(HandlerContext.MESSAGE_NOTIFICATION, function, agent, **options)


@overload
def register_meeting_handler(function: F, /) -> F: ...
@overload
def register_meeting_handler(
    *, agent: str | None = None, concurrency: int | None = None, timeout: float | None = None
) -> Callable[[F], F]: ...
def register_meeting_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Any:
    """Register the turn handler: it takes part in meetings for its agent, in every SDK object of this process.

    With `agent=` it takes part for that agent, as host too. Bare it takes part for the agents that
    `register_one_way_handler` describes, in the meetings that others host: the host of a meeting speaks by hand, unless
    a handler is registered for it by name. It is called when the agent gets the turn, with the latest speech (or, where
    nothing was said yet, a mapping of meeting_id, host, participants, turn_duration) and a context whose `turn` has
    what was said since the agent's last speech. What it returns is spoken; None passes. If it raises, the turn is
    passed with a note in the history. If its process dies, another one runs it in the time that is left. If the agent
    speaks by itself meanwhile, or the turn ends otherwise, it is cancelled and what it returns is refused.

    Args:
        agent: External id of the one agent it serves; None for all but the hosts.
        concurrency: Meetings in which it takes part at once for each agent; None is `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the rest of the turn, or `handler_timeout` where turns have no end.

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_meeting_handler(agent="bob")
        async def on_turn(message: dict, context: MessageContext) -> dict:
            return {"text": f"I heard {len(context.turn.messages)} of you."}
    """
    options = {"ordered": False, "concurrency": concurrency, "timeout": timeout}
    return _decorator(HandlerContext.MEETING, function, agent, **options)


def list_handlers() -> list[tuple[str | None, HandlerContext, AnyHandler]]:
    """List the global handlers as (agent or None for all, context, function)."""
    return [(agent, context, handler.function) for agent, context, handler in global_registry]


def has_handler(context: HandlerContext, agent: str | None = None) -> bool:
    """Tell whether a global handler of this kind exists, for this agent or for all."""
    return get_handler(context, agent) is not None


def get_handler(context: HandlerContext, agent: str | None = None) -> AnyHandler | None:
    """Find the global handler of this kind, the agent's own before the one for all; None if there is none."""
    own = global_registry.of_agent(agent, context) if agent is not None else None
    found = own or global_registry.for_all(context)
    return found.function if found else None


def clear_handlers() -> None:
    """Forget every global handler; those of SDK objects stay. For tests, and for reloading code."""
    global_registry.clear()
