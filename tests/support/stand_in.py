"""A stand-in for a runner: it holds the real token of a real Pod and reports as a test wants."""

import http.client
import json
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client

from crewrun_api import names
from crewrun_api.outcome import OutcomeRecord, OutputRecord
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_api.report import OutputFile, Report, Snapshot, Upload
from devcluster.pki import Authority, Identity
from tests.support.kube import Document, Kube

MOMENT = "2026-01-01T00:00:00Z"


def make_certificates(folder: Path) -> Path:
    """What the chart mounts into the operator, for loopback."""
    authority = Authority("reports")
    pair = authority.issue(Identity("operator", names=("localhost", "127.0.0.1")))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("tls.crt", pair.cert), ("tls.key", pair.key), ("ca.crt", authority.pair.cert)):
        (folder / name).write_bytes(data)
    return folder


@dataclass(frozen=True)
class Answered:
    """What the operator said."""

    status: int
    document: Document


@dataclass
class StandIn:
    """The runner of one Pod."""

    kube: Kube
    pod: Document
    port: int
    authorities: Path

    @classmethod
    def of(cls, kube: Kube, run: str, port: int, certificates: Path, attempt: int = 1) -> "StandIn":
        """Of the Pod of this attempt, as soon as it runs."""
        labels = {names.LABEL_RUN: run, names.LABEL_ATTEMPT: str(attempt)}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pods = [pod for pod in kube.items("pods", **labels) if pod["status"].get("phase") == "Running"]
            if pods:
                return cls(kube, pods[0], port, certificates / "ca.crt")
            time.sleep(0.1)  # kubectl wait does not wait for objects that are not there yet
        raise AssertionError(f"no Pod of attempt {attempt} of {run} runs")

    def token(self, audience: str = names.AUDIENCE, pod: Document | None = None) -> str:
        """As kubelet projects it: for this Pod and this audience alone."""
        metadata = (pod or self.pod)["metadata"]
        bound = client.V1BoundObjectReference(api_version="v1", kind="Pod", name=metadata["name"], uid=metadata["uid"])
        spec = client.V1TokenRequestSpec(audiences=[audience], expiration_seconds=3600, bound_object_ref=bound)
        request = client.AuthenticationV1TokenRequest(spec=spec)
        answer = self.kube.core.create_namespaced_service_account_token("default", self.kube.namespace, request)
        return str(answer.status.token)

    @property
    def path(self) -> str:
        metadata = self.pod["metadata"]
        labels = metadata["labels"]
        return names.report_path(self.kube.namespace, labels[names.LABEL_RUN], labels[names.LABEL_ATTEMPT])

    def report(
        self,
        sequence: int,
        *,
        checkpoint: bytes | None = None,
        output: str | None = None,
        files: dict[str, bytes] | None = None,
        **snapshot: Any,
    ) -> Report:
        metadata = self.pod["metadata"]
        me = {
            "run_uid": metadata["labels"][names.LABEL_RUN_UID],
            "attempt": int(metadata["labels"][names.LABEL_ATTEMPT]),
            "pod_uid": metadata["uid"],
        }
        outcome = None
        if output is not None:
            outcome = OutcomeRecord(
                **me,
                outcome=Outcome.SUCCEEDED,
                reason=Reason.COMPLETED,
                exit_code=ExitCode.SUCCEEDED,
                start_time=MOMENT,
                completion_time=MOMENT,
                tasks_total=1,
                tasks_succeeded=1,
                output=OutputRecord.of(output),
            )
        return Report(
            snapshot=Snapshot(**{**me, "sequence": sequence, "tasks_total": 1, **snapshot}),
            checkpoint=Upload.of(checkpoint) if checkpoint is not None else None,
            outcome=outcome,
            files=[OutputFile(name=n, bytes=len(d), upload=Upload.of(d)) for n, d in (files or {}).items()],
        )

    def post(
        self, report: Report | bytes, *, token: str | None = None, path: str | None = None, headers: Any = None
    ) -> Answered:
        """One request over TLS; raises OSError when the operator is away."""
        body = report if isinstance(report, bytes) else report.model_dump_json(by_alias=True).encode()
        sent = {"Authorization": f"Bearer {token or self.token()}"} if headers is None else headers
        with self.connected() as connection:
            connection.request("POST", path or self.path, body=body, headers=sent)
            response = connection.getresponse()
            return Answered(response.status, json.loads(response.read() or b"{}"))

    def flood(self, report: Report, seconds: float) -> Counter[int]:
        """The same report over and over on one connection; how often each status was the answer."""
        body, statuses = report.model_dump_json(by_alias=True).encode(), Counter[int]()
        sent, over = {"Authorization": f"Bearer {self.token()}"}, time.monotonic() + seconds
        with self.connected() as connection:
            while time.monotonic() < over:
                connection.request("POST", self.path, body=body, headers=sent)
                response = connection.getresponse()
                response.read()
                statuses[response.status] += 1
        return statuses

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPSConnection]:
        context = ssl.create_default_context(cafile=str(self.authorities))
        with closing(http.client.HTTPSConnection("localhost", self.port, context=context, timeout=30)) as connection:
            yield connection

    def insist(self, report: Report, seconds: int = 60) -> Answered:
        """Send it until it is taken, as a runner does while its operator is away."""
        token, deadline = self.token(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                answered = self.post(report, token=token)
            except OSError:
                time.sleep(0.2)  # an operator that starts offers nothing to wait for but its port
                continue
            if answered.status not in (429, 503):
                return answered
            time.sleep(0.2)
        raise AssertionError(f"the report was not taken in {seconds} s")
