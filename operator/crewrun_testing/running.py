"""Running the scripted LLM: in a test's event loop, or in a thread for tests without one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from .ledger import Ledger
from .script import Script, read_script
from .server import Server

ScriptSource = Script | Mapping[str, Any] | str | Path | None
STOP_SECONDS = 1.0  # for answers that are being written; what waits is ended at once


class ScriptedLLM:
    """`async with ScriptedLLM(script) as llm:` serves at `llm.base_url` and records into `llm.ledger`."""

    def __init__(self, script: ScriptSource = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = Server(read_script(script))
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def ledger(self) -> Ledger:
        return self._server.ledger

    @property
    def port(self) -> int:
        """The port that is listened on; known once it runs, also when 0 was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The root, where /ledger, /script and /healthz are."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    def set_script(self, script: ScriptSource) -> None:
        """Play another script from its start; the ledger goes on."""
        self._server.set_script(read_script(script))

    def reset(self) -> None:
        """An empty ledger, and the same script from its start."""
        self._server.reset()

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        # aiohttp's own log would quote bytes of requests that it cannot parse: they may hold a key.
        mute = logging.Logger("crewrun_testing.muted")
        mute.addHandler(logging.NullHandler())
        runner = web.AppRunner(
            self._server.app(),
            handler_cancellation=True,  # a client that goes away ends its call at once
            access_log=None,
            logger=mute,
            shutdown_timeout=STOP_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner, self._port = runner, runner.addresses[0][1]

    async def stop(self) -> None:
        """End what waits, finish what is being written, and stop listening."""
        self._server.stopping.set()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class ThreadedLLM:
    """`with ThreadedLLM(script) as llm:` is a ScriptedLLM whose loop runs in a thread of its own."""

    def __init__(self, script: ScriptSource = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._llm = ScriptedLLM(script, host=host, port=port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scripted-llm", daemon=True)

    @property
    def ledger(self) -> Ledger:
        return self._llm.ledger

    @property
    def port(self) -> int:
        return self._llm.port

    @property
    def url(self) -> str:
        return self._llm.url

    @property
    def base_url(self) -> str:
        return self._llm.base_url

    def set_script(self, script: ScriptSource) -> None:
        self._llm.set_script(script)

    def reset(self) -> None:
        self._llm.reset()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._llm.start()
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._started.set()
        try:
            await self._stop.wait()
        finally:
            await self._llm.stop()
