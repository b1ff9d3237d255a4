"""The question before something is lost."""

from __future__ import annotations

import sys

import click

from .app import Options


def confirm(options: Options, what: str, yes: bool) -> None:
    """Ask whether `what` is to be removed; a program must have said --yes.

    Raises:
        click.UsageError: There is nobody to ask.
        click.Abort: The answer is no.
    """
    if yes:
        return
    if options.json or not sys.stdin.isatty():
        raise click.UsageError(f"This removes {what}. Pass --yes if that is meant.")
    click.confirm(f"Remove {what}?", abort=True, err=True)
