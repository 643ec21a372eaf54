"""A Prometheus of the test's own, which scrapes one operator every second and computes the chart's rules."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from devcluster.unpacked import ensure_unpacked

_SECONDS = 30


class Prometheus:
    """Ask it with PromQL."""

    def __init__(self, target: str, rules: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{free.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": "crewrun", "honor_labels": True, "static_configs": [{"targets": [target]}]}
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [
            str(ensure_unpacked("prometheus")),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
        ]
        self._log = folder / "prometheus.log"
        with self._log.open("w") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The samples that answer it; an error is the test's error."""
        answer: list[dict[str, Any]] = self._ask("query", query=promql)["result"]
        return answer

    def range(self, promql: str, begin: float, end: float, step: float = 1) -> list[dict[str, Any]]:
        """The series that answer it between these times."""
        asked = {"query": promql, "start": str(begin), "end": str(end), "step": str(step)}
        answer: list[dict[str, Any]] = self._ask("query_range", **asked)["result"]
        return answer

    def history(self, promql: str, begin: float, end: float, step: float = 1) -> list[tuple[float, float]]:
        """The answers at each moment between these times; of a query that has at most one at each."""
        found = self.range(promql, begin, end, step)
        assert len(found) <= 1, found
        return [(float(moment), float(value)) for moment, value in (found[0]["values"] if found else ())]

    def await_exemplars(self, series: str, begin: float, wanted: list[str]) -> None:
        """Until the exemplars of these series since then have these traces and no other."""
        deadline, last = time.monotonic() + _SECONDS, None
        while time.monotonic() < deadline:
            found = self._ask("query_exemplars", query=series, start=str(begin), end=str(time.time()))
            last = sorted({each["labels"]["trace_id"] for its in found for each in its["exemplars"]})
            if last == wanted:
                return
            time.sleep(0.1)
        raise AssertionError(f"the exemplars of {series} have the traces {last} and not {wanted}")

    def rules(self) -> list[dict[str, Any]]:
        """The rules as they were last computed."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def await_value(self, promql: str, wanted: float) -> None:
        """Until the query has this one answer: Prometheus scrapes when it likes, and tells nobody."""
        deadline, last = time.monotonic() + _SECONDS, None
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                last = [float(each["value"][1]) for each in self.query(promql)]
            except urllib.error.HTTPError as error:
                if error.code != 503:  # it is starting
                    raise
            except urllib.error.URLError:
                pass
            if last == [wanted]:
                return
            time.sleep(0.1)
        raise AssertionError(f"{promql} is {last} and not {wanted}")

    def _ask(self, what: str, **query: str) -> Any:
        url = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]
