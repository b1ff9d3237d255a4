"""Install each framework of `[dependency-groups]` in an environment of its own, and run its example there, twice.

    python scripts/run_frameworks.py                  all of them
    python scripts/run_frameworks.py langgraph flask  these

The environments are in .venv/frameworks, and are kept: the next time only what has changed is installed. What an
example prints last is compared with `LAST_LINE`, which the tests read too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv" / "frameworks"
LAST_LINE = {
    "autogen": "end_when after 5 turns",
    "celery": "the note is done",
    "flask": "200 When do we ship? On Monday.",
    "langgraph": "the editor has: Turn about.",
    "openai-agents": "In Paris it is sunny.",
    "pydantic-ai": "Billing says: It was paid on Monday.",
}


def example_of(name: str) -> Path:
    """The program of a framework."""
    return ROOT / "examples" / "frameworks" / f"with_{name.replace('-', '_')}.py"


def requirements() -> dict[str, list[str]]:
    """What each framework needs."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return {name: list(needed) for name, needed in groups.items()}


def install(name: str, needed: list[str]) -> Path:
    """Make the environment, or bring it up to date; returns its Python."""
    environment = FOLDER / name
    python = environment / "bin" / "python"
    if uv := shutil.which("uv"):
        if not python.exists():
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)  # noqa: S603
        command = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)  # noqa: S603
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "-e", str(ROOT), *needed], check=True)  # noqa: S603
    return python


def run(name: str, python: Path) -> str | None:
    """Run its example twice in one folder; returns what is wrong."""
    with TemporaryDirectory(dir=FOLDER) as folder:
        for _ in range(2):
            done = subprocess.run(  # noqa: S603
                [str(python), str(example_of(name))],
                cwd=folder,
                env={**os.environ, "PYTHONUTF8": "1"},
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            if done.returncode:
                return done.stderr
            last = done.stdout.splitlines()[-1:]
            if last != [LAST_LINE[name]]:
                return f"it ends with {last}, and is to end with {LAST_LINE[name]!r}\n{done.stderr}"
    return None


def main() -> int:
    """Run those that are named, or all."""
    known = requirements()
    if unknown := set(sys.argv[1:]) - known.keys():
        print(f"no framework {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    failed = []
    for name in sys.argv[1:] or known:
        FOLDER.mkdir(parents=True, exist_ok=True)
        problem = run(name, install(name, known[name]))
        print(f"{name}: {'as expected' if problem is None else problem}", flush=True)
        if problem is not None:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
