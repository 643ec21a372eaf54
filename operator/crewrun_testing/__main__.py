"""`python -m crewrun_testing --script FILE`: the scripted LLM as a process, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .running import ScriptedLLM
from .script import Script, ScriptError, read_script


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after a signal, 1 when the address cannot be used, 2 for a wrong script."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        script = read_script(options.script)
    except ScriptError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(script, options.host, options.port))
    except OSError as error:
        address = f"{options.host}:{options.port}"
        print(f"cannot listen on {address}: {error}; choose another --port", file=sys.stderr)
        return 1
    return 0


async def _serve(script: Script, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with ScriptedLLM(script, host=host, port=port) as llm:
        print(f"scripted LLM: {len(script.rules)} rules, listening on {llm.base_url}", flush=True)
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crewrun_testing",
        description="OpenAI-compatible server that answers from a script and shows each request at /ledger.",
    )
    parser.add_argument("--script", type=Path, help="YAML or JSON file (default: one answer to everything)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
