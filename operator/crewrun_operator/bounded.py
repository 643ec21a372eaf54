"""The policy, when a run is accepted and when its webhook is told. Purely computational: documents as they are written
and a policy in, problems out. The API server says the same of each object that is applied; here the layers are one
Pod, and what ConfigMaps hold is known."""

from collections.abc import Iterator, Mapping, Sequence
from posixpath import normpath
from typing import Any

from crewrun_api import names
from crewrun_api.allowed import DEFINITION, HOOK, PROFILE_ONLY
from crewrun_api.bounds import POD, SERVICE_ACCOUNT
from crewrun_api.policy import Policy, SecretSources
from crewrun_api.shapes import Shape, refused
from crewrun_operator.definition import Problem
from crewrun_operator.sources import Source

Layer = tuple[str, Mapping[str, Any]]
_DEFAULT_ACCOUNT = "default"
_DEFAULT_PROVIDER = "openai"
#: What the runner believes, and what it is made of. /var/run is a link in most images.
_OWN_FOLDERS = (names.SPEC_DIR, "/opt/crewrun", "/var/run/crewrun", "/run/crewrun", names.TERMINATION_LOG)


def profile_only(policy: Policy) -> bool:
    """Whether crews and runs must not get at keys."""
    return policy.secret_sources is SecretSources.PROFILE_ONLY


def in_specs(policy: Policy, run: Layer, crew: Layer | None) -> Iterator[Problem]:
    """What a run, and the Crew that it names, may not say."""
    if profile_only(policy):
        yield from _problems(PROFILE_ONLY["CrewRun"], run[1], run[0], policy)
        if crew is not None:
            yield from _problems(PROFILE_ONLY["Crew"], crew[1], crew[0], policy)


def in_definition(policy: Policy, definition: Mapping[str, Any] | None) -> list[Problem]:
    """What a definition may not say, wherever it is written; paths begin at its root."""
    if definition is None or not profile_only(policy):
        return []
    return list(_problems(DEFINITION, definition, "", policy))


def in_hook(policy: Policy, hook: Any, path: str) -> list[Problem]:
    """What a webhook may not say."""
    return list(_problems(HOOK, hook, path, policy)) if profile_only(policy) else []


def in_pod(policy: Policy, pods: Sequence[Layer]) -> Iterator[Problem]:
    """What the Pod may not have that these layers make, weakest first; told by the layer that says it."""
    for field, shape in POD.items():
        said = [(path, pod[field]) for path, pod in pods if pod.get(field) is not None]
        if said:
            path, value = said[-1]
            yield from _problems(shape, value, f"{path}.{field}", policy)
        elif field == "serviceAccountName" and not SERVICE_ACCOUNT.allows(_DEFAULT_ACCOUNT, policy):
            message = "must be given: without it the Pod has `default`, which is not allowed here; "
            allowed = ", ".join(policy.service_accounts)
            yield Problem(f"{pods[-1][0]}.{field}", f"{message}policy.serviceAccounts allows: {allowed}")


def over_own_folders(layer: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Mounts that would hide what the runner is, believes and says. No policy allows them."""
    mounts = [(f"{path}.pod.volumeMounts[{i}]", m) for i, m in _listed((layer.get("pod") or {}).get("volumeMounts"))]
    mounts += [(f"{path}.secrets[{i}]", secret) for i, secret in _listed(layer.get("secrets"))]
    for where, mount in mounts:
        given = mount.get("mountPath")
        if isinstance(given, str) and (own := next((own for own in _OWN_FOLDERS if _meet(given, own)), None)):
            yield Problem(f"{where}.mountPath", f"{given!r} would hide the runner's own {own}; choose another folder")


def led_elsewhere(policy: Policy, profile: Layer, others: Sequence[Layer], source: Source) -> Iterator[Problem]:
    """An address that a profile gives is for the provider of its model: another provider's key must not go there."""
    llm = profile[1].get("llm") or {}
    if not profile_only(policy) or not llm.get("baseURL"):
        return
    wanted = _provider(llm.get("model"))
    said = [
        (f"{path}.llm.model", layer["llm"]["model"]) for path, layer in others if (layer.get("llm") or {}).get("model")
    ]
    if said:
        path, model = said[-1]
        if _provider(model) != wanted:
            yield Problem(path, _elsewhere(model, wanted, profile[0]))
    elif llm.get("model") is None:  # then the address is added to any model of the definition
        for path, model in _models(source.definition, ""):
            if _provider(model) != wanted:
                yield Problem(source.place(path), _elsewhere(model, wanted, profile[0]))


def _elsewhere(model: str, wanted: str, profile: str) -> str:
    return (
        f"{model!r} is not of the provider {wanted!r}, which {profile}.llm.baseURL is for; its key would go there "
        "(policy.secretSources is ProfileOnly). Name a model of that provider, or another profile"
    )


def _models(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every model that a definition names, with its path."""
    for key, inner in node.items() if isinstance(node, Mapping) else ():
        where = f"{path}.{key}"
        if key in ("llm", "function_calling_llm", "manager_llm"):
            model = inner.get("model") if isinstance(inner, Mapping) else inner
            if isinstance(model, str):
                yield where, model
        elif key != "inputs":
            yield from _models(inner, where)
    for index, inner in enumerate(node if isinstance(node, list) else ()):
        yield from _models(inner, f"{path}[{index}]")


def _provider(model: str | None) -> str:
    prefix, slash, _ = (model or "").partition("/")
    return prefix.lower() if slash else _DEFAULT_PROVIDER


def _meet(mount: str, own: str) -> bool:
    """Whether one lies over the other."""
    path = normpath(f"/{mount.lstrip('/')}")
    return path in ("/", own) or own.startswith(f"{path}/") or path.startswith(f"{own}/")


def _listed(items: Any) -> list[tuple[int, Mapping[str, Any]]]:
    listed = items if isinstance(items, list) else []
    return [(index, item) for index, item in enumerate(listed) if isinstance(item, Mapping)]


def _problems(shape: Shape, value: Any, path: str, policy: Policy) -> Iterator[Problem]:
    return (Problem(where, why) for where, why in refused(shape, value, path, policy))
