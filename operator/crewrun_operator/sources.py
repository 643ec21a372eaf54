"""What a run is made of: its crew's definition, wherever that is written, and its inputs. Purely computational.

ConfigMaps are read by `apply` when the sources are confirmed, since no watch tells of them; this module says which
ones a run needs, and makes of their texts what everything else reads. Secrets are only named, never read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crewrun_api import names
from crewrun_api.kinds import CrewSpec
from crewrun_api.reasons import AcceptedReason
from crewrun_api.run import RunSpec
from crewrun_api.settings import KeyReference
from crewrun_operator import classic
from crewrun_operator.classic import Malformed
from crewrun_operator.definition import Problem
from crewrun_operator.refused import Refused
from crewrun_operator.views import ConfigMapView, Manifest

#: How often a run that waits for a ConfigMap looks again, seconds.
LOOK_AGAIN_SECONDS = 15
#: What has been read, by name; None: there is no such ConfigMap.
ConfigMaps = Mapping[str, ConfigMapView | None]


@dataclass(frozen=True, slots=True)
class Source:
    """A crew's definition, and where a path in it is written; None for an entrypoint."""

    definition: Mapping[str, Any] | None
    place: Callable[[str], str]


@dataclass(slots=True)
class Inputs:
    """What `inputsFrom` gives: values with the places that they come from, and references to Secrets, which are
    stronger than a value of the same name."""

    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, KeyReference] = field(default_factory=dict)


def config_maps_of(run_spec: Mapping[str, Any], crew_spec: Mapping[str, Any] | None) -> frozenset[str]:
    """The names of the ConfigMaps that a run is made of. The specs may be of any shape."""
    listed = run_spec.get("inputsFrom")
    entries = [each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, Mapping)]
    references = [*(each.get("configMapRef") for each in entries), (crew_spec or {}).get("configMap")]
    named = [each.get("name") for each in references if isinstance(each, Mapping)]
    return frozenset(name for name in named if isinstance(name, str) and name)


def crew_spec_of(run: Manifest, crew: Manifest | None) -> Mapping[str, Any] | None:
    """The spec of a run's crew: its own, or that of the Crew it names."""
    own = run["spec"].get("crew")
    return own if isinstance(own, Mapping) else (crew or {}).get("spec")


def source_of(crew: CrewSpec, path: str, config_maps: ConfigMaps) -> Source:
    """The crew's definition; raises Refused when its ConfigMap or a file in it is not there, or cannot be read."""
    if crew.config_map is None:
        return Source(crew.definition, lambda inner: f"{path}.definition{inner}")
    name, where = crew.config_map.name, f"{path}.configMap.name"
    files = _found(name, where, config_maps).data
    if missing := [file for file in classic.REQUIRED if file not in files]:
        message = f"ConfigMap {name!r} has no key {missing[0]}; {_looks_again('it has')}"
        raise Refused(AcceptedReason.CONFIG_MAP_NOT_FOUND, Problem(where, message))
    try:
        crew_file = files.get(classic.CREW, "")
        found = classic.convert(files[classic.AGENTS], files[classic.TASKS], crew_file)
    except Malformed as error:
        raise Refused(AcceptedReason.INVALID_CREW, Problem(f"ConfigMap/{name}", str(error))) from None
    return Source(found.definition, lambda inner: f"ConfigMap/{name}: {found.place(inner)}")


def inputs_of(spec: RunSpec, config_maps: ConfigMaps) -> Inputs:
    """What `inputsFrom` gives; a later entry is stronger than an earlier one, and `inputs` than all of them."""
    inputs = Inputs()
    for index, source in enumerate(spec.inputs_from):
        if source.config_map_ref is not None:
            name = source.config_map_ref.name
            data = _found(name, f"spec.inputsFrom[{index}].configMapRef.name", config_maps).data
            inputs.values.update(data)
            inputs.places.update({key: f"ConfigMap/{name}: {key}" for key in data})
            _drop(inputs.secrets, data)
        elif source.secret_key_ref is not None and source.input is not None:
            inputs.secrets[source.input] = source.secret_key_ref
    for given in (inputs.values, inputs.places, inputs.secrets):
        _drop(given, spec.inputs)
    return inputs


def _found(name: str, where: str, config_maps: ConfigMaps) -> ConfigMapView:
    view = config_maps.get(name)
    if view is None:
        message = f"there is no ConfigMap {name!r} in this namespace that the operator may read"
        problem = Problem(where, f"{message}; {_looks_again('it appears')}")
        raise Refused(AcceptedReason.CONFIG_MAP_NOT_FOUND, problem)
    if view.size > names.PAYLOAD_LIMIT_BYTES:
        message = f"ConfigMap {name!r} holds {view.size} bytes, more than {names.PAYLOAD_LIMIT_BYTES}"
        raise Refused(AcceptedReason.TOO_LARGE, Problem(where, message))
    return view


def _looks_again(when: str) -> str:
    return f"the run starts when {when}, and looks again every {LOOK_AGAIN_SECONDS} s"


def _drop(given: dict[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        given.pop(key, None)
