"""What the operator hands over: two files and a few variables. Purely computational but for `read`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.allowance import Allowance
from crewrun_api.reasons import Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_runner.budget import Caps
from crewrun_runner.refusal import Refusal

_SAME_RELEASE = "the runner image and the operator must be of the same release"
ENV_SPEC_DIR = "CREWRUN_SPEC_DIR"
ENV_TERMINATION_LOG = "CREWRUN_TERMINATION_LOG"


@dataclass(frozen=True)
class Execution:
    """Who this process is: an execution is one attempt in one Pod."""

    namespace: str
    name: str
    run_uid: str
    attempt: int
    pod_uid: str

    @property
    def run(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Payload:
    """What to run, with what inputs."""

    spec: ResolvedRun
    inputs: dict[str, Any]


def execution(environ: Mapping[str, str]) -> Execution:
    """Raises KeyError or ValueError: without these no record could be told from another's."""
    return Execution(
        namespace=environ[names.ENV_RUN_NAMESPACE],
        name=environ[names.ENV_RUN_NAME],
        run_uid=environ[names.ENV_RUN_UID],
        attempt=int(environ[names.ENV_ATTEMPT]),
        pod_uid=environ[names.ENV_POD_UID],
    )


def caps(environ: Mapping[str, str]) -> Caps:
    """What the attempt may spend. A limit that cannot be read must not be taken for none."""
    text = environ.get(names.ENV_ALLOWANCE)
    if not text:
        return Caps()
    try:
        return Caps.of(Allowance.model_validate_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or "(top)"
        raise Refusal(
            Reason.RUNNER_CRASHED, f"{names.ENV_ALLOWANCE}: {path}: {first['msg']}; {_SAME_RELEASE}"
        ) from error


def read(environ: Mapping[str, str]) -> Payload:
    """The mounted files, checked."""
    folder = Path(environ.get(ENV_SPEC_DIR, names.SPEC_DIR))
    try:
        spec = (folder / names.SPEC_FILE).read_bytes()
        inputs = (folder / names.INPUTS_FILE).read_bytes()
    except OSError as error:
        raise Refusal(
            Reason.RUNNER_CRASHED, f"the files of the run cannot be read: {error}; they are mounted at {folder}"
        ) from error
    return check(spec, inputs, environ.get(names.ENV_DIGEST, ""))


def check(spec: bytes, inputs: bytes, digest: str) -> Payload:
    """The payload, if it is the one that the operator sent and can be understood."""
    if names.payload_digest(spec, inputs) != digest:
        raise Refusal(
            Reason.CREW_CHANGED,
            f"the mounted {names.SPEC_FILE} and {names.INPUTS_FILE} do not have the digest that the operator "
            "recorded: somebody edited the Pod's annotations; start the run again",
        )
    try:
        resolved = ResolvedRun.model_validate_json(spec)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise Refusal(
            Reason.RUNNER_CRASHED,
            f"{names.SPEC_FILE} does not fit this runner: {path}: {first['msg']}; {_SAME_RELEASE}",
        ) from error
    try:
        values = json.loads(inputs)
    except ValueError as error:
        raise Refusal(Reason.INVALID_INPUTS, f"{names.INPUTS_FILE} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise Refusal(Reason.INVALID_INPUTS, f"{names.INPUTS_FILE} must hold an object of inputs")
    return Payload(resolved, values)
