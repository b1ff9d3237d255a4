"""The question before something is lost."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import click

from .options import Options


class Declined(click.ClickException):
    """The user said no."""

    code = "declined"


def confirm(options: Options, what: str) -> None:
    """Ask whether `what` is to be removed. Called while no SDK is open: a person may take an hour to answer.

    Raises:
        click.UsageError: There is nobody to ask.
        Declined: The answer is no.
    """
    if options.json or not sys.stdin.isatty():
        raise click.UsageError(f"This removes {what}. Pass --yes if that is meant.")
    with _interruptible():
        answer = click.confirm(f"Remove {what}?", err=True)
    if not answer:
        raise Declined("Nothing was removed.")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process by the signal itself; nothing is open that would have to be left in order.

    Python's own handler only takes a note. It looks at a note taken between the question and the reading of the answer
    when the answer has come.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        # Somebody has other plans; and only the main thread may change them.
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
