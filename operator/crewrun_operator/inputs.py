"""The inputs of a run: everything that gives some, put together and checked. Purely computational."""

from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs

from crewrun_api.reasons import AcceptedReason
from crewrun_operator.definition import Problem, variables
from crewrun_operator.refused import Refused
from crewrun_operator.sources import Inputs, Source

#: What a schema says of each input by itself. The rest waits for the runner while a Secret holds some of them.
_OF_EACH = frozenset({"properties", "patternProperties", "additionalProperties", "propertyNames", "required"})
Schema = Mapping[str, Any]


def all_inputs(
    schema: Schema | None, source: Source, given: Mapping[str, Any], more: Inputs, path: str
) -> dict[str, Any]:
    """The inputs with all defaults applied, after they passed the schema and cover every variable. Those that
    Secrets hold are not among them, and count as given."""

    def where(name: str) -> str:
        return more.places.get(name, f"spec.inputs.{name}")

    own = source.definition.get("inputs", {}) if source.definition else {}
    inputs = {**own, **_schema_defaults(schema, path), **more.values, **given}
    inputs = {name: value for name, value in inputs.items() if name not in more.secrets}
    found = _schema_problems(schema, inputs, more, path, where) if schema else []
    told = {problem.path for problem in found}
    for name, used in (variables(source.definition, "") if source.definition else {}).items():
        if name not in inputs and name not in more.secrets and where(name) not in told:
            found.append(Problem(where(name), f"is missing: {source.place(used)} uses {{{name}}}"))
    if found:
        raise Refused(AcceptedReason.INVALID_INPUTS, *found)
    return inputs


def _schema_defaults(schema: Schema | None, path: str) -> dict[str, Any]:
    properties = (schema or {}).get("properties", {})
    if not isinstance(properties, Mapping):
        raise Refused(AcceptedReason.INVALID_CREW, Problem(f"{path}.inputSchema.properties", "must be an object"))
    return {
        name: node["default"] for name, node in properties.items() if isinstance(node, Mapping) and "default" in node
    }


def _schema_problems(
    schema: Schema, inputs: Mapping[str, Any], more: Inputs, path: str, where: Callable[[str], str]
) -> list[Problem]:
    """What the schema says of the inputs. Anybody may write a schema, so it is carried out by an engine that
    never follows a `$ref` to an address, and whose patterns take linear time."""
    linear = jsonschema_rs.RegexOptions()
    try:
        validator = jsonschema_rs.Draft202012Validator(dict(schema), pattern_options=linear, offline=True)
        errors = list(validator.iter_errors(dict(inputs)))
    except jsonschema_rs.ValidationError as error:
        broken = ".".join([f"{path}.inputSchema", *map(str, error.instance_path)])
        raise Refused(AcceptedReason.INVALID_CREW, Problem(broken, error.message)) from None
    except ValueError as error:  # a number or a text that the engine has no form for
        raise Refused(AcceptedReason.INVALID_CREW, Problem(f"{path}.inputSchema", str(error))) from None
    if more.secrets:
        errors = [error for error in errors if _known_already(error, more)]
    return sorted({_schema_problem(error, where) for error in errors}, key=str)


def _known_already(error: jsonschema_rs.ValidationError, more: Inputs) -> bool:
    """Whether an input from a Secret cannot mend it."""
    if not error.schema_path or error.schema_path[0] not in _OF_EACH:
        return False
    missing = error.kind.property if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required) else None
    return bool(error.instance_path) or missing not in more.secrets


def _schema_problem(error: jsonschema_rs.ValidationError, where: Callable[[str], str]) -> Problem:
    inner = [str(part) for part in error.instance_path]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        inner.append(error.kind.property)
        message = "is missing: the crew's inputSchema requires it"
    else:
        message = error.message
    return Problem(".".join([where(inner[0]), *inner[1:]]) if inner else "spec.inputs", message)
