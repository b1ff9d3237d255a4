"""Settings are read and checked here: from the constructor, the environment and a `.env` file."""

# Annotations are not text here, as they are elsewhere: pydantic would compile each of them again at import.

import io
import os
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from ..arguments import MAX_SECONDS, seconds_of
from ..exceptions import ConfigurationError
from ..loggers import get_logger
from ..states import Prunable
from .urls import UNPRINTABLE

logger = get_logger("agent_messaging.config")


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is accepted, not True or False")
    return value


def _clean(value: str) -> str:
    if not value.strip() or re.search(UNPRINTABLE, value):
        raise ValueError("text (UTF-8) that is not blank and holds no control characters is accepted")
    return value


def check_password(value: str) -> str:
    return _clean(value) if value else value


def check_host(value: str) -> str:
    if not value.startswith("/") and re.search(r"[\s/@?#]", value):
        raise ValueError("a host name, an IP address or the folder of a socket is accepted; for a URL use url=")
    return _clean(value)


_LEVELS = {
    name: level
    for level, names in {
        "DEBUG": ("TRACE", "VERBOSE", "10"),
        "INFO": ("NOTICE", "INFORMATION", "20"),
        "WARNING": ("WARN", "30"),
        "ERROR": ("ERR", "40"),
        "CRITICAL": ("FATAL", "CRIT", "50"),
    }.items()
    for name in names
}
"""Other names of the levels, and the numbers of Python's."""


def read_level(value: object) -> object:
    if isinstance(value, str) or type(value) is int:
        text = str(value).strip().upper()
        return _LEVELS.get(text, text)
    return value


_SWITCHES = {"enable": True, "enabled": True, "disable": False, "disabled": False}


def _switch(value: object) -> object:
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def read_port(value: object) -> object:
    # Kubernetes and older Docker set POSTGRES_PORT to the whole address of a service that is called "postgres".
    address = re.fullmatch(r"tcp://[^/]*:(\d+)", value) if isinstance(value, str) else None
    return _refuse_bool(value if address is None else address[1])


def _read_age(kind: str, value: object) -> float | None:
    seconds = seconds_of(value) if isinstance(value, str) else value
    if value is None or (isinstance(value, str) and value.strip().lower() in ("none", "forever")):
        return None
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= MAX_SECONDS:
        return float(seconds)
    raise ValueError(f"the age of {kind} is seconds above 0, a text such as '30d', or None for ever")


def read_ages(given: object) -> dict[str, float | None]:
    """The ages of retention by kind: those given, and the defaults of the rest. A text is `messages=30d,tasks=7d`."""
    if isinstance(given, str):
        pairs = [part.partition("=")[::2] for part in given.split(",") if part.strip()]
        given = {kind.strip(): age.strip() for kind, age in pairs}
    if given is None:
        given = dict.fromkeys(DEFAULT_AGES)
    if not isinstance(given, Mapping):
        raise ValueError("a mapping of kinds to ages is accepted, or a text such as 'messages=30d,tasks=7d'")
    if unknown := [kind for kind in given if not (isinstance(kind, str) and kind in list(Prunable))]:
        raise ValueError(f"there is no kind {unknown[0]!r}, but {', '.join(Prunable)}")
    return {**DEFAULT_AGES, **{str(kind): _read_age(str(kind), age) for kind, age in given.items()}}


DEFAULT_AGES: dict[str, float | None] = {str(Prunable.IDEMPOTENCY_KEYS): 7 * 86_400.0}
Ages = Annotated[dict[str, float | None], BeforeValidator(read_ages)]
Number = BeforeValidator(_refuse_bool)
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False), Number]
SecondsOrZero = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False), Number]
Count = Annotated[int, Field(ge=1, le=2**31 - 1), Number]
Text = Annotated[str, AfterValidator(_clean)]
Switch = Annotated[bool, BeforeValidator(_switch)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _environment() -> tuple[dict[str, str], str | None]:
    """Read the environment and the file; the second result says why that file was passed over, if it was."""
    path = os.path.join(os.curdir, ".env")
    if not os.path.isfile(path):
        return dict(os.environ), None
    from dotenv import dotenv_values

    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        return dict(os.environ), f"The file {os.path.abspath(path)} cannot be read: {error.strerror}."
    if b"\0" in data:
        return dict(os.environ), f"The file {os.path.abspath(path)} is not text in UTF-8."
    # Another program's value, or a comment, in another encoding is no concern of ours; a value of ours is refused.
    text = data.decode("utf-8-sig", "surrogateescape")
    file = {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None}
    return {**file, **os.environ}, None


class Settings(BaseModel):
    """What all settings are: read once, when they are made, and fixed from then on."""

    # Built at first use, so that importing the package stays quick.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        defer_build=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
    )

    prefix: ClassVar[str] = ""
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The environment variables of a field where they are not the prefix and its name; the first one set counts."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    """The fields whose value is not shown in errors."""
    shared: ClassVar[frozenset[str]] = frozenset()
    """Variables that other programs read too: where the value is none of ours the default holds, with a warning."""
    _refused: dict[str, str] = PrivateAttr(default_factory=dict)
    """Why the value of a variable was passed over, by field."""
    _file_refused: str | None = PrivateAttr(default=None)
    """Why the `.env` file was passed over."""

    def __init__(self, **settings: Any) -> None:
        if settings.get("url", "") is None:
            del settings["url"]  # so that a URL that may be None can be passed on
        environment, passed_over = _environment()
        sources: dict[str, str] = {}
        for name in type(self).model_fields.keys() - settings.keys():
            for variable in self.variables.get(name, (self.prefix + name.upper(),)):
                # An empty password is one; any other blank variable is how shells and compose files say "not set".
                if environment.get(variable, "").strip() or (name == "password" and variable in environment):
                    text = environment[variable] if name == "password" else environment[variable].strip()
                    settings[name] = None if text.strip().lower() == "none" and name != "password" else text
                    sources[name] = variable
                    break
        refused: dict[str, str] = {}
        while True:
            try:
                super().__init__(**settings)
                break
            except ValidationError as error:
                problems = [
                    problem
                    for problem in error.errors(include_url=False)
                    if problem["type"] != "default_factory_not_called"  # follows from another problem
                ]
                passed = {
                    field: self._explain(problem, sources)
                    for problem in problems
                    for field in self._passed_over(problem, sources)
                }
                if not passed:
                    reasons = [self._explain(problem, sources) for problem in problems]
                    raise ConfigurationError(" ".join(reasons)) from None
            refused |= passed
            for name in passed:
                del settings[name]
        self._refused = refused
        self._file_refused = passed_over
        for name, reason in refused.items():
            if sources[name] in self.shared:
                logger.warning("%s It may be meant for another program: the default holds.", reason)

    @classmethod
    def _passed_over(cls, problem: Mapping[str, Any], sources: Mapping[str, str]) -> Collection[str]:
        """The fields whose variables are passed over because of this problem."""
        name = str(problem["loc"][0]) if problem["loc"] else ""
        return [name] if sources.get(name) in cls.shared else []

    @classmethod
    def _explain(cls, problem: Mapping[str, Any], sources: Mapping[str, str]) -> str:
        name = ".".join(str(part) for part in problem["loc"][:1])
        if problem["type"] == "extra_forbidden":
            return name_unknown(cls.__name__, name, cls.model_fields)
        reason = str(problem.get("ctx", {}).get("error") or problem["msg"])
        if not name:
            return f"{cls.__name__}: {reason}"
        if name in sources:
            where = "the environment" if sources[name] in os.environ else ".env"
            setting = f"{sources[name]} in {where}"
        else:
            setting = f"{cls.__name__}.{name}"
        value = "the value given" if name in cls.secrets else _show(problem["input"])
        if isinstance(problem.get("ctx", {}).get("error"), ConfigurationError):
            return f"{setting}: {reason}"
        return f"{setting}: {value} is refused; {reason[:1].lower()}{reason[1:]}."


def _show(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


def name_unknown(owner: str, name: str, known: Any) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else f" There are: {', '.join(known)}."
    return f"{owner} has no setting {name!r}.{hint}"
