"""Runs the commands that take long, and shows that they are alive.

Output goes to a file; a person sees a line at the start, one every ten seconds with the last
thing the command said, and the end of the output when it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.errors import DevClusterError

INTERVAL = 10.0
# Where Debian keeps programs for root; not on everybody's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAIL_LINES = 25


def say(message: str) -> None:
    """Tell the person at the terminal; standard output is kept for what scripts read."""
    print(f"[devcluster] {message}", file=sys.stderr, flush=True)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, without reading a large one whole."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no output)"
    return "\n".join(text.rstrip().splitlines()[-lines:]) or "(no output)"


def with_system_path(env: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a command: the person's own PATH first, then the system's folders."""
    env = dict(os.environ if env is None else env)
    return {**env, "PATH": f"{env.get('PATH', '')}:{SYSTEM_PATH}".strip(":")}


def find_program(name: str) -> str | None:
    """Path of a program, on the person's PATH or in the system's folders."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)


def run_long(
    command: Sequence[str],
    *,
    what: str,
    log: Path,
    hint: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command that may take minutes; raise with its last lines when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=with_system_path(env),
                cwd=cwd,
            )
        except OSError as error:
            raise DevClusterError(f"{what}: cannot start {command[0]}: {error}", hint=hint) from error
        try:
            while True:
                try:
                    code = process.wait(timeout=INTERVAL)
                    break
                except subprocess.TimeoutExpired:
                    last = tail(log, 1)[-90:]
                    say(f"{what}: {time.monotonic() - started:.0f} s ... {last}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        raise DevClusterError(
            f"{what} failed after {time.monotonic() - started:.0f} s with exit code {code}.\n"
            f"{tail(log)}\n  Whole output: {log}",
            hint=hint,
        )


def run_quick(
    command: Sequence[str],
    *,
    what: str,
    hint: str = "",
    check: bool = True,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run a short command and keep its output; with `check`, raise with that output on failure."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=with_system_path(env),
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        if not check:
            return subprocess.CompletedProcess(command, 124, "", f"no answer in {timeout:.0f} s")
        raise DevClusterError(f"{what}: no answer from {' '.join(command)} in {timeout:.0f} s", hint=hint) from error
    except OSError as error:
        raise DevClusterError(f"{what}: cannot start {command[0]}: {error}", hint=hint) from error
    if check and done.returncode != 0:
        raise DevClusterError(
            f"{what} failed: {' '.join(command)} (exit code {done.returncode}): "
            f"{(done.stderr or done.stdout).strip()[-2000:]}",
            hint=hint,
        )
    return done
