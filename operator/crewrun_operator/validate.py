"""The acceptance check: does this run make sense before any Pod starts or any token is spent?

Purely computational: the run, its crew and profiles in; a payload, or a refusal with the field's path, out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jsonschema_rs
from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.kinds import CrewSpec, ProfileSpec
from crewrun_api.model import Model
from crewrun_api.reasons import AcceptedReason
from crewrun_api.resolved import AttemptSettings, ResolvedRun
from crewrun_api.run import CrewStatus, RunSpec
from crewrun_operator.definition import Problem, TaskOutline, outline, problems, variables
from crewrun_operator.observed import Observed, Payload
from crewrun_operator.resolve import choose_profile, merge

_SHOWN_PROBLEMS = 5
#: Deeper documents break the libraries that read them. Schemas and definitions that people write have ten.
_MOST_LEVELS = 64
_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
#: Not a part of what runs: with more time to live or a larger budget it is the same crew, whose checkpoint counts.
_NOT_RUN = {"budget", "ttl_seconds_after_finished"}
_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that may start, and all it needs."""

    payload: Payload
    resolved: ResolvedRun
    crew: CrewStatus
    profile: str | None
    tasks: list[TaskOutline]


class Refused(Exception):
    """A run that cannot start until something is mended."""

    def __init__(self, reason: AcceptedReason, *problems: Problem) -> None:
        self.reason = reason
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)


def accept(observed: Observed) -> Accepted:
    """The run's payload; raises Refused with the first kind of problem that there is."""
    run = observed.run
    _shallow(run["spec"], "spec")
    spec = _parsed(RunSpec, run["spec"], "spec")
    crew_spec, path = _crew_spec(observed, spec)
    _shallow(crew_spec, path)
    crew = _parsed(CrewSpec, crew_spec, path)
    profile = _profile(observed, spec, crew, path)
    if crew.definition is None:
        problem = Problem(path, "only a crew with a definition is supported yet")
        raise Refused(AcceptedReason.NOT_SUPPORTED, problem)
    if found := problems(crew.definition, f"{path}.definition"):
        raise Refused(AcceptedReason.INVALID_CREW, *found)
    inputs = _inputs(crew, spec.inputs, path)
    profile_path = f"CrewProfile/{profile['metadata']['name']}: spec" if profile else ""
    layers_by_path = ((profile_path, profile["spec"] if profile else {}), (path, crew_spec), ("spec", run["spec"]))
    if found := [problem for its_path, layer in layers_by_path for problem in _quantities(layer, its_path)]:
        raise Refused(AcceptedReason.INVALID_SPEC, *found)
    run_name = run["metadata"]["name"]
    layers = (observed.defaults, profile["spec"] if profile else {}, crew_spec, run["spec"])
    document = {
        **merge(*layers),
        "crew": spec.crew_ref.name if spec.crew_ref else run_name,
        "profile": profile["metadata"]["name"] if profile else None,
        "definition": crew.definition,
    }
    resolved = _parsed(ResolvedRun, document, "spec")
    payload = Payload(spec=_canonical(resolved), inputs=_json(inputs), settings=_settings(resolved))
    if payload.size > names.PAYLOAD_LIMIT_BYTES:
        where = f"{path}.definition" if len(payload.spec) > len(payload.inputs) else "spec.inputs"
        raise Refused(AcceptedReason.TOO_LARGE, Problem(where, _too_large(payload.size)))
    referenced = observed.crew if spec.crew_ref else None
    return Accepted(
        payload=payload,
        resolved=resolved,
        crew=CrewStatus(
            name=resolved.crew,
            uid=referenced["metadata"]["uid"] if referenced else None,
            generation=referenced["metadata"].get("generation") if referenced else None,
            digest=payload.digest,
        ),
        profile=resolved.profile,
        tasks=outline(crew.definition),
    )


def _shallow(document: Mapping[str, Any], path: str) -> None:
    """Refuse a document of too many levels; without recursion, which is what it would exhaust."""
    level: list[tuple[str, Any]] = [(path, document)]
    for _ in range(_MOST_LEVELS):
        level = [
            (f"{where}.{key}", value)
            for where, node in level
            for key, value in (node.items() if isinstance(node, Mapping) else enumerate(node))
            if isinstance(value, Mapping | list)
        ]
        if not level:
            return
    where = ".".join(level[0][0].split(".")[:4])
    message = f"is nested more than {_MOST_LEVELS} levels deep"
    raise Refused(AcceptedReason.INVALID_SPEC, Problem(where, message))


def _crew_spec(observed: Observed, spec: RunSpec) -> tuple[Mapping[str, Any], str]:
    """The crew's spec as it was written, and the path that errors in it are told by."""
    if spec.crew_ref is None:
        return observed.run["spec"]["crew"], "spec.crew"
    if observed.crew is None:
        namespace = observed.run["metadata"]["namespace"]
        message = f"there is no Crew {spec.crew_ref.name!r} in namespace {namespace!r}; the run starts when it appears"
        raise Refused(AcceptedReason.CREW_NOT_FOUND, Problem("spec.crewRef.name", message))
    return observed.crew["spec"], f"Crew/{spec.crew_ref.name}: spec"


def _profile(observed: Observed, spec: RunSpec, crew: CrewSpec, path: str) -> Mapping[str, Any] | None:
    named = spec.profile or crew.profile
    profile = choose_profile(named, observed.profiles)
    if profile is None and named is not None:
        where = "spec.profile" if spec.profile else f"{path}.profile"
        message = f"there is no CrewProfile {named!r} in this namespace; the run starts when it appears"
        raise Refused(AcceptedReason.PROFILE_NOT_FOUND, Problem(where, message))
    if profile is not None:
        _shallow(profile["spec"], f"CrewProfile/{profile['metadata']['name']}: spec")
        _parsed(ProfileSpec, profile["spec"], f"CrewProfile/{profile['metadata']['name']}: spec")
    return profile


def _quantities(layer: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Quantities that the API server would refuse with the whole Job, in words that name no field."""
    resources = (layer.get("pod") or {}).get("resources") or {}
    for kind in ("requests", "limits"):
        amounts = resources.get(kind)
        for name, amount in amounts.items() if isinstance(amounts, Mapping) else ():
            if not (isinstance(amount, str) and _QUANTITY.fullmatch(amount)) and not _is_number(amount):
                message = f"{amount!r} is not a quantity such as 500m or 2Gi"
                yield Problem(f"{path}.pod.resources.{kind}.{name}", message)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inputs(crew: CrewSpec, given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The inputs with all defaults applied, after they passed the schema and cover every variable."""
    assert crew.definition is not None
    inputs = {**crew.definition.get("inputs", {}), **_schema_defaults(crew, path), **given}
    found = _schema_problems(crew.input_schema, inputs, path) if crew.input_schema else []
    for variable, where in variables(crew.definition, f"{path}.definition").items():
        if variable not in inputs and not any(p.path == f"spec.inputs.{variable}" for p in found):
            message = f"is missing: {where} uses {{{variable}}}"
            found.append(Problem(f"spec.inputs.{variable}", message))
    if found:
        raise Refused(AcceptedReason.INVALID_INPUTS, *found)
    return inputs


def _schema_defaults(crew: CrewSpec, path: str) -> dict[str, Any]:
    properties = (crew.input_schema or {}).get("properties", {})
    if not isinstance(properties, Mapping):
        raise Refused(AcceptedReason.INVALID_CREW, Problem(f"{path}.inputSchema.properties", "must be an object"))
    return {
        name: node["default"] for name, node in properties.items() if isinstance(node, Mapping) and "default" in node
    }


def _schema_problems(schema: Mapping[str, Any], inputs: Mapping[str, Any], path: str) -> list[Problem]:
    """What the schema says of the inputs. Anybody may write a schema, so it is carried out by an engine that
    never follows a `$ref` to an address, and whose patterns take linear time."""
    linear = jsonschema_rs.RegexOptions()
    try:
        validator = jsonschema_rs.Draft202012Validator(dict(schema), pattern_options=linear, offline=True)
        errors = list(validator.iter_errors(dict(inputs)))
    except jsonschema_rs.ValidationError as error:
        where = ".".join([f"{path}.inputSchema", *map(str, error.instance_path)])
        raise Refused(AcceptedReason.INVALID_CREW, Problem(where, error.message)) from None
    except ValueError as error:  # a number or a text that the engine has no form for
        raise Refused(AcceptedReason.INVALID_CREW, Problem(f"{path}.inputSchema", str(error))) from None
    return sorted({_schema_problem(error) for error in errors}, key=str)


def _schema_problem(error: jsonschema_rs.ValidationError) -> Problem:
    where = ["spec.inputs", *map(str, error.instance_path)]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        return Problem(".".join([*where, error.kind.property]), "is missing: the crew's inputSchema requires it")
    return Problem(".".join(where), error.message)


def _parsed(model: type[_M], document: Any, path: str) -> _M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = [Problem(_where(path, item["loc"]), item["msg"]) for item in error.errors()]
        raise Refused(AcceptedReason.INVALID_SPEC, *found) from None


def _where(path: str, location: tuple[int | str, ...]) -> str:
    return path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _canonical(resolved: ResolvedRun) -> str:
    """What runs."""
    return _json(resolved.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_RUN))


def _settings(resolved: ResolvedRun) -> str:
    return attempt_settings(resolved).model_dump_json(by_alias=True, exclude_none=True)


def attempt_settings(resolved: ResolvedRun) -> AttemptSettings:
    """What the operator decides by while the run goes on."""
    shared = AttemptSettings.model_fields.keys() & ResolvedRun.model_fields.keys()
    return AttemptSettings(
        **{name: getattr(resolved, name) for name in shared},
        grace_seconds=resolved.pod.termination_grace_period_seconds,
    )


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _too_large(size: int) -> str:
    return (
        f"definition and inputs are {size} bytes together, more than the {names.PAYLOAD_LIMIT_BYTES} that fit a "
        "Pod's annotations; put a crew of this size into an image"
    )
