"""The options that narrow a list and choose a page of it: the same for messages, sessions and meetings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from ..states import DeliveryState, MessageType
from .output import note
from .values import parse_past, read_metadata

F = TypeVar("F", bound=Callable[..., Any])


def date_options(verb: str) -> Callable[[F], F]:
    """`--since` and `--until` of a list."""

    def add(command: F) -> F:
        since = f"{verb} then or later: 2030-01-31T09:00, or 2h (ago)."
        until = click.option("--until", type=parse_past, metavar="INSTANT", help=f"{verb} then or before.")
        return click.option("--since", type=parse_past, metavar="INSTANT", help=since)(until(command))

    return add


filter_option = click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only with this in the metadata; or a JSON object of conditions. Repeatable.",
)
"""Read by `read_metadata`."""
state_option = click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in DeliveryState]),
    multiple=True,
    help="Only whose delivery is in this state. Repeatable.",
)


def history_options(command: F) -> F:
    """The options of a list of what was said, oldest first; `read_history` reads them."""
    for option in (
        click.option("--newest", is_flag=True, help="List from the newest on."),
        click.option("--after", metavar="ID", help="Only messages behind this one."),
        click.option("--before", metavar="ID", help="Only messages before this one."),
        click.option("--offset", default=0, help="Pass over so many."),
        click.option("--limit", type=int, help="At most so many, up to 1000. Default: all."),
        click.option(
            "--type",
            "types",
            type=click.Choice([type_.value for type_ in MessageType]),
            multiple=True,
            help="Only of this type. Repeatable.",
        ),
        date_options("Said"),
        filter_option,
    ):
        command = option(command)
    return command


def read_history(
    metadata: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    types: tuple[str, ...],
    newest: bool,
    **page: Any,
) -> dict[str, Any]:
    """Return the arguments of the SDK's histories that the options give."""
    narrowing = {"metadata_filter": read_metadata(metadata), "date_from": since, "date_to": until}
    return {**narrowing, "message_types": types or None, "newest_first": newest, **page}


def note_more(messages: Sequence[Any], how: Mapping[str, Any]) -> None:
    """Say how to go on behind a page of a history, where there may be more."""
    if messages and len(messages) == how["limit"]:
        way = "--before" if how["newest_first"] else "--after"
        note(f"There may be more; {way} {messages[-1].message_id} goes on from here.")
