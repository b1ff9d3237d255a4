"""The command `agent-messaging`: its nouns put together. None of them imports the engine at its top: help is quick."""

from __future__ import annotations

import click

from .agents import agents
from .app import App
from .bench import bench
from .completion import completion
from .conversations import ask, forward, refuse, reply, write
from .coordination import coordination
from .db import db
from .dead_letters import dead_letters
from .demo.command import demo
from .doctor import doctor
from .inbox import inbox
from .init import init
from .me.command import me
from .meetings import meetings
from .organizations import org
from .prune import prune as _prune  # noqa: F401 - a command of `db`
from .receipt import receipt
from .receive import receive
from .run import run
from .search import search
from .send import send
from .sessions import sessions
from .tail import tail
from .taking_part import attend as _attend  # noqa: F401 - with its neighbours, commands of `meetings`
from .tasks import queue, schedules, tasks, workers
from .topics import topics
from .watching import watch_meeting as _watch  # noqa: F401 - a command of `meetings`, and one of `sessions`


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"agent-messaging {__version__}")
        ctx.exit()


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Durable messaging between AI agents, on SQLite or PostgreSQL.

    \b
    Begin here:
      agent-messaging demo                        ten seconds, nothing to set up
      agent-messaging org add acme                makes agent_messaging.db here
      agent-messaging agents add alice --org acme
      agent-messaging agents add bob --org acme
      agent-messaging send alice bob --text 'Tea at four?'
      agent-messaging inbox bob
      agent-messaging doctor                      what is wrong, and what to do

    \b
    Exit codes:
      0 done                  4 not found     7 a handler failed, or nobody serves
      1 failed                5 conflict      8 timed out
      2 wrong use or setting  6 mailbox full  130 interrupted
      3 the store failed
    """


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "To begin": (demo, init, doctor, me),
    "Notes, and all messages": (send, inbox, receive, tail, search, receipt, dead_letters, topics),
    "Conversations and meetings": (ask, reply, refuse, write, forward, sessions, meetings),
    "Work": (tasks, workers, schedules, queue, coordination),
    "Who there is, and the store": (org, agents, run, db, bench, completion),
}
for title, commands in SECTIONS.items():
    main.add_section(title, commands)


if __name__ == "__main__":
    main()
