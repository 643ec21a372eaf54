"""Inputs that Secrets hold."""

from typing import Any

import pytest

from crewrun_api.reasons import Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_runner.inputs import whole
from crewrun_runner.refusal import Refusal

VALUE = "canary-71c0f5"


def inputs(schema: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
    document = {"crew": "c", "secretInputs": {"customer": "CREWRUN_INPUT_0"}, "inputSchema": schema}
    spec = ResolvedRun.model_validate(document)
    return whole(spec, given, {"CREWRUN_INPUT_0": VALUE} if environ is None else environ)


def of(**customer: Any) -> dict[str, Any]:
    """A schema for that one input."""
    return {"type": "object", "properties": {"customer": customer}}


def test_their_values_join_the_others_and_are_stronger() -> None:
    assert inputs(topic="AI", customer="x") == {"topic": "AI", "customer": VALUE}


def test_what_the_schema_allows_passes() -> None:
    schema = {**of(type="string", pattern="^canary-"), "required": ["customer", "topic"]}
    assert inputs(schema, topic="AI") == {"topic": "AI", "customer": VALUE}


def test_without_its_variable_an_input_is_missing() -> None:
    with pytest.raises(Refusal, match="no value of the input customer; check the Secret") as found:
        inputs(environ={})
    assert found.value.reason is Reason.MISSING_SECRET


REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    (of(type="integer"), Reason.INVALID_INPUTS, 'inputs.customer: the value is not of type "integer"'),
    (of(maxLength=3), Reason.INVALID_INPUTS, "inputs.customer: the value is longer than 3 characters"),
    (of(enum=["a", "b"]), Reason.INVALID_INPUTS, 'inputs.customer: the value is not one of "a" or "b"'),
    (of(pattern="^x$"), Reason.INVALID_INPUTS, "inputs.customer: the value does not match"),
    (of(const="a"), Reason.INVALID_INPUTS, 'inputs.customer: "a" was expected'),
    (of(anyOf=[{"type": "integer"}, {"maxLength": 2}]), Reason.INVALID_INPUTS, "inputs.customer: the value is not"),
    ({**of(**{"not": {}})}, Reason.INVALID_INPUTS, "inputs.customer: "),
    ({"required": ["topic"]}, Reason.INVALID_INPUTS, "inputs.topic: is missing: the crew's inputSchema requires it"),
    ({"properties": {"a": {}}, "additionalProperties": False}, Reason.INVALID_INPUTS, "('customer' was unexpected)"),
    (of(type="text"), Reason.INVALID_CREW, "inputSchema is no JSON Schema: "),
    (of(**{"$ref": "https://example.test/s.json"}), Reason.INVALID_CREW, "inputSchema is no JSON Schema: "),
    (of(pattern="(a+)+(?=b)$"), Reason.INVALID_CREW, "inputSchema is no JSON Schema: "),
]


@pytest.mark.parametrize(("schema", "want", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_refusal_names_the_input_and_never_its_value(schema: dict[str, Any], want: Reason, text: str) -> None:
    with pytest.raises(Refusal) as found:
        inputs(schema)
    assert (found.value.reason, text in found.value.message) == (want, True), found.value.message
    assert VALUE not in found.value.message
