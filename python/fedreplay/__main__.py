"""The commands ``fedreplay`` and ``python -m fedreplay``: the program that this package carries, and ``quickstart``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from fedreplay import _program

_RUN = Path("runs") / "quickstart"


def main() -> int:
    """Becomes the program, so that signals and the exit code are the program's own. Returns only if that fails."""
    arguments = sys.argv[1:]
    try:
        if _is_module():
            _program.check_path()
        if arguments[:1] == ["quickstart"]:
            arguments = _quickstart(arguments[1:])
        if any(argument.split("=")[0] == "--track" for argument in arguments):
            from fedreplay import _track

            return _track.main(arguments)
        command = [*_program.command(), *arguments]
        environment = _program.environment()
    except _program.NotUsable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # Python ignores these two, and a program that is executed inherits that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execve(command[0], ["fedreplay", *command[1:]], environment)
    except OSError as error:
        print(f"error: {command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 1


def _quickstart(options: list[str]) -> list[str]:
    """Returns the program's arguments for the quickstart, whose run is in ./runs/quickstart.

    Without options a run that was finished is verified, and one that was interrupted goes on.
    """
    if not options:
        state = _state_of(_RUN)
        if state is not None:
            return ["resume" if state == "running" else "verify", str(_RUN)]
    is_placed = any(option.split("=")[0] == "--out" for option in options)
    folder = [] if is_placed else ["--out", str(_RUN)]
    return ["run", str(_program.scenario("quickstart")), *folder, *options]


def _state_of(run: Path) -> str | None:
    """Returns the state that a run's manifest states; ``None`` where there is no run."""
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["state"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # The program says what is wrong with it.
        return "unreadable"


def _is_module() -> bool:
    """Returns whether this was started by ``python -m``, which does not say which ``fedreplay`` the shell would start."""
    return __name__ == "__main__"


if __name__ == "__main__":
    sys.exit(main())
