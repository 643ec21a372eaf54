"""The acceptance check: does this run make sense before any Pod starts or any token is spent?

Purely computational: the run, its crew and profiles in; a payload, or a refusal with the field's path, out.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import InvalidOperation
from typing import Any, TypeVar

from pydantic import ValidationError

from crewrun_api import carried_python, names
from crewrun_api.kinds import CrewSpec, ProfileSpec
from crewrun_api.merge import merge
from crewrun_api.model import Model
from crewrun_api.policy import UNBOUNDED, Policy
from crewrun_api.quantity import in_bytes
from crewrun_api.reasons import AcceptedReason
from crewrun_api.resolved import AttemptSettings, ResolvedRun
from crewrun_api.run import CrewStatus, RunSpec
from crewrun_api.settings import KeyReference
from crewrun_operator import bounded, kueue
from crewrun_operator.definition import Problem, TaskOutline, outline, problems
from crewrun_operator.inputs import all_inputs
from crewrun_operator.observed import Observed, Payload
from crewrun_operator.refused import Refused
from crewrun_operator.resolve import choose_profile
from crewrun_operator.sources import Source, inputs_of, source_of

#: Deeper documents break the libraries that read them. Schemas and definitions that people write have ten.
_MOST_LEVELS = 64
_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
#: Not a part of what runs: with more time to live or a larger budget it is the same crew, whose checkpoint counts.
_NOT_RUN = {"budget", "ttl_seconds_after_finished"}
#: Stand there only where they say something, so that a run that has begun keeps its digest over an upgrade.
_SAID_ONLY = {"allow_python", "secret_inputs"}
_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that may start, and all it needs."""

    payload: Payload
    resolved: ResolvedRun
    crew: CrewStatus
    profile: str | None
    tasks: list[TaskOutline]  # empty when they are known to the image alone


def accept(observed: Observed, *, judged: bool = True) -> Accepted:
    """The run's payload; raises Refused with the first kind of problem that there is. The bounds of the policy count
    for a run that is `judged`: one that was accepted goes on under a stricter policy."""
    run = observed.run
    _shallow(run["spec"], "spec")
    spec = _parsed(RunSpec, run["spec"], "spec")
    crew_spec, path = _crew_spec(observed, spec)
    _shallow(crew_spec, path)
    crew = _parsed(CrewSpec, crew_spec, path)
    profile = _profile(observed, spec, crew, path)
    if spec.queue is not None and spec.queue not in observed.queues:
        message = f"there is no CrewQueue {spec.queue!r} in this namespace; the run starts when it appears"
        raise Refused(AcceptedReason.QUEUE_NOT_FOUND, Problem("spec.queue", message))
    if judged and spec.queue is not None and kueue.named(run) is not None:
        where = f"metadata.labels[{names.LABEL_KUEUE_QUEUE}]"
        message = f"a run is admitted by Kueue or by CrewQueue {spec.queue!r} (spec.queue), not by both; drop one"
        raise Refused(AcceptedReason.INVALID_SPEC, Problem(where, message))
    policy = observed.policy if judged else UNBOUNDED
    _allowed(bounded.in_specs(policy, ("spec", run["spec"]), (path, crew_spec) if spec.crew_ref else None))
    source = source_of(crew, path, observed.config_maps)
    allow_python = bool(profile and profile["spec"].get("allowPython")) and not bounded.profile_only(observed.policy)
    _check(source, policy, allow_python)
    more = inputs_of(spec, observed.config_maps)
    inputs = all_inputs(crew.input_schema, source, spec.inputs, more, path)
    profile_path = f"CrewProfile/{profile['metadata']['name']}: spec" if profile else ""
    layers_by_path = ((profile_path, profile["spec"] if profile else {}), (path, crew_spec), ("spec", run["spec"]))
    for its_path, layer in layers_by_path:
        if found := [*_quantities(layer, its_path), *bounded.over_own_folders(layer, its_path)]:
            raise Refused(AcceptedReason.INVALID_SPEC, *found)
    _allowed(bounded.in_pod(policy, _pods(observed, layers_by_path, crew)))
    _allowed(bounded.led_elsewhere(policy, layers_by_path[0], layers_by_path[1:], source))
    run_name = run["metadata"]["name"]
    variables = {name: f"{names.ENV_SECRET_INPUT}{number}" for number, name in enumerate(sorted(more.secrets))}
    layers = (
        observed.defaults,
        profile["spec"] if profile else {},
        {"pod": {"image": crew.entrypoint.image}} if crew.entrypoint else {},
        crew_spec,
        run["spec"],
        {"secrets": [_secret(variables[name], reference) for name, reference in more.secrets.items()]},
    )
    document = {
        **merge(*layers),
        "crew": spec.crew_ref.name if spec.crew_ref else run_name,
        "profile": profile["metadata"]["name"] if profile else None,
        "definition": source.definition,
        "entrypoint": crew.entrypoint.target if crew.entrypoint else None,
        "allow_python": allow_python,
        "secret_inputs": variables,
        "input_schema": crew.input_schema if variables else None,
    }
    resolved = _parsed(ResolvedRun, document, "spec")
    payload = Payload(spec=_canonical(resolved), inputs=_json(inputs), settings=_settings(resolved))
    if payload.size > names.PAYLOAD_LIMIT_BYTES:
        written = "configMap" if crew.config_map else "definition" if crew.definition else "inputSchema"
        where = f"{path}.{written}" if len(payload.spec) > len(payload.inputs) else "spec.inputs"
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
        tasks=outline(source.definition) if source.definition else [],
    )


def _allowed(problems: Iterable[Problem]) -> None:
    """Raises Refused when the policy has something against the run."""
    if found := list(problems):
        raise Refused(AcceptedReason.FORBIDDEN, *found)


def _pods(observed: Observed, layers: Iterable[bounded.Layer], crew: CrewSpec) -> list[bounded.Layer]:
    """What each layer says of the Pod, weakest first. The image of an entrypoint is weaker than its Crew's own."""
    (profile_path, profile), (path, crew_spec), (run_path, run_spec) = layers
    image = {"image": crew.entrypoint.image} if crew.entrypoint else {}
    return [
        ("operator", observed.defaults.get("pod") or {}),
        (f"{profile_path}.pod", profile.get("pod") or {}),
        (f"{path}.entrypoint", image),
        (f"{path}.pod", crew_spec.get("pod") or {}),
        (f"{run_path}.pod", run_spec.get("pod") or {}),
    ]


def _check(source: Source, policy: Policy, allow_python: bool) -> None:
    """The crew itself: would its definition load, and may it carry what it carries?"""
    if source.definition is None:
        return
    _allowed(
        Problem(source.place(problem.path), problem.message)
        for problem in bounded.in_definition(policy, source.definition)
    )
    found = [Problem(source.place(problem.path), problem.message) for problem in problems(source.definition, "")]
    if not found and not allow_python:
        found = [Problem(source.place(where), what) for where, what in carried_python.found(source.definition, "")]
    if found:
        raise Refused(AcceptedReason.INVALID_CREW, *found)


def _secret(variable: str, reference: KeyReference) -> dict[str, Any]:
    return {"name": variable, "secretKeyRef": reference.model_dump(by_alias=True)}


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
    size = (layer.get("memory") or {}).get("size")
    if size is not None and not _is_size(size):
        yield Problem(f"{path}.memory.size", f"{size!r} is not a size such as 1Gi")


def _is_size(value: object) -> bool:
    try:
        return isinstance(value, str) and in_bytes(value) > 0
    except InvalidOperation:
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
    silent = {name for name in _SAID_ONLY if not getattr(resolved, name)}
    return _json(resolved.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_RUN | silent))


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
