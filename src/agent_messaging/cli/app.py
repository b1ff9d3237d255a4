"""How every command behaves: the options it shares with the others, its help, and how it ends.

A command raises what went wrong. Here it becomes one line on stderr (with `--json` one JSON object) and an exit code:
0 done, 2 wrong use or setting, the error's own `exit_code` where the SDK raised it, 130 interrupted, 141 the reader of
a pipe has gone. A traceback is shown with `-v` alone.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from .output import report_error

INTERRUPTED = 130
PIPE_CLOSED = 141


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


def _global_options() -> list[click.Parameter]:
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


def _write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every command": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            sections["Options of every command" if isinstance(param, GlobalOption) else "Options"].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(click.Command):
    """A command with the shared options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first."""
        _write_options(self, ctx, formatter)


class Group(click.Group):
    """Commands about one noun, listed in the order in which they were written; alone it prints its help."""

    command_class = Command
    group_class: type[click.Group] | type[type] | None = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["invoke_without_command"] = True
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands first, then the options."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command named, or print the help."""
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result


class App(Group):
    """The program."""

    group_class = Group

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run one command line and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        options = Options()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no error
        try:
            code = super().main(
                arguments, prog_name or "agent-messaging", complete_var, standalone_mode=False, obj=options, **extra
            )
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            code = PIPE_CLOSED
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:
            # A usage error may precede the place at which --json was to be read.
            code = report_error(error, as_json=options.json or "--json" in arguments)
            if options.verbose:
                traceback.print_exception(error)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Keep a closed pipe from click, which would end with the exit code of an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(PIPE_CLOSED)


def _forget_stdout() -> None:
    """Nobody reads any more; without this, the interpreter would complain when it flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
