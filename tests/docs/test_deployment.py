"""The files in deploy/ are read as YAML, name commands and variables that exist, and leave a drain its time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from agent_messaging.cli.main import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OF_SERVERS = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_HOST"}


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
    [of_image] = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return [*found, yaml.safe_load(of_image)]


def variables() -> set[str]:
    names = set(re.findall(r"^ENV (\w+)=", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
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
    assert {name for name in variables() if not re.search(rf"\b{name}\b", known)} <= OF_SERVERS


def test_whoever_stops_a_worker_waits_longer_than_it_drains() -> None:
    compose, *kubernetes = sorted(documents(), key=lambda one: "services" not in one)
    worker = compose["services"]["worker"]
    assert float(worker["stop_grace_period"].removesuffix("s")) >= worker["environment"]["MESSAGING_DRAIN_TIMEOUT"] + 5
    [deployment] = [one for one in kubernetes if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    drain = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}["MESSAGING_DRAIN_TIMEOUT"]
    assert pod["terminationGracePeriodSeconds"] >= float(drain) + 5
