"""The files in deploy/ are read as YAML, name commands and variables that exist, and leave a drain its time.

No container runs here. docs/deployment.md says what was tried with an engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from agent_messaging.cli.main import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OF_OTHERS = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_HOST", "PYTHONUNBUFFERED"}
IMAGE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def documents() -> list[Any]:
    return [one for path in DEPLOY.glob("*.yaml") for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Each mapping in it."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def commands() -> list[list[str]]:
    found = [one["command"] for one in walk(documents()) if "command" in one]
    [of_image] = re.findall(r"^CMD (\[.*\])$", IMAGE, re.MULTILINE)
    return [*found, yaml.safe_load(of_image)]


def variables() -> set[str]:
    names = {name for line in re.findall(r"^ENV (.*)$", IMAGE, re.MULTILINE) for name in re.findall(r"(\w+)=", line)}
    for one in walk(documents()):
        names |= set(one["environment"]) if isinstance(one.get("environment"), dict) else set()
        names |= {each["name"] for each in one.get("env", ())}
    return names


@pytest.mark.parametrize("command", [one for one in commands() if one[0] == "agent-messaging"], ids=" ".join)
def test_a_command_exists(command: list[str]) -> None:
    found: click.Command = main
    context = click.Context(main)
    for word in command[1:]:
        if not isinstance(found, click.Group):
            break
        inner = found.get_command(context, word)
        assert inner is not None, word
        found = inner


def test_every_variable_is_documented() -> None:
    known = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert {name for name in variables() if not re.search(rf"\b{name}\b", known)} <= OF_OTHERS


def test_whoever_stops_a_worker_waits_longer_than_it_drains() -> None:
    compose, *kubernetes = sorted(documents(), key=lambda one: "services" not in one)
    worker = compose["services"]["worker"]
    assert float(worker["stop_grace_period"].removesuffix("s")) >= worker["environment"]["MESSAGING_DRAIN_TIMEOUT"] + 5
    [deployment] = [one for one in kubernetes if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    drain = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}["MESSAGING_DRAIN_TIMEOUT"]
    assert pod["terminationGracePeriodSeconds"] >= float(drain) + 5


def test_the_image_takes_files_that_are_there_and_its_user_is_not_root() -> None:
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", IMAGE, re.MULTILINE) for name in line.split()]
    assert [name for name in copied if name != "*.whl" and not (DEPLOY / name).exists()] == []
    assert all(one["build"] == "." for one in walk(documents()) if "build" in one)
    [user] = re.findall(r"^USER (\d+)$", IMAGE, re.MULTILINE)  # a name tells Kubernetes nothing
    assert f"--uid {user} " in IMAGE
    pods = [one["template"]["spec"] for one in walk(documents()) if "template" in one]
    assert pods
    assert all(pod["securityContext"] == {"runAsNonRoot": True} for pod in pods)


async def test_the_program_in_it_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(DEPLOY)
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", "sqlite://:memory:")
    serving, ask = import_module("orders.serving"), import_module("orders.ask")
    monkeypatch.setattr(ask, "AgentMessaging", lambda: serving.sdk)  # a store in memory is of one object alone
    await ask.main("What time is it?")
    assert capsys.readouterr().out == "You asked a question of 4 words.\n"
