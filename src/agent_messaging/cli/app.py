"""The behaviour that all commands share: the help, and the end.

A command raises what went wrong. Here it becomes one line on stderr (with `--json` one JSON object) and an exit code:
0 done, 2 wrong use or setting, the error's own `exit_code` where the SDK raised it, 130 interrupted, 141 the reader of
a pipe has gone. A traceback is shown with `--debug` (`-v`) alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import click

from .errors import report_error
from .options import Options, global_options, write_options
from .progress import is_dumb

INTERRUPTED = 130
PIPE_CLOSED = 141


BREAKS = (":", ";", ",")
"""Where a sentence is cut that is too long for a list of commands, the first of them that does."""


KEPT = "\ue000"
"""Stands for a hyphen while lines are broken: at one they would be, in the middle of a command that is to be copied."""


class Formatter(click.HelpFormatter):
    """Breaks lines between words alone."""

    def write_text(self, text: str) -> None:
        """Write a text, broken into lines."""
        at = len(self.buffer)
        super().write_text(text.replace("-", KEPT))
        self._put_back(at)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and texts, broken into lines."""
        at = len(self.buffer)
        super().write_dl([(term, text.replace("-", KEPT)) for term, text in rows], col_max, col_spacing)
        self._put_back(at)

    def _put_back(self, at: int) -> None:
        self.buffer[at:] = [part.replace(KEPT, "-") for part in self.buffer[at:]]


class Context(click.Context):
    """The context of a command."""

    formatter_class = Formatter


class Listed(click.Command):
    """A command as lists of commands show it: by its first sentence, which is cut where it pauses."""

    context_class = Context

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first sentence, or what stands before a break of it."""
        sentence = " ".join((self.help or "").split()).partition(".")[0]
        if len(sentence) <= limit:
            return sentence
        for mark in BREAKS:
            at = sentence.rfind(mark, 0, limit + 1)
            if at > 0:
                return sentence[:at]
        return super().get_short_help_str(limit)


class Command(Listed):
    """A command with the shared options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += global_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first."""
        write_options(self, ctx, formatter)


class Group(Listed, click.Group):
    """Commands about one noun, listed in the order in which they were written; alone it prints its help."""

    command_class = Command
    group_class: type[click.Group] | type[type] | None = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["invoke_without_command"] = True
        super().__init__(*args, **kwargs)
        self.params += global_options()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List them in the order in which they were added."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first, then the options."""
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command named, or print the help."""
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result


class App(Group):
    """The program."""

    group_class = Group

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, Sequence[click.Command]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands, which the help lists together."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by their sections."""
        width = max(len(name) for name in self.commands)
        limit = formatter.width - 6 - width
        for title, commands in self._sections.items():
            with formatter.section(title):
                rows = [((one.name or "").ljust(width), one.get_short_help_str(limit)) for one in commands]
                formatter.write_dl(rows)

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
        plain = is_dumb() or os.environ.get("NO_COLOR")  # click itself does not look
        color = False if plain else None  # None: on a terminal
        options = Options()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no error
        try:
            with _interruptible():
                extra = {"obj": options, "color": color, **extra}
                code = super().main(
                    arguments, prog_name or "agent-messaging", complete_var, standalone_mode=False, **extra
                )
                sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            code = PIPE_CLOSED
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:
            # A usage error may precede the place at which --json was to be read.
            code = report_error(error, as_json=options.json or "--json" in arguments, color=color)
            if options.verbose or "--debug" in arguments:
                traceback.print_exception(error)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Keep a closed pipe from click, which would end with the exit code of an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(PIPE_CLOSED)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Within, Ctrl-C raises `KeyboardInterrupt`, where it otherwise ends the process by itself (`cli/entry.py`)."""
    is_entered = (
        threading.current_thread() is threading.main_thread()  # others change nothing about signals, and hear none
        and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    )
    if is_entered:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if is_entered:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _forget_stdout() -> None:
    """Drop the output, which nobody reads any more: otherwise the interpreter complains when it flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
