"""Runs the command line once for each recipe named on standard input, in one interpreter.

Prints one JSON line for each: exit code, standard error and CPU seconds; last, the modules that
were imported by then. Run as a subprocess: `python -m tests.cli.driver`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time


def run(path: str) -> dict[str, object]:
    from lora_cli.cli import main

    sys.argv = ["loracli", "plan", path]
    errors = io.StringIO()
    start = time.process_time()
    code: object = None
    with contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            code = end.code
    seconds = time.process_time() - start
    return {"path": path, "code": code, "errors": errors.getvalue(), "seconds": seconds}


def drive() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(line.rstrip("\n"))) + "\n")
    sys.stdout.write(json.dumps(sorted(sys.modules)) + "\n")


if __name__ == "__main__":
    drive()
