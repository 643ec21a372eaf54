"""One POST to the operator: the only place that speaks HTTP about a run."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crewrun_api import names
from crewrun_runner.exceptions import cause_words, seconds_until
from crewrun_runner.reporting import Reply

#: For each step of a request: connect, write, and between two pieces of an answer.
TIMEOUT_SECONDS = 5.0


class Post:
    """Sends bodies over one connection that is kept, from one thread."""

    def __init__(self, url: str, folder: Path, learn: Callable[[str], None]) -> None:
        self._url = url
        self._folder = folder
        self._learn = learn
        self._client: Any = None

    def __call__(self, body: bytes) -> Reply:
        try:
            # Read each time: kubelet replaces it long before it expires.
            token = (self._folder / names.TOKEN_FILE).read_text().strip()
            self._learn(token)
            if self._client is None:
                self._client = self._connect()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            response = self._client.post(self._url, content=body, headers=headers)
            wait = response.headers.get("retry-after")
            retry_after = seconds_until(wait, datetime.now(UTC)) if wait else None
            return Reply(response.status_code, response.content, retry_after)
        except Exception as error:  # whatever it is, it must not reach the crew
            self._drop()
            return Reply(0, error=f"{type(error).__name__}: {cause_words(error)}")

    def _connect(self) -> Any:
        """A client that trusts the operator's own authorities and nobody else. After each failure there is a new
        one, since the authorities may have been replaced."""
        import httpx  # in the runner's environment, where openai needs it

        verify: ssl.SSLContext | bool = True
        if self._url.startswith("https:"):
            authorities = (self._folder / names.CA_FILE).read_text()
            verify = ssl.create_default_context(cadata=authorities)
        return httpx.Client(verify=verify, trust_env=False, timeout=TIMEOUT_SECONDS)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
