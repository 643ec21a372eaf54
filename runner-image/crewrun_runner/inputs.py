"""Inputs that Secrets hold: the operator cannot read those, so the runner checks them. Purely computational.

The rules are the operator's own (its `validate`): the same dialect, no `$ref` to an address, linear patterns.
"""

from collections.abc import Mapping
from typing import Any

from crewrun_api.reasons import Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_runner.refusal import Refusal

_SHOWN_PROBLEMS = 5
#: Stands in messages where the value would.
_MASK = "the value"


def whole(spec: ResolvedRun, inputs: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """All inputs, those from Secrets included. Raises Refusal."""
    missing = [name for name, variable in spec.secret_inputs.items() if variable not in environ]
    if missing:
        raise Refusal(
            Reason.MISSING_SECRET,
            f"spec.inputsFrom: the runner has no value of the input {missing[0]}; check the Secret and its key",
        )
    found = {**inputs, **{name: environ[variable] for name, variable in spec.secret_inputs.items()}}
    if spec.input_schema is not None:
        _check(spec.input_schema, found)
    return found


def _check(schema: Mapping[str, Any], inputs: dict[str, Any]) -> None:
    import jsonschema_rs  # 15 MB that few runs need

    try:
        validator = jsonschema_rs.Draft202012Validator(
            dict(schema), pattern_options=jsonschema_rs.RegexOptions(), offline=True, mask=_MASK
        )
        problems = sorted({_problem(error) for error in validator.iter_errors(inputs)})
    except (jsonschema_rs.ValidationError, ValueError) as error:
        text = getattr(error, "message", str(error))
        raise Refusal(Reason.INVALID_CREW, f"inputSchema is no JSON Schema: {text}; mend it in the Crew") from None
    if problems:
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise Refusal(Reason.INVALID_INPUTS, "; ".join(problems[:_SHOWN_PROBLEMS]) + more)


def _problem(error: Any) -> str:
    from jsonschema_rs import ValidationErrorKind

    where = ".".join(["inputs", *map(str, error.instance_path)])
    if isinstance(error.kind, ValidationErrorKind.Required):
        return f"{where}.{error.kind.property}: is missing: the crew's inputSchema requires it"
    return f"{where}: {error.message}"
