"""How far a long work is: a bar or a sign of life on stderr, where that is a terminal and people read it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import click

from .options import Options


def is_shown(options: Options) -> bool:
    """Whether a person looks: neither a file nor a program is to read of progress."""
    return not options.json and sys.stderr.isatty() and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal says that it can do nothing but print: it knows no colours, and cannot erase a line."""
    return os.environ.get("TERM") == "dumb"


@contextmanager
def bar(options: Options, label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar. It gives the function that tells how much is done, of how much; before that nothing is shown."""
    if not is_shown(options):
        yield lambda done, total: None
        return
    with ExitStack() as shown:

        @cache
        def start() -> Any:
            return shown.enter_context(click.progressbar(length=1, label=label, file=sys.stderr))

        def tell(done: int, total: int) -> None:
            start().length = max(total, 1)
            start().update(min(done, start().length) - start().pos)

        yield tell


@contextmanager
def sign_of_life(options: Options, label: str) -> Iterator[None]:
    """A sign that moves, for a work of which nobody knows how far it is."""
    if not is_shown(options):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(label):
        yield
