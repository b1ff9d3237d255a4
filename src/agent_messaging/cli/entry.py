"""The entry point: Ctrl-C while the command is being loaded ends it by the signal itself, without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the command, and run it."""
    before = signal.getsignal(signal.SIGINT)
    is_usual = before is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run

    if is_usual:
        signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
