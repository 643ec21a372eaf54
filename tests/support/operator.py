"""The operator as a process of the test's own: started, asked, killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_START_SECONDS = 30
_ROOT = Path(__file__).parents[2]


class Operator:
    """`python -m crewrun_operator`, or another module that runs it, against a kubeconfig."""

    def __init__(self, kubeconfig: Path, log: Path, module: str = "crewrun_operator", **settings: str) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_ROOT / "operator"), str(_ROOT)]),
            "KUBECONFIG": str(kubeconfig),
            "CREWRUN_RUNNER_IMAGE": "localhost/crewrun-runner:dev",
            "CREWRUN_HTTP_HOST": "127.0.0.1",
            "CREWRUN_HTTP_PORT": "0",
            **settings,
        }
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "Operator":
        return self.await_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def await_ready(self) -> "Operator":
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the operator ended at once: {self.log.read_text()}"
            if (url := self.url) and self._ok(f"{url}/readyz"):
                return self
            time.sleep(0.05)  # a process that starts offers nothing to wait for but its port
        raise AssertionError(f"the operator is not ready after {_START_SECONDS} s: {self.log.read_text()}")

    def await_death(self, seconds: int = 60) -> int:
        """The exit status of an operator that something kills."""
        return self.process.wait(timeout=seconds)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def url(self) -> str | None:
        """Where the operator serves probes and metrics: it says so in its first log line."""
        return self._said("started", "probes")

    @property
    def reports_port(self) -> int:
        """Where it takes reports."""
        return int(self._said("takes reports", "port") or 0)

    def metric(self, name: str) -> float:
        """The value of a metric that has no labels, or with them in its name."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))

    def _said(self, event: str, field: str) -> str | None:
        for line in self.log.read_text().strip().split("\n"):  # manifests carry other separators of lines
            if f'"event": "{event}"' in line:
                return str(json.loads(line)[field])
        return None

    @staticmethod
    def _ok(url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False
