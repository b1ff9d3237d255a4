"""The keys, one after another: each is let in when the one before has done what it does.

The toolkit hands a key on along a chain of queues, one of each widget, and takes the next key in meanwhile. On a busy
machine a key overtakes so the one before it: what was written a moment ago is not there yet when it is sent, a letter
goes into the field that Tab is about to leave, and what is typed while a dialog opens goes nowhere. Here the next key
waits until the queues on the way of the one before are through, the keys go to the same place as before, and what the
key has begun has ended. Letters that are written into a field follow each other freely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from textual import events
from textual.app import App
from textual.widgets import Input, TextArea

LONG = 1.0
"""Seconds after which the person is told that the keys wait, and may leave in spite of it."""


class Typed(App[None]):
    """A program that loses no key and mixes none up."""

    def __init__(self) -> None:
        super().__init__()
        self._typed: asyncio.Queue[events.Event] = asyncio.Queue()
        self._begun: dict[object, float] = {}
        """What keys have begun and what has not ended, with the instant of its beginning."""
        self._ended = asyncio.Event()

    @property
    def waits_long(self) -> bool:
        """Whether the keys wait for something, and have for long."""
        return bool(self._begun) and monotonic() - min(self._begun.values()) > LONG

    def let_keys_in(self) -> None:
        """Begin with the keys, or begin anew."""
        self._begun.clear()
        self.run_worker(self._let_in(), name="keys", group="keys", exclusive=True)

    def begin(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Do what a key asks for. Keys that are pressed meanwhile wait for its end."""
        mark = object()
        self._begun[mark] = monotonic()

        async def do() -> None:
            try:
                await work
            finally:
                self._begun.pop(mark, None)
                self._ended.set()

        self.run_worker(do(), name=name)

    async def on_event(self, event: events.Event) -> None:
        """Put a key behind those that were pressed before it."""
        is_typed = isinstance(event, events.Key | events.Paste) and not event.is_forwarded
        if not is_typed:
            await super().on_event(event)
            return
        if isinstance(event, events.Key) and event.key == "ctrl+q" and self.waits_long:
            # The store does not answer, so what was pressed meanwhile is given up with it.
            self._typed = asyncio.Queue()
            self.let_keys_in()
        if isinstance(event, events.Key) and event.key.startswith("alt+") and event.character:
            # Most terminals send the same for Esc and then a letter, if both are read at once, as for Alt with it.
            self._typed.put_nowait(events.Key("escape", "\x1b"))
            event = events.Key(event.character, event.character)
        self._typed.put_nowait(event)

    async def _let_in(self) -> None:
        is_written = False
        while True:
            event = await self._typed.get()
            if not (is_written and self._is_written(event)):
                await self._come_to_rest()
            is_written = self._is_written(event)
            await super().on_event(event)

    def _is_written(self, event: events.Event) -> bool:
        """Whether it is text for the field where the cursor is, and does nothing else."""
        is_text = isinstance(event, events.Paste) or (isinstance(event, events.Key) and event.is_printable)
        return is_text and isinstance(self.focused, Input | TextArea)

    async def _come_to_rest(self) -> None:
        """Wait until everything that was pressed is done."""
        place = None
        while self._begun or place != (self.screen, self.focused):
            place = (self.screen, self.focused)
            for node in (self.focused or self.screen).ancestors_with_self:
                passed = asyncio.Event()
                if node.call_later(passed.set):  # not where it is about to go away
                    await passed.wait()
            while self._begun:
                self._ended.clear()
                await self._ended.wait()
