"""Values as they are written on a command line: durations, instants, payloads and metadata."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from .commands import command


def parse_duration(text: str) -> float:
    """Seconds, or a number with a unit: 1.5, 90s, 10m, 2h, 7d.

    Raises:
        click.BadParameter: It is not such a text.
    """
    from ..arguments import seconds_of

    seconds = seconds_of(text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a duration. Write seconds, or a number with ms, s, m, h or d.")
    return seconds


def parse_instant(text: str) -> datetime:
    """An aware instant: ISO 8601, local if it names no time zone, or a duration from now behind a plus.

    Raises:
        click.BadParameter: It is not such a text.
    """
    given = text.strip()
    try:
        if given.startswith("+"):
            return datetime.now(UTC) + timedelta(seconds=parse_duration(given[1:]))
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is not an instant. Write 2030-01-31T09:00, with +02:00 or Z if not local, or +10m."
        ) from error


def parse_past(text: str) -> datetime:
    """An aware instant as `parse_instant` takes it, or a duration that has passed since: 2h is two hours ago.

    Raises:
        click.BadParameter: It is neither.
    """
    if re.fullmatch(r"[\d.]+\s*[a-z]*", text.strip()):
        try:
            return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
        except OverflowError as error:
            raise click.BadParameter(f"{text!r} is before all time. Leave it out for no bound.") from error
    return parse_instant(text)


def check_renaming(rename: bool, name: str | None) -> None:
    """Refuse a renaming that names nothing.

    Raises:
        click.UsageError: It does.
    """
    if rename and name is None:
        raise click.UsageError("--rename needs the new name. Give it with --name.")


def read_payload(text: str | None, payload: str | None, *, hint: str = "") -> Any:
    """Read the payload: the text, the JSON, or the standard input.

    Args:
        hint: A sentence about what may have been meant, where there is nothing to send.

    Raises:
        click.UsageError: Both were given, or neither and nothing is piped in.
        click.BadParameter: It is not JSON.
    """
    if text is not None and payload is not None:
        raise click.UsageError("--text and --payload were both given. Give one of them.")
    if payload is not None:
        return _parse(_read_stdin() if payload == "-" else payload, "--payload")
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise click.UsageError(
            f"There is nothing to send.{hint} Give --text, or --payload with JSON, or pipe the text in."
        )
    piped = _read_stdin().removesuffix("\n")
    if not piped:
        # A command before the pipe that failed, or a shell without a terminal: nobody means to send that.
        raise click.UsageError(
            f"There is nothing to send: the standard input is empty.{hint} Give --text (--text '' is an empty text)."
        )
    return piped


def hint_at_text(name: str, sender: str, recipients: Sequence[str]) -> str:
    """Say how a command gets its text, if it may have been given behind the recipient."""
    if len(recipients) < 2:
        return ""
    *others, last = recipients
    meant = command(name, sender, *others, text=last)
    return f" All names behind the sender are recipients; if {shlex.quote(last)} is the text: {meant}."


def read_metadata(values: tuple[str, ...]) -> dict[str, Any] | None:
    """Metadata from `key=value` (the value is text) and JSON objects, later ones over earlier.

    Raises:
        click.BadParameter: One is neither.
    """
    metadata: dict[str, Any] = {}
    for value in values:
        key, separator, text = value.partition("=")
        if value.lstrip().startswith("{"):
            metadata |= _parse(value, "--metadata")
        elif separator and key:
            metadata[key] = text
        else:
            raise click.BadParameter(f"{value!r} is neither key=value nor a JSON object.", param_hint="--metadata")
    return metadata or None


def _read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"The standard input is not {error.encoding} text.") from error


def _parse(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise click.BadParameter("it is nested too deeply.", param_hint=option) from error
    except ValueError as error:
        raise click.BadParameter(
            f"not JSON: {error}. For plain text use --text; in a shell put JSON in single quotes.", param_hint=option
        ) from error
