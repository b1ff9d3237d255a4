"""`agent-messaging doctor`: the state of the store, and the next step for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import click

from ..exceptions import AgentMessagingError
from ..records import dataclass
from .app import Command
from .commands import command
from .opening import load_config, open_sdk, run
from .options import Options, get_options
from .output import count, duration, instant, say, show, table
from .progress import sign_of_life
from .services import EVERY_AGENT, Services, read_services
from .unserved import NAMED, Finding, look_at_unserved, name_agents

if TYPE_CHECKING:
    from .. import AgentMessaging, Config, Organization
    from ..storage.ports import DeliveryStatistics, IndexProgress, StoreFacts

FAR_BEHIND = 100_000
"""Messages that the search index has not taken in yet, which are worth a word."""
LATE = 60.0
"""Seconds after which a message that a live process should have taken is worth a word."""


@dataclass(slots=True)
class Report:
    """All facts and findings of one examination."""

    location: str
    chosen_by: str
    facts: StoreFacts | None = None
    tasks: StoreFacts | None = None
    """Of the store of the tasks, where it is another one."""
    statistics: DeliveryStatistics | None = None
    index: IndexProgress | None = None
    services: Services | None = None
    organizations: Sequence[Organization] = ()
    agents: int = 0
    oldest_recipient: str | None = None
    damage: list[str] | None = None
    """None: nobody looked (--deep)."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_problem for finding in self.findings)


@click.command(cls=Command)
@click.option("--deep", is_flag=True, help="Also read every page and message and check them for damage; takes longer.")
@click.pass_context
def doctor(ctx: click.Context, deep: bool) -> None:
    """Say which store is used and how safe it is, what waits and who serves whom, and what to do about what is wrong.

    \b
    Examples:
      agent-messaging doctor
      agent-messaging doctor --deep --json | jq '.findings'

    The exit code is 0 if nothing is wrong, 1 if something is, and that of the error if the store cannot be opened.
    """
    options = get_options(ctx)
    config = load_config(options)
    report = Report(str(config.store), _chosen_by(options, config))
    code = 0
    try:
        run(options, _examine(options, report, deep))
        code = 0 if report.ok else 1
    except AgentMessagingError as error:
        report.findings.append(Finding(*_split(str(error))))
        code = error.exit_code
    show(options, _document(report), lambda: _print(report))
    ctx.exit(code)


def _chosen_by(options: Options, config: Config) -> str:
    if options.url is not None:
        return "--url"
    given = config.database.model_fields_set
    if "url" in given:
        return "AGENT_MESSAGING_DATABASE_URL"
    if given & {"host", "database"}:
        return "POSTGRES_HOST or POSTGRES_DATABASE"
    return "default, as no setting names another"


def _split(text: str) -> tuple[str, str]:
    """Part a message into the problem and its last sentence, which by the SDK's rule is the next step."""
    problem, separator, step = text.rstrip().rpartition(". ")
    return (f"{problem}.", step) if separator else (text, "Run this again with -v to see more.")


# --- looking ----------------------------------------------------------------------------------------------------------


async def _examine(options: Options, report: Report, deep: bool) -> None:
    async with open_sdk(options) as sdk:
        report.facts = await sdk.store.describe()
        if deep:
            with sign_of_life(options, "Checking"):
                report.damage = await sdk.store.check()
        report.statistics = await sdk.store.deliveries.statistics()
        report.index = await sdk.store.search.progress()
        report.services = await read_services(sdk)
        report.organizations = await sdk.list_organizations(limit=1000)
        report.agents = len(await sdk.list_agents(limit=1000))
        oldest = report.statistics.oldest_queued_recipient_id
        if oldest is not None:
            found = await sdk.store.directory.find_agents_by_id([oldest])
            report.oldest_recipient = found[0].external_id if found else None
        await _look_at_tasks(sdk, report)
        report.findings += _look_at_store(sdk, report)
        report.findings += await _look_at_messages(sdk, report)


async def _look_at_tasks(sdk: AgentMessaging, report: Report) -> None:
    """Look at the store of the tasks, where it is another one; the rest is looked at without it too."""
    place = sdk.tasks.engine.workplace
    if not place.is_apart:
        return
    try:
        report.tasks = await place.store.describe()
    except AgentMessagingError as error:
        report.findings.append(Finding(*_split(str(error))))
    else:
        report.findings += [Finding(*_split(warning)) for warning in report.tasks.warnings]


def _look_at_store(sdk: AgentMessaging, report: Report) -> list[Finding]:
    assert report.facts is not None
    assert report.index is not None
    found = [Finding(*_split(warning)) for warning in report.facts.warnings]
    found += [Finding(*_split(damage)) for damage in (report.damage or ())[:NAMED]]
    if report.index.behind >= FAR_BEHIND:
        problem = f"The search index is {count(report.index.behind, 'message')} behind; searches look through them all."
        step = f"A process that uses the store takes them in when it is idle; at once: `{command('db reindex')}`."
        found.append(Finding(problem, step, is_problem=False))
    if not report.organizations:
        found.append(Finding("There are no organizations yet.", command("org add", "acme"), is_problem=False))
    elif not report.agents:
        step = command("agents add", "alice", org=report.organizations[0].external_id)
        found.append(Finding("There are no agents yet.", step, is_problem=False))
    return found


async def _look_at_messages(sdk: AgentMessaging, report: Report) -> list[Finding]:
    from .. import DeliveryState

    assert report.statistics is not None
    assert report.services is not None
    found = []
    waiting = await sdk.store.deliveries.find_waiting()
    unserved = {(id, kind) for id, kind in waiting if not report.services.is_served(id, kind)}
    found += await look_at_unserved(sdk, unserved)
    age = report.statistics.oldest_queued_age
    if age is not None and age > LATE and len(unserved) < len(waiting):
        found.append(
            Finding(
                f"The oldest unclaimed message has waited {duration(age)}, for {report.oldest_recipient!r}.",
                "If its process is alive, it does not keep up: start another one, or raise handler_concurrency.",
                is_problem=False,
            )
        )
    dead = report.statistics.counts.get(DeliveryState.DEAD, 0)
    if dead:
        step = f"See why: `{command('dead-letters list')}`."
        for last in await sdk.dead_letters.list(limit=1):
            whose = {} if last.recipient_id is None else {"agent": last.recipient_id}
            step += f" When the cause is gone: `{command('dead-letters redrive', **whose)}`."
        found.append(
            Finding(
                f"{count(dead, 'dead letter')}: given up after all attempts.",
                step,
            )
        )
    full = await _full_mailboxes(sdk, report, {id for id, _ in waiting})
    if full:
        found.append(
            Finding(
                f"The mailbox of {await name_agents(sdk, full)} may be full: it has received more than mailbox_limit "
                f"({sdk.config.messaging.mailbox_limit:,}), and as many wait in the whole store.",
                "Serve it with more processes, or raise mailbox_limit (MESSAGING_MAILBOX_LIMIT).",
            )
        )
    return found


async def _full_mailboxes(sdk: AgentMessaging, report: Report, waiting: set[str]) -> set[str]:
    """Agents whose mailbox may be full: open messages are counted over all agents only, so this can err upwards."""
    from .. import DeliveryState, Kind
    from ..storage.ports import Role

    assert report.statistics is not None
    limit = sdk.config.messaging.mailbox_limit
    counts = report.statistics.counts
    if limit is None or counts.get(DeliveryState.QUEUED, 0) + counts.get(DeliveryState.CLAIMED, 0) < limit:
        return set()
    counted = sdk.store.messages.count_messages
    return {id for id in waiting if await counted(id, Role.RECIPIENT, Kind.ONE_WAY) >= limit}


# --- telling ----------------------------------------------------------------------------------------------------------


def _document(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ok": report.ok,
        "store": {"url": report.location, "chosen_by": report.chosen_by},
        "findings": report.findings,
    }
    if report.facts is not None:
        document["store"] |= {name: getattr(report.facts, name) for name in type(report.facts).__slots__}
    if report.statistics is not None and report.services is not None:
        statistics, services = report.statistics, report.services
        document["messages"] = {
            "counts": statistics.counts,
            "oldest_queued_age": statistics.oldest_queued_age,
            "oldest_queued_recipient": report.oldest_recipient,
            "oldest_claim_age": statistics.oldest_claim_age,
        }
        document["processes"] = [
            {
                "process_id": process.process_id,
                "host": process.host,
                "pid": process.pid,
                "started_at": process.started_at,
                "serves": services.served_by(process),
            }
            for process in services.processes
        ]
    if report.index is not None:
        document["search"] = {name: getattr(report.index, name) for name in ("indexed_to", "newest", "behind")}
    if report.damage is not None:
        document["damage"] = report.damage
    if report.tasks is not None:
        document["tasks"] = {name: getattr(report.tasks, name) for name in type(report.tasks).__slots__}
    return document


def _print(report: Report) -> None:
    _title("Store")
    _line("location", report.location)
    _line("chosen by", report.chosen_by)
    if report.facts is not None:
        _line("version", report.facts.version)
        _line("schema", str(report.facts.schema_version))
        _line("durability", ", ".join(f"{name} {value}" for name, value in report.facts.durability.items()))
    if report.damage is not None:
        _line("damage", f"{count(len(report.damage), 'finding')}" if report.damage else "none found")
    if report.index is not None:
        behind = report.index.behind
        _line("search index", f"{count(behind, 'message')} behind" if behind else "up to date")
    if report.tasks is not None:
        say()
        _title("Tasks")
        _line("location", report.tasks.location)
        _line("version", report.tasks.version)
        _line("durability", ", ".join(f"{name} {value}" for name, value in report.tasks.durability.items()))
    if report.statistics is not None:
        _print_messages(report, report.statistics)
    if report.services is not None:
        _print_processes(report.services)
    say()
    for finding in report.findings:
        mark = click.style("✗", fg="red") if finding.is_problem else click.style("·", fg="yellow")
        say(f"{mark} {finding.problem}")
        say(f"  → {finding.next_step}")
    if report.ok:
        say(f"{click.style('✓', fg='green')} Nothing is wrong.")


def _print_messages(report: Report, statistics: DeliveryStatistics) -> None:
    say()
    _title("Messages")
    _line("known", f"{count(report.agents, 'agent')} in {count(len(report.organizations), 'organization')}")
    _line("deliveries", ", ".join(f"{number:,} {state.value}" for state, number in statistics.counts.items()) or "none")
    if statistics.oldest_queued_age is not None:
        whose = "?" if report.oldest_recipient is None else repr(report.oldest_recipient)
        _line("oldest unclaimed", f"{duration(statistics.oldest_queued_age)}, for {whose}")
    if statistics.oldest_claim_age is not None:
        _line("oldest claim", f"{duration(statistics.oldest_claim_age)} ago, not settled yet")


def _print_processes(services: Services) -> None:
    import socket

    say()
    _title("Who serves whom")
    here = socket.gethostname()
    rows = [
        (
            f"pid {process.pid}" + ("" if process.host == here else f" on {process.host}"),
            instant(process.started_at),
            ", ".join(one if one == EVERY_AGENT else repr(one) for one in services.served_by(process)) or "nobody",
        )
        for process in services.processes
    ]
    table(("process", "since", "serves"), rows, empty="  No other process is alive.")


def _title(text: str) -> None:
    say(click.style(text, bold=True))


def _line(name: str, text: str) -> None:
    say(f"  {name:<18}{text}")
