"""The options that every command shares, which may stand at any place of the command line, and those that some do."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import click

from ..records import dataclass

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """The values of the shared options."""

    url: str | None = None
    """None: the environment, .env or the default, as `Config` reads them."""
    json: bool = False
    verbose: bool = False


class GlobalOption(click.Option):
    """An option of every command; it goes to `Options`, not to the command."""


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # Given before and after the command's name, the later one counts; a default never replaces what was given.
    if param.name is not None and ctx.get_parameter_source(param.name) is not click.core.ParameterSource.DEFAULT:
        setattr(get_options(ctx), param.name, value)


def get_options(ctx: click.Context) -> Options:
    """The shared options of this command line."""
    options = ctx.find_root().ensure_object(Options)
    assert isinstance(options, Options)
    return options


pass_options = click.make_pass_decorator(Options, ensure=True)
"""Gives a command the shared options, as its first argument."""


@cache
def global_options() -> list[click.Parameter]:
    """The shared options: the same objects for every command, because making hundreds delays each start."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _keep, "is_eager": True}
    return [
        GlobalOption(
            ["--url"],
            metavar="URL",
            help="The store, such as sqlite:///notes.db or postgresql://user@host/db. Default: the environment or "
            ".env (AGENT_MESSAGING_DATABASE_URL, POSTGRES_…), else the file agent_messaging.db here.",
            **shared,
        ),
        GlobalOption(["--json"], is_flag=True, help="Print JSON, for programs; errors too.", **shared),
        GlobalOption(
            ["verbose", "-v", "--verbose", "--debug"],
            is_flag=True,
            help="Show the SDK's log, and tracebacks of errors.",
            **shared,
        ),
    ]


def page_options(limit: int, skipped: str = "so many") -> Callable[[F], F]:
    """`--limit` and `--offset` of a list."""

    def add(command: F) -> F:
        offset = click.option("--offset", default=0, help=f"Pass over {skipped}.")
        return click.option("--limit", default=limit, show_default=True, help="At most so many, up to 1000.")(
            offset(command)
        )

    return add


def payload_options(noun: str) -> Callable[[F], F]:
    """`--text` and `--payload`, which `read_payload` reads."""

    def add(command: F) -> F:
        text = f"{noun} is this text; - reads it from standard input, as does leaving it out."
        payload = click.option(
            "--payload", metavar="JSON", help=f"{noun} is this JSON; - reads it from standard input."
        )
        return click.option("--text", help=text)(payload(command))

    return add


metadata_option = click.option(
    "-m", "--metadata", multiple=True, metavar="KEY=VALUE", help="Travels along; or a JSON object. Repeatable."
)
"""Read by `read_metadata`."""
thread_option = click.option("--thread", metavar="NAME", help="The name of the conversation; the main one if left out.")


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write a command's own options, then the shared ones."""
    sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every command": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None  # the usage has the arguments
        if record is not None:
            sections["Options of every command" if isinstance(param, GlobalOption) else "Options"].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
