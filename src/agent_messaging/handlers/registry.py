"""The registries of handlers: the global one with its decorators, and one for each SDK object.

`handlers/running.py` runs handlers, and `delivery/serving.py` knows which process serves whom. The global registry is
state of a module, because the decorators of the public API are functions of this one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeVar, overload

from ..arguments import check_count, check_external_id, check_flag, check_timeout, refuse
from ..exceptions import InvalidArgumentError
from ..models import HandlerContext, MessageContext
from ..payloads import find_clash, identity_of, name_of
from ..records import dataclass
from .annotations import handler_annotation
from .functions import check_handler, function_name, is_async_generator_function, is_coroutine_function

AnyHandler = Callable[[Any, MessageContext], Any]
"""`async def handler(message, context)`, or the same without `async`: it then runs in a thread."""
OnAbandoned = Literal["finish", "cancel"]
F = TypeVar("F", bound=AnyHandler)


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function with its options."""

    function: AnyHandler
    annotation: Any
    """The annotation of its first parameter: the type that the payload becomes."""
    is_coroutine: bool
    ordered: bool
    concurrency: int | None
    """Runs at once for each agent and kind; None is the setting handler_concurrency."""
    timeout: float | None
    """Seconds; None is the setting handler_timeout."""
    on_abandoned: OnAbandoned = "finish"
    """What becomes of a run whose asker does not wait any more."""
    is_bare: bool = False
    """It serves every agent that has no handler of its own."""
    attends: bool = False
    """A turn handler: its agent attends every meeting to which it is invited."""
    yields: bool = False
    """An asynchronous generator: what it yields are the parts of its answer."""


def make_handler(
    function: AnyHandler,
    *,
    ordered: bool,
    concurrency: int | None,
    timeout: float | None,
    on_abandoned: OnAbandoned = "finish",
    attend: bool = False,
    may_yield: bool = False,
) -> Handler:
    """Check a function and its options.

    Raises:
        InvalidArgumentError: It cannot be called with (message, context), or an option is out of range.
    """
    check_handler(function, may_yield=may_yield)
    check_flag(ordered, "ordered")
    check_count(concurrency, "concurrency", allow_none=True)
    check_timeout(timeout, field="timeout", allow_none=True)
    check_flag(attend, "attend")
    yields = is_async_generator_function(function)
    is_coroutine = yields or is_coroutine_function(function)
    if on_abandoned not in ("finish", "cancel"):
        raise refuse("on_abandoned", on_abandoned, "must be 'finish' or 'cancel'.")
    if on_abandoned == "cancel" and not is_coroutine:
        raise refuse(
            "on_abandoned",
            on_abandoned,
            "is for `async def` functions: a plain one runs in a thread, which cannot be cancelled. Let it read "
            "context.is_abandoned between two steps of its work, and return.",
        )
    annotation = handler_annotation(function)
    options = (ordered, concurrency, timeout, on_abandoned)
    return Handler(function, annotation, is_coroutine, *options, attends=attend, yields=yields)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of one kind that an agent has, each for payloads of another type; they share slots and lanes."""

    all: tuple[Handler, ...]

    @property
    def newest(self) -> Handler:
        """The one that was registered last."""
        return self.all[-1]

    @property
    def ordered(self) -> bool:
        """Whether one sender's messages run one after the other: if any of them wants it."""
        return any(handler.ordered for handler in self.all)

    @property
    def concurrency(self) -> int | None:
        """Runs at once: the fewest that any of them wants; None if none says."""
        return min((handler.concurrency for handler in self.all if handler.concurrency is not None), default=None)

    @property
    def attends(self) -> bool:
        """Whether the agent attends every meeting to which it is invited."""
        return any(handler.attends for handler in self.all)

    def limit(self, default: float) -> float:
        """Seconds that a run of any of them may take."""
        return max(handler.timeout or default for handler in self.all)

    def join(self, new: Handler) -> Handlers:
        """These and another one; it replaces the one for the same type.

        Raises:
            InvalidArgumentError: Nothing in a payload would tell which of two is meant.
        """
        identity = identity_of(new.annotation)
        others = tuple(handler for handler in self.all if identity_of(handler.annotation) != identity)
        for other in others:
            if clash := find_clash(new.annotation, other.annotation):
                raise InvalidArgumentError(
                    field="handler",
                    value=function_name(new.function),
                    reason=(
                        f"is for {name_of(new.annotation)}, and {function_name(other.function)} for "
                        f"{name_of(other.annotation)}: {clash}, so nothing tells for which of them a message is. Give "
                        'the types a field that differs, such as `kind: Literal["note"]`, or register one handler for '
                        "both (`Note | Task`)."
                    ),
                )
        return Handlers((*others, new))

    def leave(self, function: AnyHandler) -> Handlers | None:
        """These without a function's; None if it was the only one."""
        kept = tuple(handler for handler in self.all if handler.function != function)
        return Handlers(kept) if kept else None


async def _take_notice(message: Any, context: MessageContext) -> None:
    """Does nothing with an invitation, because the agent attends already."""


ATTENDING = Handlers((make_handler(_take_notice, ordered=False, concurrency=None, timeout=None),))
"""The handlers of invitations to an agent that has none, but a turn handler that attends."""


class Follower:
    """Is told when handlers came or went."""

    def handlers_changed(self) -> None:
        """Handlers came or went; called in whatever thread."""
        raise NotImplementedError


class Registry:
    """For each kind: the handlers of each agent, and those of every other agent (None).

    There is one for each type of payload, and of two for the same type the last one counts.
    """

    def __init__(self) -> None:
        self._handlers: dict[tuple[str | None, HandlerContext], Handlers] = {}
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()

    def register(self, contexts: tuple[HandlerContext, ...], agent: str | None, handler: Handler) -> None:
        """Take the handler for one agent, or (None) for all that have none of their own.

        Raises:
            InvalidArgumentError: Nothing would tell its messages from those of another one; it is not taken.
        """
        handler = replace(handler, is_bare=agent is None)
        nobody = Handlers(())
        self._handlers |= {
            (agent, context): self._handlers.get((agent, context), nobody).join(handler) for context in contexts
        }
        self._changed()

    def unregister(self, agent: str | None, function: AnyHandler | None = None) -> bool:
        """Forget a handler of one agent, or all of them (no function); False if there was none."""
        found = {key: handlers for key, handlers in self._handlers.items() if key[0] == agent}
        left = {key: None if function is None else handlers.leave(function) for key, handlers in found.items()}
        for key, handlers in left.items():
            if handlers is None:
                del self._handlers[key]
            else:
                self._handlers[key] = handlers
        self._changed()
        return left != found

    def clear(self) -> None:
        """Forget all handlers."""
        self._handlers.clear()
        self._changed()

    def find(self, agent: str | None, context: HandlerContext) -> Handlers | None:
        """The agent's own handlers; of None, those of all agents that have none of their own."""
        found = self._handlers.get((agent, context))
        if found is None and context is HandlerContext.INVITATION:
            turns = self._handlers.get((agent, HandlerContext.MEETING))
            return ATTENDING if turns is not None and turns.attends else None
        return found

    def agents(self, context: HandlerContext) -> set[str]:
        """The agents with a handler of their own."""
        return {agent for agent, _ in self._handlers if agent is not None and self.find(agent, context) is not None}

    def __iter__(self) -> Iterator[tuple[str | None, HandlerContext, Handler]]:
        for (agent, context), handlers in self._handlers.items():
            yield from ((agent, context, handler) for handler in handlers.all)

    def follow(self, follower: Follower) -> None:
        """Call `follower.handlers_changed()` after each change, in the thread that made it; held weakly."""
        self._followers.add(follower)

    def leave(self, follower: Follower) -> None:
        """Call it no more. Nothing happens if it was not called."""
        self._followers.discard(follower)

    def _changed(self) -> None:
        for follower in list(self._followers):
            follower.handlers_changed()


global_registry = Registry()


def _decorator(context: HandlerContext, function: F | None, agent: str | None, **options: Any) -> Any:
    if agent is not None:
        check_external_id(agent, field="agent")

    def register(target: F) -> F:
        may_yield = context is HandlerContext.CONVERSATION
        global_registry.register((context,), agent, make_handler(target, may_yield=may_yield, **options))
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

    With `agent="bob"` it serves that agent. Bare (`@register_one_way_handler`) it serves the agents that an SDK object
    of this process registers, or that `sdk.serve` names, except those with a handler of their own, here or in another
    live process. The function is returned unchanged; the next registration replaces it.

    A message is settled when the handler returns; the result is ignored. If the handler raises, the message is tried
    again with a growing delay, and goes to the dead letters after `max_attempts`. A run is cancelled at its timeout.

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
    *,
    agent: str | None = None,
    ordered: bool = True,
    concurrency: int | None = None,
    timeout: float | None = None,
    on_abandoned: OnAbandoned = "finish",
) -> Callable[[F], F]: ...
def register_conversation_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    ordered: bool = True,
    concurrency: int | None = None,
    timeout: float | None = None,
    on_abandoned: OnAbandoned = "finish",
) -> Any:
    """Register the handler of conversation messages, in every SDK object of this process.

    Bare or with `agent=`, as `register_one_way_handler`. Its result is the answer: the asker of an ask
    (`context.requires_reply`) gets it, and to a `send_no_wait` it is stored as an unread message of the sender. None
    answers nothing; `reply` answers from inside. If the handler raises, a waiting asker gets `HandlerError` at once,
    and any other message is tried again. A handled message stays unread until it is read; an answered ask is read.

    Args:
        agent: External id of the one agent it serves; None for all.
        ordered: One sender's messages run one after the other. False runs them at once, in no promised order.
        concurrency: Runs at once for each agent; None is the setting `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the setting `handler_timeout` (30). The run of an ask may take as long
            as its asker waits, if that is longer.
        on_abandoned: What becomes of the run of an ask whose asker does not wait any more (`context.is_abandoned`).
            "finish" lets it end; its answer is kept as an unread message. "cancel" cancels it, with the asks that it
            waits for; only for `async def` functions.

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_conversation_handler
        async def on_question(question: Question, context: MessageContext) -> Answer:
            return Answer(text=f"You asked {question.text!r}")
    """
    options = {"ordered": ordered, "concurrency": concurrency, "timeout": timeout, "on_abandoned": on_abandoned}
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

    It is for push notifications and screens: it runs once for each message, best effort, beside any conversation
    handler. It settles nothing and marks nothing as read; a failure is only logged.

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
    *, agent: str | None = None, concurrency: int | None = None, timeout: float | None = None, attend: bool = False
) -> Callable[[F], F]: ...
def register_meeting_handler(
    function: Any = None,
    /,
    *,
    agent: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    attend: bool = False,
) -> Any:
    """Register the turn handler: it takes part in meetings for its agent, in every SDK object of this process.

    With `agent=` it takes part for that agent, as host too. Bare it takes part for the agents that
    `register_one_way_handler` describes, in the meetings that others host: a host speaks by hand, unless it has a
    handler by name. It is called when the agent gets the turn, with the latest speech (before the first speech, with a
    mapping of meeting_id, host, participants, turn_duration) and a context whose `turn` has the speeches since the
    agent's last one. Its result is spoken; None passes. If it raises, the turn is passed with a note in the history. If
    its process dies, another one runs it in the rest of the turn. If the agent speaks by itself meanwhile, or the turn
    ends otherwise, it is cancelled and its result is refused.

    Args:
        agent: External id of the one agent it serves; None for all but the hosts.
        concurrency: Meetings in which it takes part at once for each agent; None is `handler_concurrency` (10).
        timeout: Seconds a run may take; None is the rest of the turn, or `handler_timeout` where turns have no end.
        attend: True makes the agent attend every meeting to which it is invited. An invitation handler of its own
            still gets the invitation.

    Raises:
        InvalidArgumentError: The function cannot be called with (message, context), or an option is out of range.

    Example:
        @register_meeting_handler(agent="bob")
        async def on_turn(message: dict, context: MessageContext) -> dict:
            return {"text": f"I heard {len(context.turn.messages)} of you."}
    """
    options = {"ordered": False, "concurrency": concurrency, "timeout": timeout, "attend": attend}
    return _decorator(HandlerContext.MEETING, function, agent, **options)


def list_handlers() -> list[tuple[str | None, HandlerContext, AnyHandler]]:
    """List the global handlers as (agent or None for all, context, function).

    Example:
        for agent, context, function in list_handlers():
            print(agent or "every agent", context.value, function.__name__)
    """
    return [(agent, context, handler.function) for agent, context, handler in global_registry]


def has_handler(context: HandlerContext, agent: str | None = None) -> bool:
    """Tell whether a global handler of this kind exists, for this agent or for all.

    Example:
        if not has_handler(HandlerContext.ONE_WAY, agent="bob"):
            register_one_way_handler(agent="bob")(on_note)
    """
    return get_handler(context, agent) is not None


def get_handler(context: HandlerContext, agent: str | None = None) -> AnyHandler | None:
    """Find the global handler of this kind, the agent's own before the one for all; None if there is none.

    Of several, for several types of payload, it is the one that was registered last.

    Example:
        function = get_handler(HandlerContext.ONE_WAY, agent="bob")
    """
    found = global_registry.find(agent, context) or global_registry.find(None, context)
    return found.newest.function if found else None


def unregister_handler(function: AnyHandler, *, agent: str | None = None) -> bool:
    """Forget a global handler, for every kind of message; False if there was none.

    A run that has begun goes on.

    Args:
        function: The function that was registered.
        agent: External id of the agent for which it was registered; None if for all.

    Example:
        unregister_handler(on_note, agent="bob")
    """
    return global_registry.unregister(agent, function)


def clear_handlers() -> None:
    """Forget every global handler; those of SDK objects stay. For tests, and for reloading code.

    Example:
        @pytest.fixture(autouse=True)
        def no_handlers():
            yield
            clear_handlers()
    """
    global_registry.clear()
