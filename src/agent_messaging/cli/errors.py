"""Printing an error: one line, with the remedy of the command line, and the exit code that belongs to it."""

from __future__ import annotations

from typing import Any

import click

from ..exceptions import (
    AgentAlreadyExistsError,
    AgentMessagingError,
    AgentNotFoundError,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    InvalidArgumentError,
    MeetingNotFoundError,
    MeetingStateError,
    MeetingTimeoutError,
    NoHandlerRegisteredError,
    NotMeetingHostError,
    NotYourTurnError,
    OrganizationAlreadyExistsError,
    OrganizationNotFoundError,
    SessionLockError,
    SessionStateError,
    TaskCancelledError,
    TaskError,
    TaskExpiredError,
)
from .output import clean, to_json

INTERNAL_ERROR = 70
"""The exit code of a mistake of ours (EX_SOFTWARE)."""


def report_error(error: Exception, *, as_json: bool, color: bool | None = None) -> int:
    """Print an error to stderr; returns the exit code.

    Args:
        color: False prints without colours; None with them on a terminal.
    """
    code, message, details, exit_code = explain(error)
    if as_json:
        click.echo(to_json({"code": code, "message": message, "details": details}), err=True)
    else:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {clean(message)}", err=True, color=color)
    return exit_code


def explain(error: Exception) -> tuple[str, str, dict[str, Any], int]:
    """The code of an error, its message with the remedy of the command line, its details, and the exit code."""
    if isinstance(error, AgentMessagingError):
        message = f"{error.problem} {_remedy(error)}" if error.remedy else str(error)
        return error.code, message, error.details, error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "agent-messaging"
        message = " ".join(error.format_message().split())
        options = [] if error.ctx is None else [param.name for param in error.ctx.command.params]
        if "unexpected extra argument" in message and "text" in options:
            message += " Give the text with --text, in quotes."
        return "usage", f"{message} See `{path} --help`.", {}, error.exit_code
    if isinstance(error, click.ClickException):
        return getattr(error, "code", "failed"), error.format_message(), {}, error.exit_code
    if isinstance(error, OSError):
        return "os", str(error), {}, 1
    text = f"{type(error).__name__}: {error}"
    return (
        "internal",
        f"This is a defect of agent-messaging: {text}. --debug shows where it happened.",
        {},
        INTERNAL_ERROR,
    )


def _remedy(error: AgentMessagingError) -> str:
    """The next step on the command line, where it is another one than in code."""
    match error:
        case AgentNotFoundError():
            return "Add it with `agent-messaging agents add`, or correct the name."
        case OrganizationNotFoundError():
            return "Add it with `agent-messaging org add`, or correct the name."
        case NoHandlerRegisteredError(kind="conversation"):
            return "Register one there, or ask it all the same with --no-require-handler."
        case NoHandlerRegisteredError():
            return "Register one there, or store it for later with --no-require-handler."
        case AgentAlreadyExistsError():
            return "Use another one, or, to rename it within its organization, pass --rename."
        case OrganizationAlreadyExistsError():
            return "Use another external id, or pass --rename."
        case SessionLockError() if error.sender:  # and not where one was to be passed on
            return "Ask beside it with --thread NAME, or pass --queue to queue behind it."
        case SessionStateError():
            return (
                "See who waits with `agent-messaging inbox AGENT --waiting`. A message of its own is "
                "`agent-messaging write`."
            )
        case MeetingNotFoundError():
            return "See the ids with `agent-messaging meetings list`."
        case NotYourTurnError():
            return "Wait for it with `agent-messaging meetings wait`."
        case HostCannotLeaveError():
            return "End the meeting with `agent-messaging meetings end`."
        case NotMeetingHostError():
            return "See who that is with `agent-messaging meetings show`."
        case AgentNotInMeetingError():
            return "See who is with `agent-messaging meetings show`."
        case MeetingStateError():
            return "Wait for them with --wait, or remove who will not come with `agent-messaging meetings remove`."
        case MeetingTimeoutError():
            return "See how it stands with `agent-messaging meetings show`."
        case InvalidArgumentError(field="next_speaker_external_id"):
            return "Name one with --next."
        case TaskExpiredError():
            return "Give it more time, or see with `agent-messaging workers list` whether somebody can do it."
        case TaskCancelledError():
            return "Hand it out again if it is still wanted."
        case TaskError():
            return "`agent-messaging tasks show` shows what was tried."
    return error.remedy
