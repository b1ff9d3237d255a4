"""The options that every command shares: they may be given at any place of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click


@dataclass(slots=True)
class Options:
    """What may be said at any place of the command line."""

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


def global_options() -> list[click.Parameter]:
    """The shared options, for one command."""
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
        GlobalOption(["-v", "--verbose"], is_flag=True, help="Show the SDK's log, and tracebacks of errors.", **shared),
    ]


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write a command's own options, then the shared ones."""
    sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every command": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            sections["Options of every command" if isinstance(param, GlobalOption) else "Options"].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
