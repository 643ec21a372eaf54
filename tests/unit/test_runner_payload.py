"""The files and variables that the operator hands over."""

import json
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.reasons import Reason
from crewrun_runner.payload import Execution, check, execution, read
from crewrun_runner.refusal import Refusal

SPEC = json.dumps({"crew": "c", "definition": {"agents": {}, "tasks": []}}).encode()


def test_a_payload_with_its_digest_is_taken() -> None:
    payload = check(SPEC, b'{"topic": "AI"}', names.payload_digest(SPEC, b'{"topic": "AI"}'))
    assert (payload.spec.crew, payload.inputs) == ("c", {"topic": "AI"})


REFUSED: list[tuple[bytes, bytes, Reason, str]] = [
    (b"{}", b"{}", Reason.RUNNER_CRASHED, "spec.json does not fit this runner: crew: Field required"),
    (b"nothing", b"{}", Reason.RUNNER_CRASHED, "(top)"),
    (SPEC, b"[1]", Reason.INVALID_INPUTS, "must hold an object"),
    (SPEC, b"{", Reason.INVALID_INPUTS, "is not JSON"),
]


@pytest.mark.parametrize(("spec", "inputs", "want", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_payload_that_cannot_be_understood_says_why(spec: bytes, inputs: bytes, want: Reason, text: str) -> None:
    with pytest.raises(Refusal) as found:
        check(spec, inputs, names.payload_digest(spec, inputs))
    assert found.value.reason is want
    assert text in found.value.message


def test_an_edited_payload_is_refused() -> None:
    with pytest.raises(Refusal) as found:
        check(SPEC, b'{"topic": "other"}', names.payload_digest(SPEC, b'{"topic": "AI"}'))
    assert found.value.reason is Reason.CREW_CHANGED


def test_missing_files_are_named(tmp_path: Any) -> None:
    with pytest.raises(Refusal, match=r"spec\.json"):
        read({"CREWRUN_SPEC_DIR": str(tmp_path)})


def test_an_execution_is_read_from_the_environment() -> None:
    environ = {
        names.ENV_RUN_NAMESPACE: "team-a",
        names.ENV_RUN_NAME: "research",
        names.ENV_RUN_UID: "u",
        names.ENV_ATTEMPT: "2",
        names.ENV_POD_UID: "p",
    }
    assert execution(environ) == Execution("team-a", "research", "u", 2, "p")
    assert execution(environ).run == "team-a/research"
    with pytest.raises(KeyError):
        execution({})
