"""The plugin for pytest, which finds it by itself where the package is installed: the kit as fixtures.

The fixtures of a test run on its event loop, with pytest-asyncio in either mode and with anyio. A test that asks for
none of them loads nothing of the SDK.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:
    asyncio_fixture = pytest.fixture  # type: ignore[assignment]  # its twin for anyio is the one that is used

if TYPE_CHECKING:
    from ..client import AgentMessaging
    from . import HandClock, MessagingKit

MakeKit = Callable[..., Awaitable["MessagingKit"]]


@pytest.fixture
def messaging_settings() -> dict[str, Any]:
    """The keywords of `Config` with which the kits of a test are made: override it in a module or a `conftest.py`."""
    return {}


@pytest.fixture
def make_messaging_kit(request: pytest.FixtureRequest) -> MakeKit:
    """Make further kits: `kit = await make_messaging_kit(messaging={"max_attempts": 1})`. Each is open to the end."""
    makes: MakeKit = request.getfixturevalue(f"_make_messaging_kit_on_{_runner(request)}")
    return makes


@pytest.fixture
def messaging_kit(request: pytest.FixtureRequest) -> MessagingKit:
    """A `MessagingKit` that is open until the test ends."""
    kit: MessagingKit = request.getfixturevalue(f"_messaging_kit_on_{_runner(request)}")
    return kit


@pytest.fixture
def messaging_sdk(messaging_kit: MessagingKit) -> AgentMessaging[Any, Any, Any]:
    """The SDK of `messaging_kit`: started, in memory, without agents."""
    return messaging_kit.sdk


@pytest.fixture
def messaging_clock(messaging_kit: MessagingKit) -> HandClock:
    """The clock of `messaging_kit`."""
    return messaging_kit.clock


@asyncio_fixture
async def _make_messaging_kit_on_asyncio(messaging_settings: dict[str, Any]) -> AsyncIterator[MakeKit]:
    async with AsyncExitStack() as kits:
        yield _maker(kits, messaging_settings)


@pytest.fixture
async def _make_messaging_kit_on_anyio(messaging_settings: dict[str, Any]) -> AsyncIterator[MakeKit]:
    async with AsyncExitStack() as kits:
        yield _maker(kits, messaging_settings)


@asyncio_fixture
async def _messaging_kit_on_asyncio(messaging_settings: dict[str, Any]) -> AsyncIterator[MessagingKit]:
    async with AsyncExitStack() as kits:
        yield await _maker(kits, messaging_settings)()


@pytest.fixture
async def _messaging_kit_on_anyio(messaging_settings: dict[str, Any]) -> AsyncIterator[MessagingKit]:
    async with AsyncExitStack() as kits:
        yield await _maker(kits, messaging_settings)()


def _runner(request: pytest.FixtureRequest) -> str:
    """Whose event loop the test runs on. An `async` fixture belongs to one of them."""
    return "anyio" if "anyio_backend" in request.fixturenames else "asyncio"


def _maker(kits: AsyncExitStack, settings: dict[str, Any]) -> MakeKit:
    async def make(**others: Any) -> MessagingKit:
        from .kit import MessagingKit

        return await kits.enter_async_context(MessagingKit(**{**settings, **others}))

    return make
