"""The question before something is lost."""

from __future__ import annotations

import sys

import click

from .app import Options


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
    if not click.confirm(f"Remove {what}?", err=True):
        raise Declined("Nothing was removed.")
