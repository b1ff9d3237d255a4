"""What a callable is decides where it runs and whether it may be a handler; what it wraps decides neither."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from agent_messaging import AgentMessaging, InvalidArgumentError, MeetingEventType, register_meeting_handler
from agent_messaging.handlers.functions import check_function, check_handler, is_coroutine_function


async def coroutine(message: Any, context: Any) -> None: ...
def plain(message: Any, context: Any) -> None: ...
def generator(message: Any, context: Any) -> Iterator[int]:
    yield 1


async def async_generator(message: Any, context: Any) -> AsyncIterator[int]:
    yield 1


def plain_around(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def coroutine_around(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def with_a_database(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that gives its function one argument more than it takes itself."""

    @functools.wraps(function)
    def wrapper(message: Any, context: Any) -> Any:
        return function(message, context, "database")

    return wrapper


class Asynchronous:
    async def __call__(self, message: Any, context: Any) -> None: ...
    async def method(self, message: Any, context: Any) -> None: ...
    @classmethod
    async def of_class(cls, message: Any, context: Any) -> None: ...
    @staticmethod
    async def of_nobody(message: Any, context: Any) -> None: ...


class Plain:
    def __call__(self, message: Any, context: Any) -> None: ...
    def method(self, message: Any, context: Any) -> None: ...


class YieldingObject:
    def __call__(self, message: Any, context: Any) -> Iterator[int]:
        yield 1


class PlainOverAsynchronous(Plain):
    __wrapped__ = coroutine


def returns_awaitable(message: Any, context: Any) -> Awaitable[None]:
    return coroutine(message, context)


ON_THE_LOOP = [
    coroutine,
    Asynchronous(),
    Asynchronous().method,
    Asynchronous.of_class,
    Asynchronous.of_nobody,
    functools.partial(coroutine),
    functools.partial(Asynchronous()),
    functools.partial(functools.partial(Asynchronous().method)),
    coroutine_around(coroutine),
    coroutine_around(plain),
    functools.partial(coroutine_around(generator)),
]
IN_A_THREAD = [
    plain,
    Plain(),
    Plain().method,
    lambda message, context: None,
    functools.partial(plain),
    functools.partial(Plain()),
    plain_around(coroutine),
    plain_around(Asynchronous().method),
    functools.partial(plain_around(coroutine)),
    functools.lru_cache(coroutine),
    returns_awaitable,
    PlainOverAsynchronous(),
    print,
]


@pytest.mark.parametrize("function", ON_THE_LOOP)
def test_what_runs_on_the_loop(function: Any) -> None:
    assert is_coroutine_function(function)


@pytest.mark.parametrize("function", IN_A_THREAD)
def test_what_runs_in_a_thread(function: Any) -> None:
    assert not is_coroutine_function(function)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="inspect.markcoroutinefunction came with Python 3.12")
def test_what_is_marked_as_a_coroutine_function_runs_on_the_loop() -> None:
    marked = inspect.markcoroutinefunction(returns_awaitable)  # type: ignore[attr-defined,unused-ignore]
    assert is_coroutine_function(marked)
    assert is_coroutine_function(functools.partial(marked))


REFUSED = [
    (Asynchronous, "is a class"),
    (functools.partial(Asynchronous), "is a class"),
    (dict, "is a class"),
    (generator, "yields"),
    (YieldingObject(), "yields"),
    (functools.partial(YieldingObject()), "yields"),
    ("text", "cannot be called"),
    (None, "cannot be called"),
]


@pytest.mark.parametrize(("function", "reason"), REFUSED)
def test_what_no_place_takes(function: Any, reason: str) -> None:
    """The same at every place that takes a function of the user's."""
    sdk = AgentMessaging[Any]("sqlite://:memory:")
    places: list[Callable[[Any], object]] = [
        check_function,
        check_handler,
        sdk.register_handler("bob"),
        sdk.register_meeting_handler("bob"),
        register_meeting_handler(agent="bob"),
        sdk.register_event_handler(MeetingEventType.TURN_CHANGED),
        lambda function: sdk._event_handler.register_handler(MeetingEventType.TURN_CHANGED, function),
    ]
    for place in places:
        with pytest.raises(InvalidArgumentError, match=reason):
            place(function)
    assert sdk.unregister_handler("bob") is False
    assert sdk._event_handler.subscriptions == []


@pytest.mark.parametrize("function", [async_generator, functools.partial(async_generator)])
def test_an_asynchronous_generator_is_for_whoever_answers(function: Any) -> None:
    sdk = AgentMessaging[Any]("sqlite://:memory:")
    places: list[Callable[[Any], object]] = [
        check_function,
        check_handler,
        sdk.register_meeting_handler("bob"),
        sdk.register_event_handler(MeetingEventType.TURN_CHANGED),
    ]
    for place in places:
        with pytest.raises(InvalidArgumentError, match="yields"):
            place(function)
    sdk.register_handler("bob")(function)


@pytest.mark.parametrize(
    "function",
    [
        plain_around(generator),
        plain_around(async_generator),
        with_a_database(lambda message, context, database: None),
        coroutine_around(generator),
    ],
)
def test_a_wrapper_is_judged_by_itself(function: Any) -> None:
    check_handler(function)


def test_a_wrapper_that_takes_no_handlers_arguments_is_refused_whatever_it_wraps() -> None:
    @functools.wraps(plain)
    def wrapper(message: Any) -> None: ...

    with pytest.raises(InvalidArgumentError, match="takes"):
        check_handler(wrapper)


def test_an_event_handler_behind_a_wrapper_is_called_as_it_wants() -> None:
    sdk = AgentMessaging[Any]("sqlite://:memory:")

    def of_three(meeting_id: Any, agent: Any, data: Any) -> None: ...
    def of_one(event: Any) -> None: ...

    @functools.wraps(of_three)
    def takes_one(event: Any) -> None: ...

    for function in (plain_around(of_three), plain_around(of_one), takes_one):
        sdk.register_event_handler(MeetingEventType.TURN_CHANGED)(function)
    assert [one.takes_three for one in sdk._event_handler.subscriptions] == [True, False, False]


async def test_a_function_that_chooses_speakers_is_judged_the_same() -> None:
    async with AgentMessaging[Any]("sqlite://:memory:") as sdk:
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob"])
        refused: list[tuple[Any, str]] = REFUSED
        for function, reason in refused:
            with pytest.raises(InvalidArgumentError, match=reason):
                sdk.meeting.choose_speakers(meeting_id, function)
            if callable(function):
                with pytest.raises(InvalidArgumentError, match=reason):
                    await sdk.meeting.create_meeting("alice", ["bob"], speaker_selection=function)
