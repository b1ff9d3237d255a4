"""The place where the demo prints."""

from __future__ import annotations

import click

from ..options import Options
from ..output import say


class Stage:
    """Printing for people; silent with --json."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def say(self, text: str = "") -> None:
        """A line."""
        if not self.options.json:
            say(text)

    def act(self, number: int, title: str) -> None:
        """A heading."""
        self.say(f"\n{bold(f'{number}  {title}')}")

    def done(self, text: str) -> None:
        """Something that was seen to happen."""
        self.say(f"   {click.style('✓', fg='green')} {text}")


def bold(text: str) -> str:
    return click.style(text, bold=True)
